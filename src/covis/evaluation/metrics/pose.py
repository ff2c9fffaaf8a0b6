"""Error measures of two-view geometry, and how errors are summed up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.types import Matrix


def corner_error(estimate_1from0: Matrix, truth_1from0: Matrix, size0: tuple[int, int]) -> float:
    """Mean distance between image 0's four corners under two homographies, in pixels of image 1.

    The corners are the picture's outer ones: (0, 0) to (width, height).
    size0: (width, height) of image 0. Infinite when a corner does not map to a finite point.
    """
    width, height = size0
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mapped = [corners @ h.T for h in (estimate_1from0, truth_1from0)]
        estimate, truth = (p[:, :2] / p[:, 2:] for p in mapped)
        error = float(np.linalg.norm(estimate - truth, axis=1).mean())
    return error if math.isfinite(error) else math.inf


def rotation_error(estimate: Matrix, truth: Matrix) -> float:
    """The angle of the rotation between two (3, 3) rotations, in degrees."""
    difference = estimate.T @ truth
    sine = np.linalg.norm(difference - difference.T) / math.sqrt(8)
    cosine = (np.trace(difference) - 1) / 2
    return math.degrees(math.atan2(float(sine), float(cosine)))


def direction_error(estimate: Matrix, truth: Matrix) -> float:
    """The angle between two (3,) directions, their sign ignored, in degrees: 0 to 90.

    Infinite when one of them has no length.
    """
    if not (np.linalg.norm(estimate) > 0 and np.linalg.norm(truth) > 0):
        return math.inf
    sine = float(np.linalg.norm(np.cross(estimate, truth)))
    return math.degrees(math.atan2(sine, abs(float(estimate @ truth))))


def pose_error(
    rotation: Matrix, translation: Matrix, true_rotation: Matrix, true_translation: Matrix
) -> float:
    """The larger of the rotation's and the translation direction's error, in degrees."""
    return max(
        rotation_error(rotation, true_rotation), direction_error(translation, true_translation)
    )


def share_under(errors: ArrayLike, threshold: float) -> float:
    """The share of errors at or below a threshold, 0..1. Failures are infinite errors."""
    return float(np.mean(_checked(errors) <= threshold))


def area_under_curve(errors: ArrayLike, threshold: float) -> float:
    """The area under recall over error, from 0 to a threshold, divided by the threshold: 0..1.

    Recall rises in straight lines from (0, 0) through (i-th smallest error, i / N) and stays
    level from the last error below the threshold to the threshold.
    errors: (N,), failures infinite.
    """
    ordered = np.sort(_checked(errors))
    below = ordered[ordered < threshold]
    recall = np.arange(len(below) + 1) / len(ordered)
    return float(
        np.trapezoid(np.append(recall, recall[-1]), np.concatenate([[0], below, [threshold]]))
        / threshold
    )


def _checked(errors: ArrayLike) -> Matrix:
    """Errors as float64 (N,). NaN would fall through every comparison, so it counts as failure."""
    values = np.asarray(errors, np.float64).ravel()
    if not values.size:
        raise ArgumentError("No errors to sum up.")
    return np.where(np.isnan(values), math.inf, values)
