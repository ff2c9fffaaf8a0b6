"""A LightGlue for other features as a start: the projection of descriptors is found again."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from covis.errors import BundleError, TrainingError  # noqa: E402
from covis.features import Extractor  # noqa: E402
from covis.nets.lightglue import LightGlue  # noqa: E402
from covis.training.other_descriptors import PROJECTION, translated  # noqa: E402
from covis.training.recipes import lightglue  # noqa: E402
from covis.training.start import read_start  # noqa: E402

OF = "lightglue-edgepoint-covis"


@pytest.fixture(scope="module")
def photos(texture):
    return [
        cv2.cvtColor(np.roll(texture, 60 * i, axis=1)[:256, :256], cv2.COLOR_GRAY2RGB)
        if texture.ndim == 2
        else np.ascontiguousarray(np.roll(texture, 60 * i, axis=1)[:256, :256])
        for i in range(4)
    ]


def small(state=None, **sizes):
    net = LightGlue(64, dim=16, layers=1, heads=1, **sizes)
    return net, net.state_dict() if state is None else state


def test_of_the_same_features_the_projection_stays(photos):
    net, state = small()
    found = translated(state, net, "xfeat-covis", "xfeat-covis", photos)
    for key in PROJECTION:
        torch.testing.assert_close(found[key], state[key], atol=1e-4, rtol=1e-3)
    assert all(found[key] is state[key] for key in state.keys() - set(PROJECTION))


def test_of_others_it_shows_what_they_describe(photos):
    """On a photo that it was not found on: states are nearest to those of their own places."""
    net, state = small()
    found = translated(state, net, "xfeat-covis", "edgepoint-covis", photos[:3])
    own, theirs = (
        Extractor(name, max_keypoints=600, threads=1)(photos[3])
        for name in ("xfeat-covis", "edgepoint-covis")
    )
    apart = np.linalg.norm(own.keypoints[:, None] - theirs.keypoints, axis=2)
    rows, columns = np.nonzero(apart < 1)
    assert len(rows) > 40

    def found_again(weight, bias):
        seen = own.descriptors[rows] @ weight.numpy().T + bias.numpy()
        meant = theirs.descriptors[columns] @ state[PROJECTION[0]].numpy().T
        meant = meant + state[PROJECTION[1]].numpy()
        likeness = np.corrcoef(seen, meant)[: len(rows), len(rows) :]
        return (likeness.argmax(axis=1) == np.arange(len(rows))).mean()

    assert found_again(*(found[key] for key in PROJECTION)) > 0.25
    assert found_again(*(state[key] for key in PROJECTION)) < 0.1


def test_a_run_begins_with_the_model_but_for_its_projection(photos, tmp_path):
    recipe = lightglue.Recipe(
        steps=1, dim=128, heads=4, held_out=1, stages=lightglue.FROM_OTHER, validation_pairs=2
    )
    run = lightglue.Run(photos, recipe, "xfeat", None, torch.device("cpu"), start=OF)
    lines = []
    run.prepare(tmp_path, lines.append)
    assert lines == ["finding what edgepoint-covis sees in the descriptors of xfeat-covis"]
    model, begun = read_start(OF, "lightglue"), run.net.state_dict()
    same = [key for key in model if torch.equal(model[key], begun[key])]
    assert set(model) - set(same) == set(PROJECTION)
    assert torch.equal(begun[PROJECTION[0]], run.average.state_dict()[PROJECTION[0]])


def test_which_models_are_for_other_features():
    assert lightglue.other_features(OF, "edgepoint-covis") is None
    assert lightglue.other_features("lightglue", "xfeat") is None
    assert lightglue.other_features(OF, "sift").name == OF
    with pytest.raises(BundleError, match="no model named 'nothing'"):
        lightglue.other_features("nothing", "xfeat")


def test_exception_a_matcher_that_projects_nothing(photos):
    net = LightGlue(64, dim=64, layers=1, heads=1)
    with pytest.raises(TrainingError, match="64 numbers and a matcher of that width"):
        translated(net.state_dict(), net, "xfeat", "edgepoint-covis", photos)


def test_exception_features_that_meet_nowhere(photos):
    net, state = small()
    blank = [np.full_like(photos[0], 90)]
    with pytest.raises(TrainingError, match=r"in common at \d+ places; 640 are needed"):
        translated(state, net, "xfeat-covis", "edgepoint-covis", blank)


def test_exception_a_start_of_other_sizes(photos, tmp_path):
    recipe = replace(lightglue.Recipe(steps=1, held_out=1, validation_pairs=2), dim=96, heads=1)
    run = lightglue.Run(photos, recipe, "xfeat", None, torch.device("cpu"), start=OF)
    with pytest.raises(BundleError, match=f"{OF}: not the weights of LightGlue; "):
        run.prepare(tmp_path, print)
