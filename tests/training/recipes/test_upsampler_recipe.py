"""The upsampler's training: its pairs of views, and that a kill costs nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.training import stopped_after, write_parts

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.nets.dense import XFeatMap  # noqa: E402
from covis.nets.lift import enlarge  # noqa: E402
from covis.nets.upsampler import load_upsampler  # noqa: E402
from covis.training.recipes import upsampler  # noqa: E402

RECIPE = upsampler.Recipe(
    steps=4, batch=1, cells=(8,), held_out=1, warmup=0, checkpoint_every=2, validate_every=4
)


@pytest.fixture(scope="module")
def photos(texture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_parts(folder, texture)
    return folder


@pytest.fixture(scope="module")
def backbone(random_net):
    return XFeatMap(random_net, "random")


def test_views_and_their_homography(texture):
    """What a place of the first view shows lies where the homography says in the second."""
    differences = []
    for seed in range(6):
        first, second, warp = upsampler.changed_views(texture, 96, np.random.default_rng(seed))
        here, there = upsampler.places(warp, 96, 60, seed)
        assert 0 < len(here) <= 60
        assert ((there > 0) & (there < 96)).all()
        brought = cv2.warpPerspective(second, np.linalg.inv(warp), (96, 96))
        inside = cv2.warpPerspective(np.ones_like(second), np.linalg.inv(warp), (96, 96)) > 0
        greys = [view.mean(axis=2)[inside[..., 0]] for view in (first, brought)]
        differences.append(np.corrcoef(*greys)[0, 1])
    assert min(differences) > 0.7


def test_loss_is_least_where_places_are_found(photos, backbone):
    run = upsampler.Run(photos, RECIPE, backbone, torch.device("cpu"))
    (pair,) = next(run.batches())
    size = pair.views[0].shape[-1]
    same = upsampler.Pair(pair.views[:1] * 2, pair.features[:1] * 2, np.eye(3))
    mirror = np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1.0]])
    turned = upsampler.Pair(same.views, same.features, mirror)
    large = enlarge(same.features[0])
    assert float(run.loss(same, (large, large), 0)) < float(run.loss(turned, (large, large), 0)) - 1


def test_a_killed_run_ends_the_same(photos, backbone, tmp_path):
    whole = upsampler.train(photos, tmp_path / "whole", backbone=backbone, recipe=RECIPE)
    with stopped_after(upsampler.Run, 3):
        upsampler.train(photos, tmp_path / "parts", backbone=backbone, recipe=RECIPE)
    again = upsampler.train(
        photos, tmp_path / "parts", backbone=backbone, recipe=RECIPE, resume=True
    )
    for one, two in zip(
        load_upsampler(whole).parameters(), load_upsampler(again).parameters(), strict=True
    ):
        assert torch.equal(one, two)
