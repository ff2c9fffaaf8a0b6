"""The weights in the package do what the README says of them."""

import numpy as np
import pytest

import covis
from covis.demo import render_demo
from covis.runtime import find_bundle
from covis.runtime.bundle import SHIPPED


@pytest.fixture(scope="module")
def pair():
    return render_demo()


def test_shipped_bundles_are_small_and_say_their_terms():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    bundle = find_bundle("xfeat-covis")
    assert bundle.licence == "Apache-2.0"
    assert bundle.training["command"].startswith("covis train xfeat")
    assert set(bundle.metrics) == {"homography", "pose"}


@pytest.mark.parametrize(("matcher", "least"), [("nearest", 800), ("semi-dense", 400)])
def test_demo_pair_is_matched(pair, matcher, least):
    found = covis.match(pair.image0, pair.image1, matcher=matcher)
    truth, visible = pair.to_view1(found.points0)
    error = np.linalg.norm(truth - found.points1, axis=1)
    right = visible & (error < 3)
    assert right.sum() >= least
    assert right[found.inliers].mean() > 0.6
    assert found.model == "xfeat-covis"
    assert found.licence == "Apache-2.0"


def test_semi_dense_points_are_refined_without_bias(pair):
    """An image matched with itself: refinement must leave the points where they are."""
    found = covis.match(pair.image0, pair.image0, matcher="semi-dense", geometry="none")
    moved = found.points1 - found.points0
    assert np.abs(np.median(moved, axis=0)).max() < 0.5
