"""`draw_matches`: size, what is drawn and what is not, errors."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.pictures import grey
from hypothesis import given, settings
from hypothesis import strategies as st

from covis.draw.matches import draw_matches
from covis.errors import ArgumentError
from covis.types import Geometry, Image, Matches


def matches_of(points0, points1, inliers=None, kind="fundamental", matrix=None) -> Matches:
    points0, points1 = (np.array(p, np.float32).reshape(-1, 2) for p in (points0, points1))
    geometry = None if inliers is None else Geometry(kind, matrix, np.array(inliers, bool))
    return Matches(points0, points1, np.ones(len(points0), np.float32), geometry=geometry)


NONE = matches_of([], [])


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 500)] * 4, st.integers(64, 700))
def test_result_is_rgb_and_within_max_side(width0, height0, width1, height1, max_side):
    aspects = width0 / height0 + width1 / height1
    picture = draw_matches(grey(width0, height0), grey(width1, height1), NONE, max_side=max_side)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    if aspects < max_side / 2:
        assert max(picture.shape) <= max_side


def test_both_pictures_are_shown_at_one_height_left_and_right():
    image0, image1 = grey(200, 100), grey(50, 50)
    image0.pixels[:] = (200, 0, 0)
    image1.pixels[:] = (0, 0, 200)
    picture = draw_matches(image0, image1, NONE)
    assert (picture[:100, :200] == (200, 0, 0)).all()
    assert (picture[:100, -100:] == (0, 0, 200)).all()


def test_max_side_shrinks():
    picture = draw_matches(grey(1000, 800), grey(1000, 800), NONE, max_side=500)
    assert 480 <= picture.shape[1] <= 500


def test_the_caption_says_that_image_1_is_mirrored():
    image = grey(200, 100)
    usual, over = (draw_matches(image, image, replace(NONE, mirrored=m)) for m in (False, True))
    np.testing.assert_array_equal(usual[:100], over[:100])
    assert (usual[100:] != over[100:]).any()


def test_match_is_drawn_at_both_ends_in_one_colour():
    picture = draw_matches(grey(200, 100), grey(200, 100), matches_of([50.5, 30.5], [120.5, 60.5]))
    start, end = picture[30, 50], picture[60, picture.shape[1] - 200 + 120]
    np.testing.assert_array_equal(start, end)
    assert np.ptp(start) > 50


def test_convention_full_size_coordinates_on_smaller_pixels():
    small = Image(np.full((100, 200, 3), 128, np.uint8), width=2000, height=1000)
    picture = draw_matches(small, small, matches_of([505, 305], [1205, 605]))
    assert np.ptp(picture[30, 50]) > 50


def test_colour_follows_the_place_in_image_0():
    ends = [[20.5, 50.5], [180.5, 50.5]]
    picture = draw_matches(grey(200, 100), grey(200, 100), matches_of(ends, ends))
    assert np.abs(picture[50, 20].astype(int) - picture[50, 180]).max() > 50


def test_outliers_are_not_drawn():
    image = grey(200, 100)
    outliers = matches_of([[50, 30]], [[120, 60]], inliers=[False])
    height = image.height
    np.testing.assert_array_equal(
        draw_matches(image, image, outliers)[:height], draw_matches(image, image, NONE)[:height]
    )


def test_max_lines_thins_out_evenly():
    x = np.linspace(10, 190, 100)
    points = np.stack([x, np.full(100, 50)], axis=1)
    image = grey(200, 100)

    def changed(max_lines):
        picture = draw_matches(image, image, matches_of(points, points), max_lines=max_lines)
        return (picture[:100] != draw_matches(image, image, NONE)[:100]).any(axis=(0, 2))

    assert not changed(0).any()
    assert changed(2)[10]
    assert changed(2)[190]
    assert changed(2)[:200].sum() < changed(100).sum()


def test_homography_outlines_image_0_in_image_1():
    image = grey(200, 100)
    h_1from0 = np.array([[0.5, 0, 40], [0, 0.5, 20], [0, 0, 1]])
    geometry = matches_of([], [], inliers=[], kind="homography", matrix=h_1from0)
    picture = draw_matches(image, image, geometry)
    left1 = picture.shape[1] - 200
    for x, y in ((40, 45), (140, 45), (90, 20), (90, 70)):
        assert picture[y - 1 : y + 1, left1 + x - 1 : left1 + x + 1].min() > 200
    assert (picture[:100, :200] == 128).all()


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 0], [0, 1, 0], [0.02, 0, -1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
        [[1e9, 0, 0], [0, 1e9, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
    ],
)
def test_strange_homographies_draw_without_error(matrix):
    geometry = matches_of([], [], [], "homography", np.array(matrix, float))
    draw_matches(grey(200, 100), grey(200, 100), geometry)


def test_caption_tells_matches_and_inliers(monkeypatch):
    said = []
    put_text = cv2.putText
    monkeypatch.setattr(cv2, "putText", lambda *a: said.append(a[1]) or put_text(*a))
    image = grey(300, 200)
    draw_matches(image, image, NONE)
    draw_matches(image, image, matches_of([1, 1], [1, 1], [True]))
    draw_matches(image, image, matches_of([[1, 1], [2, 2]], [[1, 1], [2, 2]], [False, False]))
    assert said == ["0 matches", "1 match, 1 inlier", "2 matches, 0 inliers"]


@pytest.mark.parametrize("options", [{"max_lines": -1}, {"max_side": 63}])
def test_exception_arguments(options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        draw_matches(grey(9, 9), grey(9, 9), NONE, **options)
