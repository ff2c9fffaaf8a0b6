import math

import cv2
import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.metrics.pose import (
    area_under_curve,
    corner_error,
    direction_error,
    pose_error,
    rotation_error,
    share_under,
)


def turn(degrees, axis=(0.0, 0.0, 1.0)):
    return cv2.Rodrigues(np.radians(degrees) * np.array(axis))[0]


def test_corner_error_of_a_shift_is_its_length():
    shifted = np.array([[1, 0, 3], [0, 1, 4], [0, 0, 1.0]])
    assert corner_error(shifted, np.eye(3), (640, 480)) == pytest.approx(5)


def test_corner_error_of_a_zoom_is_the_mean_over_the_corners():
    # (0, 0) stays, (30, 0) moves by 30, (0, 40) by 40, (30, 40) by 50.
    assert corner_error(np.diag([2, 2, 1.0]), np.eye(3), (30, 40)) == pytest.approx(30)


def test_corner_error_is_measured_in_image_1_and_ignores_the_scale_of_the_matrix():
    truth = np.diag([10, 10, 1.0])
    estimate = -7 * np.array([[10, 0, 1], [0, 10, 0], [0, 0, 1.0]])
    assert corner_error(estimate, truth, (30, 40)) == pytest.approx(1)


def test_corner_error_is_infinite_where_a_corner_maps_to_infinity():
    estimate = np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]])
    assert corner_error(estimate, np.eye(3), (10, 10)) == math.inf
    assert corner_error(np.zeros((3, 3)), np.eye(3), (10, 10)) == math.inf


@pytest.mark.parametrize("degrees", [0, 1e-6, 10, 90, 179, 180])
def test_rotation_error_is_the_angle(degrees):
    base = turn(50, (0.6, 0.8, 0))
    assert rotation_error(base @ turn(degrees), base) == pytest.approx(degrees, abs=1e-9)


def test_direction_error_ignores_length_and_sign():
    x = np.array([1.0, 0, 0])
    assert direction_error(x, np.array([2.0, 2.0, 0])) == pytest.approx(45)
    assert direction_error(-x, 3 * x) == 0
    assert direction_error(x, np.array([0, 0, -5.0])) == pytest.approx(90)
    assert direction_error(x, np.array([-1, 1e-3, 0])) == pytest.approx(math.degrees(1e-3), 1e-5)
    assert direction_error(np.zeros(3), x) == math.inf


def test_pose_error_is_the_larger_angle():
    x = np.array([1.0, 0, 0])
    aside = turn(20) @ x
    assert pose_error(turn(7), aside, np.eye(3), x) == pytest.approx(20)
    assert pose_error(turn(30), aside, np.eye(3), x) == pytest.approx(30)


def test_share_under_counts_the_threshold_itself():
    assert share_under([1, 3, 5, math.inf], 3) == 0.5
    assert share_under([math.nan, 1], 3) == 0.5


@pytest.mark.parametrize(
    ("errors", "threshold", "area"),
    [
        # To (1, 1) in a straight line, then level: (0.5 + 1) / 2.
        ([1], 2, 0.75),
        # Recall (0, 0), (1, 1/2), (3, 1), level to 4: (0.25 + 1.5 + 1) / 4.
        ([3, 1], 4, 2.75 / 4),
        # The second error is past the threshold: (0.25 + 0.5) / 2.
        ([1, 3], 2, 0.375),
        ([1, math.inf], 2, 0.375),
        ([math.nan, 1], 2, 0.375),
        # An error at the threshold leaves the recall where it was.
        ([2], 2, 0),
        ([0, 0], 5, 1),
        ([math.inf, math.inf], 5, 0),
    ],
)
def test_area_under_curve_by_hand(errors, threshold, area):
    assert area_under_curve(errors, threshold) == pytest.approx(area)


@pytest.mark.parametrize("measure", [area_under_curve, share_under])
def test_exception_no_errors(measure):
    with pytest.raises(ArgumentError, match="No errors"):
        measure([], 5)
