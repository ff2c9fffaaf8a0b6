"""Two images in, what they share out."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.corner import texture

import covis
from covis import Extractor, Features, Geometry, Matches, match
from covis.api import match_turned
from covis.effort.attempts import joint_licence
from covis.errors import ArgumentError, BundleError, ImageError
from covis.types import Verdict


def test_known_homography(known_pair, warp):
    first, second, matrix = known_pair
    found = match(first, second, features="sift", geometry="homography", max_keypoints=2000)
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
    found = match(first, second, features="sift", geometry="homography", max_size=320)
    error = np.linalg.norm(warp(matrix, found.points0) - found.points1, axis=1)
    assert found.points0.max() > 400
    assert np.median(error[found.inliers]) < 0.8


def test_same_call_same_answer(known_pair):
    first, second, _ = known_pair
    one, two = (match(first, second, features="sift", max_keypoints=500, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.points0, two.points0)
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.geometry.matrix, two.geometry.matrix)


@pytest.mark.parametrize("geometry", ["none", "homography", "fundamental", "essential"])
def test_nothing_in_common_is_an_answer(geometry):
    blank = np.full((50, 60), 128, np.uint8)
    found = match(blank, blank, features="sift", geometry=geometry)
    assert len(found) == 0
    assert found.points0.shape == found.points1.shape == (0, 2)
    assert found.inliers.shape == (0,)
    assert found.geometry.matrix is None


def test_intrinsics_are_checked(known_pair):
    first, second, _ = known_pair
    with pytest.raises(ArgumentError, match="camera1: a focal length of 9 pixels"):
        match(first, second, geometry="essential", camera1=np.diag([9, 9, 1]))
    with pytest.raises(ArgumentError, match="3 x 3"):
        match(first, second, geometry="essential", camera0=[1, 2])


def test_masks(known_pair):
    first, second, _ = known_pair
    left = np.zeros(first.shape[:2], bool)
    left[:, :320] = True
    found = match(first, second, features="sift", geometry="none", mask0=left)
    assert len(found) > 50
    assert found.points0[:, 0].min() >= 319
    nothing = match(first, second, features="sift", mask1=np.ones(second.shape[:2], bool))
    assert len(nothing) == 0


@pytest.mark.parametrize("matcher", ["nearest", "semi-dense"])
def test_a_bundle_by_its_folder(random_bundle, tmp_path, monkeypatch, matcher):
    """One call finds the refinement of a bundle that is not installed."""
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (64, 96)).astype(np.uint8)
    found = match(
        picture, picture, features=str(random_bundle.folder), matcher=matcher, geometry="none"
    )
    assert found.model == "random"
    assert found.licence == "-"


class Turned:
    """What `match_turned` asks for, with a probability for each turn; 0.9 and more is "same"."""

    def __init__(self, probabilities):
        self.probabilities, self.asked = probabilities, []

    def features(self, turn):
        """As large as the turned picture of 40 x 30."""
        self.asked.append(turn)
        nothing = np.empty(0, np.float32)
        width, height = (30, 40) if turn in (90, 270) else (40, 30)
        return Features(nothing.reshape(0, 2), nothing, nothing.reshape(0, 8), width, height, "m")

    def find(self, features0, features1):
        points = np.full((9, 2), 1.5, np.float32)
        return Matches(points, points, points[:, 0], indices=np.zeros((9, 2), np.int64))

    def check(self, found, kind):
        verdict = None
        if kind != "none":
            probability = self.probabilities[found.turn]
            verdict = Verdict("same" if probability >= 0.9 else "unsure", probability)
        geometry = Geometry(kind, np.eye(3), np.ones(9, bool))
        return replace(found, geometry=geometry, verdict=verdict)

    def match(self, geometry="homography", rotate="auto"):
        one = self.features(0)
        self.asked.clear()
        return match_turned(self.find, one, one, self.features, self.check, geometry, rotate)


@pytest.mark.parametrize("geometry", ["homography", "none"])
def test_rotate_tries_no_turn_where_the_upright_pair_is_sure(geometry):
    pair = Turned({0: 0.9})
    assert pair.match(geometry).turn == 0
    assert pair.asked == []


def test_rotate_none_tries_no_turn():
    pair = Turned({0: 0})
    assert pair.match(rotate="none").turn == 0
    assert pair.asked == []


@pytest.mark.parametrize("geometry", ["homography", "none"])
def test_rotate_takes_the_most_probable_turn(geometry):
    pair = Turned({0: 0.2, 90: 0.6, 180: 0.6, 270: 0.5})
    found = pair.match(geometry)
    assert pair.asked == [90, 180, 270]
    assert (found.turn, found.geometry.kind, found.indices) == (90, geometry, None)
    assert (found.verdict is None) == (geometry == "none")
    np.testing.assert_array_equal(found.points1[0], [1.5, 28.5])


def test_rotate_does_not_stop_at_the_first_sure_turn():
    pair = Turned({0: 0.2, 90: 0.91, 180: 0.95, 270: 0.93})
    found = pair.match()
    assert pair.asked == [90, 180, 270]
    assert found.turn == 180
    np.testing.assert_array_equal(found.points1[0], [38.5, 28.5])


def test_rotate_stays_upright_without_a_better_turn():
    found = Turned(dict.fromkeys((0, 90, 180, 270), 0.3)).match()
    assert found.turn == 0
    assert found.indices is not None


@pytest.mark.parametrize("times", [1, 2, 3])
def test_rotate_rescues_a_turned_picture(known_pair, warp, times):
    """Points, geometry and mask are those of the pictures as they were given."""
    first, second, matrix = known_pair
    mask = np.zeros(second.shape[:2], bool)
    mask[:, :200] = True
    turned, mask = (np.rot90(picture, times) for picture in (second, mask))
    found = match(
        first, turned, geometry="homography", max_keypoints=1000, rotate="auto", mask1=mask
    )
    assert found.turn == 90 * times  # NumPy turned it the other way.
    height, width = second.shape[:2]
    x, y = warp(matrix, found.points0).T
    truth = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[times]
    error = np.linalg.norm(np.column_stack(truth) - found.points1, axis=1)
    assert found.inliers.sum() > 100
    assert np.median(error[found.inliers]) < 1
    corners = np.array([[300, 100], [400, 300]], np.float64)
    x, y = warp(matrix, corners).T
    truth = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[times]
    there = warp(found.geometry.matrix, corners)
    assert np.linalg.norm(np.column_stack(truth) - there, axis=1).max() < 3
    columns, rows = found.points1.astype(int).T
    assert not mask[rows, columns].any()


def test_licences_of_both():
    extract = Extractor("sift")
    one = Turned({0: 1.0}).match()
    assert joint_licence(extract, one) == extract.licence
    assert joint_licence(extract, replace(one, licence=extract.licence)) == extract.licence
    both = joint_licence(extract, replace(one, licence="MIT"))
    assert both == f"{extract.licence} (features), MIT (matcher)"


def test_exceptions(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    picture = np.zeros((40, 40), np.uint8)
    with pytest.raises(ImageError, match="no such file"):
        match("nowhere.jpg", picture, features="sift")
    with pytest.raises(BundleError, match="no model named 'nonsense'"):
        match(picture, picture, features="nonsense")
    with pytest.raises(ArgumentError, match="no matcher 'magic'"):
        match(picture, picture, features="sift", matcher="magic")
    with pytest.raises(ArgumentError, match="no rotate 'sideways'; there are: none, auto"):
        match(picture, picture, features="sift", rotate="sideways")
    with pytest.raises(BundleError, match="no LightGlue weights are installed for 'sift'"):
        match("nowhere.jpg", picture, features="sift", matcher="lightglue")
    with pytest.raises(ArgumentError, match="'sift' has no semi-dense features"):
        match(picture, picture, features="sift", matcher="semi-dense")
    with pytest.raises(ArgumentError, match="max_keypoints"):
        match(picture, picture, features="sift", max_keypoints=0)


def test_public_names():
    for name in covis.__all__:
        assert getattr(covis, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        covis.nonsense  # noqa: B018


def test_a_thumbnail_matches_its_picture():
    """Pictures below 480 pixels are enlarged first."""
    picture = texture(3)[:600, :800]
    small = cv2.resize(picture, (120, 90), interpolation=cv2.INTER_AREA)
    found = match(picture, small, matcher="nearest", geometry="homography", max_keypoints=1000)
    assert found.verdict.label == "same"
    assert found.inliers.sum() >= 30
    expected = np.diag([120 / 800, 90 / 600, 1.0])
    corners = np.array([[0, 0, 1], [800, 0, 1], [0, 600, 1], [800, 600, 1.0]])
    moved = corners @ found.geometry.matrix.T
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], (corners @ expected.T)[:, :2], atol=2.0)
