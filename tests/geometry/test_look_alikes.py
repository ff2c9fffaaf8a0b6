"""Pictures in like frames, and how much of what lies between their matches is alike."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.textures import draw_texture
from helpers.warps import warp_picture, warp_points

from covis import match
from covis.geometry.agreement import View
from covis.geometry.look_alikes import MIN_LIKENESS, NOTE, judge_by_pictures, likeness
from covis.geometry.verdict import Calibration
from covis.types import Geometry, Matches, Verdict

SIZE = (480, 360)
PICTURE, OTHER = (draw_texture(360, 480, seed=seed)[:, :, 0] for seed in (1, 2))
SEEN = np.array([[0.9, 0.08, 20], [-0.06, 0.95, 25], [2e-4, 1e-4, 1]])
GRID = np.stack(np.meshgrid(np.linspace(20, 460, 12), np.linspace(20, 340, 9)), -1).reshape(-1, 2)


def seen_from_the_side(picture):
    return warp_picture(picture, SEEN, SIZE)


def matches(points0, points1, matrix, kind="homography"):
    ones = np.ones(len(points0))
    return Matches(
        *(np.asarray(points, np.float32) for points in (points0, points1)),
        ones.astype(np.float32),
        geometry=Geometry(kind, matrix, ones > 0),
        verdict=Verdict("same", 0.99),
    )


def view(grey):
    return View(np.ascontiguousarray(grey), (grey.shape[1], grey.shape[0]))


def test_mirrored_pictures_are_laid_over_each_other_too():
    over = np.array([[-1, 0, SIZE[0]], [0, 1, 0], [0, 0, 1.0]])
    side = np.ascontiguousarray(seen_from_the_side(PICTURE)[:, ::-1])
    points1 = warp_points(over @ SEEN, GRID)
    for kind, matrix in (("fundamental", np.eye(3)), ("essential", None)):
        found = replace(matches(GRID, points1, matrix, kind), mirrored=True)
        assert likeness(found, view(PICTURE), view(side)).worse_half > 0.7
        assert judge_by_pictures(found, view(PICTURE), view(side)) is found
        assert judge_by_pictures(found, view(OTHER), view(side)).verdict.label == "unsure"


FOUND = matches(GRID, warp_points(SEEN, GRID), SEEN)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        lambda p: np.asarray(60 + 0.4 * p, np.uint8),
        lambda p: 255 * (p / 255.0) ** 2,
        lambda p: cv2.GaussianBlur(p, (0, 0), 2.5),
        lambda p: p + np.random.default_rng(0).normal(0, 12, p.shape),
    ],
    ids=["itself", "paler", "darker", "blurred", "noisy"],
)
def test_light_blur_and_noise_leave_a_picture_alike(change) -> None:
    changed = np.clip(change(seen_from_the_side(PICTURE)), 0, 255).astype(np.uint8)
    assert likeness(FOUND, view(PICTURE), view(changed)).worse_half > 0.7
    back = matches(warp_points(SEEN, GRID), GRID, np.linalg.inv(SEEN))
    assert likeness(back, view(changed), view(PICTURE)).worse_half > 0.7


def test_what_only_the_matches_share_is_not_alike() -> None:
    found = likeness(FOUND, view(PICTURE), view(seen_from_the_side(OTHER)))
    assert found.worse_half < MIN_LIKENESS
    assert found.cells > 100
    inverted = likeness(FOUND, view(PICTURE), view(255 - seen_from_the_side(PICTURE)))
    assert inverted.worse_half < 0


def test_a_small_picture_of_a_large_one_is_as_much_alike() -> None:
    small = cv2.resize(PICTURE, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    matrix = np.diag([0.25, 0.25, 1])
    assert likeness(matches(GRID, GRID / 4, matrix), view(PICTURE), view(small)).worse_half > 0.9


def test_parts_with_depth_are_looked_for_where_the_matches_beside_them_lie() -> None:
    """The right half is nearer and moves by 40 pixels more, in view of an epipolar geometry."""
    right = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0.0]])  # Of a camera that moves sideways.
    nearer = np.roll(PICTURE, 40, axis=1)
    nearer[:, :240] = PICTURE[:, :240]
    nearer[:, 240:280] = OTHER[:, 240:280]
    points1 = GRID + np.where(GRID[:, :1] > 240, [[40, 0]], [[0, 0]])
    inside = points1[:, 0] < 470
    found = matches(GRID[inside], points1[inside], right, "fundamental")
    assert likeness(found, view(PICTURE), view(nearer)).worse_half > 0.6


def test_too_little_to_compare_says_nothing() -> None:
    flat = np.full_like(PICTURE, 128)
    assert likeness(FOUND, view(PICTURE), view(flat)) is None
    corner = matches(GRID[:3] / 50, GRID[:3] / 50, np.eye(3))
    assert likeness(corner, view(PICTURE), view(PICTURE)) is None
    assert judge_by_pictures(FOUND, view(PICTURE), view(flat)) is FOUND


def test_what_differs_between_the_matches_is_doubted() -> None:
    views = view(PICTURE), view(seen_from_the_side(OTHER))
    doubted = judge_by_pictures(FOUND, *views)
    assert doubted.verdict == Verdict("unsure", 0.5)
    assert doubted.geometry.note == NOTE
    for verdict in (None, Verdict("unsure", 0.7), Verdict("different", 0.01)):
        found = replace(FOUND, verdict=verdict)
        assert judge_by_pictures(found, *views) is found


def test_greys_may_differ_where_the_edges_lie_over_each_other() -> None:
    """A negative, which correlates with its picture nowhere; and that of another picture."""
    negative, other = (view(255 - seen_from_the_side(each)) for each in (PICTURE, OTHER))
    assert likeness(FOUND, view(PICTURE), negative).worse_half < MIN_LIKENESS
    assert judge_by_pictures(FOUND, view(PICTURE), negative) is FOUND
    assert judge_by_pictures(FOUND, view(PICTURE), other).verdict == Verdict("unsure", 0.5)
    part = 100 + GRID / 4  # Alike as well, but a small part says little of the pictures.
    found = matches(part, warp_points(SEEN, part), SEEN)
    assert judge_by_pictures(found, view(PICTURE), negative).verdict.label == "unsure"


def test_what_is_likely_and_lies_over_the_other_is_the_same() -> None:
    views = view(PICTURE), view(seen_from_the_side(PICTURE))
    likely = replace(FOUND, verdict=Verdict("unsure", 0.6))
    assert judge_by_pictures(likely, *views).verdict == Verdict("same", Calibration.read().same)
    unlikely = replace(FOUND, verdict=Verdict("unsure", 0.4))
    assert judge_by_pictures(unlikely, *views) is unlikely
    corner = 100 + GRID / 8  # A logo in the corner of both.
    found = replace(matches(corner, corner, np.eye(3)), verdict=likely.verdict)
    assert likeness(found, views[0], views[0]).worse_half > 0.9
    assert judge_by_pictures(found, views[0], views[0]) is found


def framed(picture):
    """A picture (360, 480) within an ornamented frame, 60 wide."""
    tile = draw_texture(60, 40, seed=9)[:, :, 0]
    side = np.tile(tile, (1, 15))
    frame = np.zeros((480, 600), np.uint8)
    frame[:60], frame[-60:] = side, side[::-1]
    frame[60:-60, :60], frame[60:-60, -60:] = side[:, :360].T, side[::-1, :360].T
    frame[60:-60, 60:-60] = picture
    return np.dstack([frame] * 3)


@pytest.mark.parametrize("geometry", ["homography", "fundamental"])
def test_two_paintings_in_like_frames_are_not_called_the_same(geometry: str) -> None:
    options = {"features": "sift", "matcher": "nearest", "geometry": geometry}
    found = match(framed(PICTURE), framed(OTHER), **options)
    assert found.verdict == Verdict("unsure", 0.5)
    assert NOTE in found.geometry.note
    dark = np.asarray(0.6 * framed(PICTURE), np.uint8)
    again = match(framed(PICTURE), warp_picture(dark, SEEN, (600, 480)), **options)
    assert again.verdict.label == "same"
    assert NOTE not in again.geometry.note
