"""The weights in the package do what the README says of them."""

import numpy as np
import pytest

import covis
from covis.demo import render_demo
from covis.runtime import find_bundle, onnx
from covis.runtime.bundle import SHIPPED
from covis.runtime.devices import fast_int8


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


STRONG, FAST = "edgepoint-covis", "edgepoint-covis-fast"


@pytest.mark.parametrize(("name", "least"), [(STRONG, 80), (FAST, 20)])
def test_edgepoint_says_its_terms_and_matches_the_demo_pair_turned(pair, name, least):
    bundle = find_bundle(name)
    assert bundle.licence == "Apache-2.0"
    assert bundle.training["command"].startswith("covis train edgepoint")
    assert set(bundle.metrics) == {"homography", "pose"}
    extract, match = covis.Extractor(name), covis.Matcher("nearest")
    turned = np.ascontiguousarray(np.rot90(pair.image0))
    found = match(extract(pair.image0), extract(turned))
    width = pair.image0.shape[1]
    there = np.column_stack([found.points0[:, 1], width - found.points0[:, 0]])
    right = np.linalg.norm(there - found.points1, axis=1) < 3
    assert right.sum() > least


@pytest.mark.parametrize(("name", "least"), [(STRONG, 800), (FAST, 650)])
def test_edgepoint_matches_the_demo_pair(pair, name, least):
    found = covis.match(pair.image0, pair.image1, features=name, matcher="nearest")
    truth, visible = pair.to_view1(found.points0)
    right = visible & (np.linalg.norm(truth - found.points1, axis=1) < 3)
    assert right.sum() >= least
    assert found.model == name


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


@pytest.mark.skipif(not fast_int8(), reason="nobody takes them here")
def test_8_bit_integers_keep_the_matches(pair, monkeypatch):
    """Also where only one picture's features were found so, as in a store of another machine."""

    def right(found):
        truth, visible = pair.to_view1(found.points0)
        return (visible & (np.linalg.norm(truth - found.points1, axis=1) < 3)).sum()

    features, match = [], covis.Matcher("nearest")
    for fast in (False, True):
        monkeypatch.setattr(onnx, "fast_int8", lambda fast=fast: fast)
        extract = covis.Extractor()
        features.append(extract.batch([pair.image0, pair.image1]))
    assert not np.array_equal(features[0][0].descriptors, features[1][0].descriptors)
    assert extract.weights == "4aefb2336b3421ce"
    in_float = right(match(*features[0]))
    assert right(match(*features[1])) >= 0.97 * in_float
    assert right(match(features[0][0], features[1][1])) >= 0.97 * in_float


def test_semi_dense_points_are_refined_without_bias(pair):
    """An image matched with itself: refinement must leave the points where they are."""
    found = covis.match(pair.image0, pair.image0, matcher="semi-dense", geometry="none")
    moved = found.points1 - found.points0
    assert np.abs(np.median(moved, axis=0)).max() < 0.5


def test_stores_made_with_an_earlier_export_of_xfeat_stay_good():
    """Their identity holds its digest; the weights and what they find are the same."""
    assert find_bundle("xfeat-covis").digest() == "4aefb2336b3421ce"
