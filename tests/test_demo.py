"""The demo pair: repeatable, true to its own geometry, and rich enough to match."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covis.demo import DemoPair, render_demo
from covis.errors import ArgumentError


@pytest.fixture(scope="module")
def pair() -> DemoPair:
    return render_demo()


def grid(pair: DemoPair, step: int = 7) -> np.ndarray:
    height, width = pair.image0.shape[:2]
    x, y = np.meshgrid(np.arange(step, width, step), np.arange(step, height, step))
    return np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5


def local_contrast(picture: np.ndarray) -> np.ndarray:
    """Grey with its local mean and deviation taken out, so that light does not count."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey -= cv2.GaussianBlur(grey, (0, 0), 8)
    return cv2.GaussianBlur(grey / (cv2.GaussianBlur(grey**2, (0, 0), 8) ** 0.5 + 2), (0, 0), 1.5)


def test_pictures_have_the_size_asked_for():
    small = render_demo(size=(320, 200))
    for picture in (small.image0, small.image1):
        assert picture.shape == (200, 320, 3)
        assert picture.dtype == np.uint8


def test_same_seed_same_pictures_other_seed_others():
    first, again, other = (render_demo((160, 120), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image0, again.image0)
    np.testing.assert_array_equal(first.image1, again.image1)
    assert (first.image0 != other.image0).any()


def test_much_is_visible_in_both_and_only_inside(pair):
    points1, visible = pair.to_view1(grid(pair))
    assert 0.3 < visible.mean() < 0.9
    assert np.isfinite(points1[visible]).all()
    height, width = pair.image1.shape[:2]
    assert (points1[visible] >= 0).all()
    assert (points1[visible] <= (width, height)).all()


def test_sky_has_no_place_in_the_other_view(pair):
    points1, visible = pair.to_view1(np.array([[400.0, 5.0]]))
    assert np.isnan(points1).all()
    assert not visible.any()


def test_no_points_give_no_points(pair):
    points1, visible = pair.to_view1(np.zeros((0, 2)))
    assert points1.shape == (0, 2)
    assert visible.shape == (0,)


def test_convention_truth_agrees_with_the_pixels_to_a_fraction():
    """Where the truth holds, image 1 carried back to image 0 lies on image 0, unshifted."""
    pair = render_demo((480, 360))
    height, width = pair.image0.shape[:2]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    points1, visible = pair.to_view1(np.stack([x, y], axis=-1).reshape(-1, 2))
    map1 = (np.nan_to_num(points1) - 0.5).astype(np.float32).reshape(height, width, 2)
    back = cv2.remap(pair.image1, map1, None, cv2.INTER_LINEAR)
    grey0, grey1 = (local_contrast(picture) for picture in (pair.image0, back))
    shown = cv2.erode(visible.reshape(height, width).astype(np.uint8), np.ones((25, 25))) > 0
    slopes = np.stack([np.gradient(grey0 + grey1, axis=axis)[shown] for axis in (1, 0)], axis=1)
    shift = np.linalg.lstsq(slopes / 2, (grey1 - grey0)[shown])[0]
    assert np.abs(shift).max() < 0.05


def test_sift_finds_at_least_150_correct_mutual_matches(pair):
    sift = cv2.SIFT_create(3000)
    keypoints, descriptors = zip(
        *(sift.detectAndCompute(p, None) for p in (pair.image0, pair.image1)), strict=True
    )
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(*descriptors)
    points0 = np.array([keypoints[0][m.queryIdx].pt for m in matches]) + 0.5
    points1 = np.array([keypoints[1][m.trainIdx].pt for m in matches]) + 0.5
    truth, visible = pair.to_view1(points0)
    correct = visible & (np.linalg.norm(truth - points1, axis=1) < 3)
    assert correct.sum() >= 150


@pytest.mark.parametrize("size", [(63, 100), (100, 0), (-5, 100)])
def test_exception_size_too_small(size):
    with pytest.raises(ArgumentError, match="size"):
        render_demo(size)


def test_exception_negative_seed():
    with pytest.raises(ArgumentError, match="seed"):
        render_demo(seed=-1)


def test_further_apart_less_is_seen_twice():
    shares = [
        pair.to_view1(grid(pair))[1].mean()
        for pair in (render_demo((320, 240), baseline=b) for b in (0.5, 2.5))
    ]
    assert 0.1 < shares[1] < shares[0]


@pytest.mark.parametrize("baseline", [-0.1, 3.1])
def test_exception_baseline_out_of_range(baseline):
    with pytest.raises(ArgumentError, match="0 to 3"):
        render_demo(baseline=baseline)
