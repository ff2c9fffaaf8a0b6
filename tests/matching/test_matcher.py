"""The public matcher: what it returns, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from covis import Extractor, Features, Matcher
from covis.errors import ArgumentError, BundleError
from covis.matching.registry import MATCHERS
from covis.runtime import Bundle


def features(count, seed=0, model="m", dimension=16, semi_dense=False):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(
        keypoints=(rng.random((count, 2)) * 100).astype(np.float32),
        scores=np.ones(count, np.float32),
        descriptors=vectors,
        width=100,
        height=100,
        model=model,
        pixel_sizes=np.ones((count, 2), np.float32) if semi_dense else None,
    )


def assert_sound(matches, features0, features1):
    assert matches.points0.shape == matches.points1.shape == (len(matches), 2)
    assert matches.points0.dtype == matches.points1.dtype == matches.scores.dtype == np.float32
    assert matches.scores.shape == (len(matches),)
    assert ((matches.scores >= 0) & (matches.scores <= 1)).all()
    assert (np.diff(matches.scores) <= 0).all()
    assert matches.model == features0.model
    assert matches.inliers.shape == (len(matches),)
    if matches.indices is not None:
        np.testing.assert_array_equal(matches.points0, features0.keypoints[matches.indices[:, 0]])
        np.testing.assert_array_equal(matches.points1, features1.keypoints[matches.indices[:, 1]])


@pytest.mark.parametrize("counts", [(300, 200), (1, 1), (0, 5), (5, 0), (0, 0), (1, 50)])
def test_nearest(counts):
    one, two = features(counts[0], 0), features(counts[1], 1)
    matches = Matcher()(one, two)
    assert_sound(matches, one, two)
    assert (len(matches) == 0) == (min(counts) == 0)
    assert matches.indices.shape == (len(matches), 2)
    assert matches.geometry is None
    assert "match" in matches.seconds


def test_itself():
    one = features(100)
    matches = Matcher()(one, one)
    assert len(matches) == 100
    np.testing.assert_array_equal(matches.points0, matches.points1)
    np.testing.assert_allclose(matches.scores, 1, atol=1e-5)


def test_options_reach_the_matching():
    one, two = features(300, 0, dimension=4), features(300, 1, dimension=4)
    every = Matcher()(one, two)
    likely = Matcher(min_similarity=0.95)(one, two)
    assert 0 < len(likely) < len(every)
    assert likely.scores.min() >= 0.95
    assert 0 < len(Matcher(max_ratio=0.8)(one, two)) < len(every)


def test_exception_unknown_matcher():
    with pytest.raises(ArgumentError, match=r"no matcher 'magic'; there are: ") as caught:
        Matcher("magic")
    assert all(f" {name}," in str(caught.value) for name in (*MATCHERS, "auto"))
    with pytest.raises(ArgumentError, match="'xfeat-covis' is a bundle for xfeat, no matcher"):
        Matcher("xfeat-covis")


def test_exception_no_weights_for_the_features(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    with pytest.raises(BundleError, match="no LightGlue weights are installed for 'm'"):
        Matcher("lightglue")(features(3), features(3))
    assert Matcher("auto").bundle("m") is None
    assert Matcher("auto")(features(3), features(3)).model == "m"


def test_exception_the_refinement_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    dense = features(3, semi_dense=True, model="gone", dimension=64)
    with pytest.raises(BundleError, match="no model named 'gone'"):
        Matcher("semi-dense")(dense, dense)


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def test_semi_dense(random_bundle, home, monkeypatch):
    monkeypatch.setattr("covis.matching.semi_dense.MIN_CONFIDENCE", 0.0)
    extract = Extractor("random", semi_dense=True, max_keypoints=200)
    one, two = extract(noise((96, 128))), extract(noise((100, 90), 1))
    matches = Matcher("semi-dense")(one, two)
    assert len(matches) > 0
    assert_sound(matches, one, two)
    assert matches.indices is None
    # One image's points are refined, and the other's are as they were.
    stayed = [
        {*map(tuple, points.tolist())} <= {*map(tuple, features.keypoints.tolist())}
        for points, features in ((matches.points0, one), (matches.points1, two))
    ]
    assert sorted(stayed) == [False, True]


def test_semi_dense_finds_the_same_either_way(known_pair):
    extract = Extractor("xfeat", semi_dense=True, max_keypoints=600, max_size=480)
    first, second = (extract(picture) for picture in known_pair[:2])
    match = Matcher("semi-dense")
    there, back = match(first, second), match(second, first)
    assert len(there) > 100
    found = [
        {(*p.tolist(), *q.tolist(), float(score)) for p, q, score in zip(*parts, strict=True)}
        for parts in (
            (there.points0, there.points1, there.scores),
            (back.points1, back.points0, back.scores),
        )
    ]
    assert found[0] == found[1]


def test_semi_dense_from_a_folder(random_bundle, tmp_path, monkeypatch):
    """A bundle that is not among the installed ones serves extraction and refinement."""
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    folder = str(random_bundle.folder)
    one = Extractor(folder, semi_dense=True, max_keypoints=50)(noise((64, 64)))
    matches = Matcher("semi-dense", features=folder)(one, one)
    assert_sound(matches, one, one)


def test_semi_dense_without_features(random_bundle, home):
    extract = Extractor("random", semi_dense=True)
    nothing = extract(noise((64, 64)), mask=np.ones((64, 64), bool))
    something = extract(noise((64, 64)))
    for pair in ((nothing, nothing), (nothing, something), (something, nothing)):
        matches = Matcher("semi-dense")(*pair)
        assert len(matches) == 0
        assert_sound(matches, *pair)


def test_refinement_is_bounded_by_the_cell(random_bundle: Bundle):
    """Offsets are a weighted mean of -4..3 pixels of the network's input."""
    from covis.matching.semi_dense import Refiner

    dense = Extractor(str(random_bundle.folder), semi_dense=True)(noise((96, 128)))
    itself = np.column_stack([np.arange(len(dense))] * 2)
    moved, confidence, kept = Refiner(random_bundle)(dense, dense, itself, 0.0)
    assert kept.all()
    offsets = (moved - dense.keypoints) / dense.pixel_sizes
    assert offsets.min() >= -4.001
    assert offsets.max() <= 3.001
    assert ((confidence > 0) & (confidence <= 1)).all()
    some = Refiner(random_bundle)(dense, dense, itself, float(np.median(confidence)))
    np.testing.assert_array_equal(some[2], confidence > np.median(confidence))
    assert len(some[0]) == len(some[1]) == some[2].sum()


def test_exception_for_pictures_in_place_of_features():
    with pytest.raises(ArgumentError, match=r"takes the features .* not a str: extract them first"):
        Matcher("nearest")("a.jpg", "b.jpg")
