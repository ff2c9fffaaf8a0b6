"""Warps from matches whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covis.draw.aligned import save_warped, warp_onto
from covis.errors import CovisError
from covis.geometry.alignment import estimate_alignment
from covis.images.decode import read_samples
from covis.types import Image, Matches

SIZE0, SIZE1 = (400, 300), (420, 320)
H_1FROM0 = np.array([[0.9, 0.1, 12.0], [-0.08, 0.95, 30.0], [1e-4, -5e-5, 1.0]])


def plane(points):
    mapped = np.column_stack([points, np.ones(len(points))]) @ H_1FROM0.T
    return mapped[:, :2] / mapped[:, 2:]


def bent(points):
    """The same, and a bump of 14 pixels."""
    away = np.linalg.norm(points - (200, 150), axis=1)
    return plane(points) + np.outer(14 * np.exp(-((away / 90) ** 2)), (1, 0.4))


def matches_of(move, count=400, noise=0.3):
    rng = np.random.default_rng(2)
    points0 = rng.uniform((20, 20), (380, 280), (count, 2))
    points1 = move(points0) + rng.normal(0, noise, (count, 2))
    ones = np.ones(count, np.float32)
    return Matches(points0.astype(np.float32), points1.astype(np.float32), ones)


@pytest.mark.parametrize(("move", "kind"), [(plane, "homography"), (bent, "smooth")])
def test_the_warp_goes_where_the_truth_is(move, kind):
    found = estimate_alignment(matches_of(move), SIZE0, SIZE1)
    assert found.kind == kind
    places = np.random.default_rng(5).uniform((40, 40), (360, 260), (500, 2))
    off = np.linalg.norm(found.to_image1(places) - move(places), axis=1)
    assert np.median(off) < 0.25
    assert off.max() < 1.5
    # The noise of the matches is in what is told: a Rayleigh median of 0.3 * 1.18.
    assert 0.3 < found.error < 0.6
    assert found.error < found.error90 < 1.5


def test_a_mirrored_picture_is_laid_onto_the_other():
    def move(points):
        return plane(points) * (-1, 1) + (SIZE1[0], 0)

    matches = replace(matches_of(move), mirrored=True)
    found = estimate_alignment(matches, SIZE0, SIZE1)
    assert found.kind == "homography"
    places = np.random.default_rng(5).uniform((40, 40), (360, 260), (500, 2))
    assert np.linalg.norm(found.to_image1(places) - move(places), axis=1).max() < 1.5
    assert 0.3 < found.error < 0.6


def test_a_plane_is_told_to_be_off_where_there_is_depth():
    found = estimate_alignment(matches_of(bent), SIZE0, SIZE1, kind="homography")
    assert found.shifts is None
    assert found.error90 > 4


def test_a_few_wrong_matches_neither_bend_the_warp_nor_are_hidden():
    matches = matches_of(bent)
    rng = np.random.default_rng(0)
    wrong = rng.choice(400, 24, replace=False)
    matches.points1[wrong] += rng.normal(0, 40, (24, 2)).astype(np.float32)
    found = estimate_alignment(matches, SIZE0, SIZE1)
    places = np.random.default_rng(5).uniform((40, 40), (360, 260), (500, 2))
    off = np.linalg.norm(found.to_image1(places) - bent(places), axis=1)
    assert np.percentile(off, 90) < 1.5
    assert found.matches == 400


def test_the_share_is_of_image_0():
    h = np.array([[1.0, 0, -200], [0, 1, 0], [0, 0, 1]])
    rng = np.random.default_rng(1)
    points0 = rng.uniform((210, 10), (390, 290), (100, 2)).astype(np.float32)
    points1 = (points0 + h[:2, 2]).astype(np.float32)
    found = estimate_alignment(Matches(points0, points1, np.ones(100, np.float32)), SIZE0, SIZE0)
    assert found.share == pytest.approx(0.5, abs=1e-3)
    assert found.error < 1e-3
    assert "covers 50 % of image 0" in found.describe()


def test_exception_for_too_few_matches():
    with pytest.raises(CovisError, match="19 matches agree, 20 or more are needed"):
        estimate_alignment(matches_of(plane, 19), SIZE0, SIZE1)


def test_image_1_lies_where_it_belongs(tmp_path):
    """A picture moved by whole pixels comes back as it was, and nothing is shown beside it."""
    rng = np.random.default_rng(3)
    pixels1 = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    points1 = rng.uniform((5, 5), (155, 115), (80, 2)).astype(np.float32)
    points0 = points1 + np.float32([30, 20])
    found = estimate_alignment(
        Matches(points0, points1, np.ones(80, np.float32)), (200, 150), (160, 120)
    )
    warped = warp_onto(Image(pixels1, 160, 120), found)
    assert warped.shape == (150, 200, 4)
    inner = warped[22:138, 32:188]
    assert (inner[:, :, 3] == 255).all()
    assert np.abs(inner[:, :, :3].astype(int) - pixels1[2:118, 2:158]).max() <= 8
    assert not warped[:18, :, 3].any()
    assert not warped[:, :28].any()
    half = warp_onto(Image(pixels1, 160, 120), found, (100, 75))
    assert half.shape == (75, 100, 4)
    save_warped(warped, tmp_path / "warped.png")
    save_warped(warped, tmp_path / "warped.jpg")
    assert read_samples(tmp_path / "warped.png").shape == (150, 200, 4)
    assert read_samples(tmp_path / "warped.jpg").shape == (150, 200, 3)
