"""Tensors, and what LightGlue and kornia make of them."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from covis.convert import kornia
from covis.convert import torch as convert
from covis.errors import ArgumentError, CovisError

torch = pytest.importorskip("torch", reason="tensors need PyTorch: covis[train]")


@pytest.mark.parametrize("shapes", [True, False])
def test_features_come_back(made, alike, shapes: bool) -> None:
    truth = made(shapes=shapes)
    found = convert.features(convert.tensors(truth), "made-up")
    alike(found, truth)
    np.testing.assert_array_equal(found.scores, truth.scores)
    assert found.model == "made-up"


def test_tensors_are_as_lightglue_takes_them(made) -> None:
    truth = made()
    tensors = convert.tensors(truth)
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {
        "keypoints": (1, 6, 2), "keypoint_scores": (1, 6), "descriptors": (1, 6, 128),
        "image_size": (1, 2), "scales": (1, 6), "oris": (1, 6),
    }  # fmt: skip
    assert {each.dtype for each in tensors.values()} == {torch.float32}
    assert tensors["keypoints"][0, 0].tolist() == [0, 0]
    tensors["descriptors"].zero_()
    assert truth.descriptors.any()


def test_features_of_one_image_without_the_first_dimension(made, alike) -> None:
    truth = made()
    tensors = {name: each[0] for name, each in convert.tensors(truth).items()}
    del tensors["image_size"], tensors["keypoint_scores"]
    alike(convert.features(tensors, "made-up", size=(640, 480)), truth)
    with pytest.raises(ArgumentError, match="image_size is missing"):
        convert.features(tensors, "made-up")


def test_features_that_need_a_gradient_in_half_precision(made, alike) -> None:
    truth = made(shapes=False)
    tensors = convert.tensors(truth)
    tensors["descriptors"] = tensors["descriptors"].half().requires_grad_()
    alike(convert.features(tensors, "made-up"), truth, tolerance=1e-3)


def test_exception_for_several_images(made) -> None:
    tensors = {name: each.repeat(2, *[1] * (each.ndim - 1))
               for name, each in convert.tensors(made()).items()}  # fmt: skip
    with pytest.raises(ArgumentError, match="not that of one image"):
        convert.features(tensors, "made-up")
    with pytest.raises(ArgumentError, match="keypoints is missing"):
        convert.features({"descriptors": tensors["descriptors"]}, "made-up")


def test_matches_of_lightglue(two, matched, same) -> None:
    found = {
        "matches0": torch.tensor([[4, -1, 0, -1, -1, 1]]),
        "matching_scores0": torch.tensor([[0.5, 0, 0.9, 0, 0, 0.25]]),
    }
    same(convert.matches(found, *two), matched)
    with pytest.raises(ArgumentError, match="matching_scores0 is missing"):
        convert.matches({"matches0": found["matches0"]}, *two)
    with pytest.raises(ArgumentError, match="were these features matched"):
        convert.matches(found, two[0], two[1].take(slice(3)))


def test_frames_come_back(made, alike) -> None:
    truth = made()
    frames = kornia.lafs(truth)
    assert tuple(frames.shape) == (1, 6, 2, 3)
    assert frames.dtype == torch.float32
    responses, descriptors = (
        torch.tensor(each)[None] for each in (truth.scores, truth.descriptors)
    )
    found = kornia.features(frames, responses, descriptors, (640, 480), "made-up")
    alike(found, truth)
    np.testing.assert_array_equal(found.scores, truth.scores)


def test_frames_are_as_kornia_has_them(made) -> None:
    """Of a feature of size 2 that points right and down by 30 degrees."""
    truth = replace(
        made(1), scales=np.array([2], np.float32), orientations=np.array([math.pi / 6], np.float32)
    )
    frame = kornia.lafs(truth)[0, 0]
    assert frame[:, 2].tolist() == [0, 0]
    assert math.sqrt(torch.det(frame[:, :2])) == pytest.approx(12)  # 6 times, as in kornia.
    # `kornia.feature.get_laf_orientation`, which counts counter-clockwise.
    assert math.degrees(math.atan2(frame[0, 1], frame[0, 0])) == pytest.approx(-30)


def test_frames_without_shapes_are_upright(made) -> None:
    frames = kornia.lafs(made(shapes=False), patch=1)
    np.testing.assert_array_equal(frames[0, :, :, :2], np.tile(np.eye(2), (6, 1, 1)))


def test_exception_for_what_are_no_frames(made) -> None:
    truth = convert.tensors(made())
    with pytest.raises(ArgumentError, match="LAFs have the shape"):
        kornia.features(torch.zeros(1, 6, 3, 3), truth["scales"], truth["descriptors"], (9, 9))


def test_exception_without_pytorch(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CovisError, match=r"need PyTorch: .*\[train\]"):
        convert.tensors(made())
