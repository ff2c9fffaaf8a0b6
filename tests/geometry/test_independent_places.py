"""Places are counted, not points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from covis.geometry.independent_places import coverage, covered_surprise

SIZE0, SIZE1 = (640, 480), (800, 800)
THRESHOLD = 800 / 250


def evidence(points0, points1, inliers):
    points = (np.array(each, np.float32) for each in (points0, points1))
    return covered_surprise("homography", *points, np.array(inliers), THRESHOLD, SIZE0, SIZE1)


def test_a_knot_of_neighbours_is_one_witness():
    # 20 x 20 pixels a place in image 0, 25 x 25 in image 1: 12 places far apart in both.
    spread = np.array([[x, y] for x in (50, 210, 370, 530) for y in (50, 210, 370)], float)
    wrong = np.array([[x, 450] for x in range(50, 450, 100)], float)
    alone = evidence([*spread, *wrong], [*spread, *wrong], [True] * 12 + [False] * 4)
    knots = np.concatenate([spread + shift for shift in range(8)])
    crowd = [*knots, *np.concatenate([wrong + shift for shift in range(8)])]
    crowded = evidence(crowd, crowd, [True] * 96 + [False] * 32)
    chance = 1 - (1 - math.pi * THRESHOLD**2 / 640_000) ** 8
    alarms = math.log10((16 - 4) * math.comb(16, 12) * math.comb(12, 4)) + 8 * math.log10(chance)
    # 12 cells of 64 in image 0, 9 in image 1.
    assert crowded == pytest.approx(-alarms * coverage(spread, SIZE1))
    assert 0 < crowded < alone


def test_places_are_those_of_the_picture_with_fewer():
    spread = [[x, y] for x in (50, 210, 370, 530) for y in (50, 210, 370)]
    near = [[100 + i, 100] for i in range(12)]
    inliers = [True] * 12
    assert evidence(spread, near, inliers) == 0
    assert evidence(near, spread, inliers) == 0
    assert evidence(spread, spread, inliers) > 0


def test_coverage_by_hand():
    # 80 x 60 pixels a cell.
    points = np.array([[1, 1], [79, 59], [81, 59], [640, 480], [639, 479]])
    assert coverage(points, SIZE0) == 3 / 64
