"""Two images in, what they share out."""

from __future__ import annotations

import numpy as np
import pytest

import covis
from covis import match
from covis.errors import ArgumentError, BundleError, ImageError


def test_known_homography(known_pair, warp):
    first, second, matrix = known_pair
    found = match(first, second, "sift", geometry="homography", max_keypoints=2000)
    error = np.linalg.norm(warp(matrix, found.points0) - found.points1, axis=1)
    assert found.inliers.sum() >= 300
    assert np.median(error) < 0.5
    assert np.median(error[found.inliers]) < 0.3
    corners = np.array([[0, 0], [640, 0], [0, 480], [640, 480]], np.float64)
    moved = warp(found.geometry.matrix, corners)
    assert np.linalg.norm(moved - warp(matrix, corners), axis=1).max() < 1
    assert found.points0.dtype == found.points1.dtype == found.scores.dtype == np.float32
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.seconds) == {"load", "decode", "extract", "match", "geometry"}
    assert found.model == "sift"
    assert "Apache-2.0" in found.licence


def test_shrunk_images_give_full_size_points(known_pair, warp):
    first, second, matrix = known_pair
    found = match(first, second, "sift", geometry="homography", max_size=320)
    error = np.linalg.norm(warp(matrix, found.points0) - found.points1, axis=1)
    assert found.points0.max() > 400
    assert np.median(error[found.inliers]) < 0.8


def test_same_call_same_answer(known_pair):
    first, second, _ = known_pair
    one, two = (match(first, second, "sift", max_keypoints=500, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.points0, two.points0)
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.geometry.matrix, two.geometry.matrix)


@pytest.mark.parametrize("geometry", ["none", "homography", "fundamental", "essential"])
def test_nothing_in_common_is_an_answer(geometry):
    blank = np.full((50, 60), 128, np.uint8)
    found = match(blank, blank, "sift", geometry=geometry)
    assert len(found) == 0
    assert found.points0.shape == found.points1.shape == (0, 2)
    assert found.inliers.shape == (0,)
    assert found.geometry.matrix is None


def test_masks(known_pair):
    first, second, _ = known_pair
    left = np.zeros(first.shape[:2], bool)
    left[:, :320] = True
    found = match(first, second, "sift", geometry="none", mask_a=left)
    assert len(found) > 50
    assert found.points0[:, 0].min() >= 319
    nothing = match(first, second, "sift", mask_b=np.ones(second.shape[:2], bool))
    assert len(nothing) == 0


@pytest.mark.parametrize("matcher", ["nearest", "semi-dense"])
def test_a_bundle_by_its_folder(random_bundle, tmp_path, monkeypatch, matcher):
    """One call finds the refinement of a bundle that is not installed."""
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (64, 96)).astype(np.uint8)
    found = match(picture, picture, str(random_bundle.folder), matcher, "none")
    assert found.model == "random"
    assert found.licence == "-"


def test_exceptions(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    picture = np.zeros((40, 40), np.uint8)
    with pytest.raises(ImageError, match="no such file"):
        match("nowhere.jpg", picture, "sift")
    with pytest.raises(BundleError, match="no model named 'nonsense'"):
        match(picture, picture, "nonsense")
    with pytest.raises(ArgumentError, match="no matcher 'magic'"):
        match(picture, picture, "sift", "magic")
    with pytest.raises(ArgumentError, match="SIFT has no semi-dense features"):
        match(picture, picture, "sift", "semi-dense")
    with pytest.raises(ArgumentError, match="max_keypoints"):
        match(picture, picture, "sift", max_keypoints=0)


def test_public_names():
    for name in covis.__all__:
        assert getattr(covis, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        covis.nonsense  # noqa: B018
