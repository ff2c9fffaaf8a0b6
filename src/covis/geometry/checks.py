"""Checks of what callers give."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.types import Matrix


def whole(value: int, name: str, least: int, most: int) -> int:
    """`value` as an int, if it is a whole number between both bounds."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentError(f"{name} must be a whole number, not {value!r}.") from error
    if not least <= number <= most:
        raise ArgumentError(f"{name} must be between {least} and {most}, not {value}.")
    return number


def number_rows(values: ArrayLike, width: int, name: str) -> Matrix:
    """`values` as (N, width) float64. Raises ArgumentError where they are not, or not finite."""
    try:
        rows = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be an (N, {width}) array of numbers.") from error
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ArgumentError(f"{name} must be an (N, {width}) array, not {rows.shape}.")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ArgumentError(f"{name} must be finite, but row {row} is {rows[row].tolist()}.")
    return rows


def best_first(scores: ArrayLike, count: int) -> NDArray[np.int64]:
    """(count,): the order that puts the largest of as many scores first; equal ones stay in theirs.

    Raises ArgumentError for scores of another shape, and for NaN.
    """
    try:
        values = np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError("scores must be an (N,) array of numbers.") from error
    if values.shape != (count,):
        raise ArgumentError(f"scores must be one a match, ({count},), not {values.shape}.")
    if np.isnan(values).any():
        raise ArgumentError("scores must be numbers, but some are NaN.")
    return np.argsort(-values, kind="stable")


def checked_threshold(threshold: float | None, default: float) -> float:
    """An inlier threshold in pixels, `default` for None. Raises ArgumentError on what is none."""
    if threshold is None:
        return default
    if not (math.isfinite(threshold) and threshold > 0):
        raise ArgumentError(f"The threshold must be a positive number of pixels, not {threshold}.")
    return threshold


def ransac_options(
    threshold: float, seed: int, max_iterations: int, min_iterations: int
) -> dict[str, Any]:
    """PoseLib's. threshold: in pixels. Raises ArgumentError on numbers out of their range."""
    return {
        "seed": whole(seed, "seed", 0, 2**64 - 1),
        "max_iterations": whole(max_iterations, "max_iterations", 1, 2**31 - 1),
        "min_iterations": whole(min_iterations, "min_iterations", 0, 2**31 - 1),
        "max_reproj_error": threshold,
        "max_epipolar_error": threshold,
    }
