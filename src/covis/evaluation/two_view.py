"""Two-view accuracy: how well a matcher's matches give homographies and camera poses.

A homography's error is the mean corner error in pixels, a pose's the larger of its angles in
degrees. RANSAC is random, so every pair is estimated with several seeds: shares and areas are
means over the seeds of what each seed gives over the pairs. Pairs without a model count as
infinite errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.evaluation.metrics import area_under_curve, corner_error, pose_error, share_under
from covis.evaluation.pairs import HomographyPair, Pair, PairSet
from covis.geometry import estimate_geometry
from covis.types import FloatArray, Geometry, Matches, Matrix

MatchFunction = Callable[[Path, Path], Matches | tuple[FloatArray, FloatArray]]
"""Paths of two images -> matches, or (N, 2) points of image 0 and of image 1."""

THRESHOLDS: Mapping[str, tuple[int, int, int]] = {"homography": (3, 5, 7), "pose": (5, 10, 20)}
"""Where errors are summed up: pixels of image 1, or degrees."""


@dataclass(frozen=True, eq=False)
class TwoViewResult:
    """Errors of one set of pairs, or of several sets together.

    errors: (pairs, seeds) in pixels or degrees, infinite where no model was found.
    matches: (pairs,). inliers: (pairs, seeds).
    """

    name: str
    kind: Literal["homography", "pose"]
    errors: Matrix
    matches: NDArray[np.int64]
    inliers: NDArray[np.int64]

    @property
    def auc(self) -> dict[int, float]:
        """Threshold -> area under the recall curve, 0..1."""
        return {t: self._mean_over_seeds(area_under_curve, t) for t in THRESHOLDS[self.kind]}

    @property
    def share(self) -> dict[int, float]:
        """Threshold -> share of pairs with at most that error, 0..1."""
        return {t: self._mean_over_seeds(share_under, t) for t in THRESHOLDS[self.kind]}

    @property
    def median_error(self) -> float:
        """Median over pairs of the median over seeds."""
        return float(np.median(np.median(self.errors, axis=1)))

    def _mean_over_seeds(self, measure: Callable[[Matrix, float], float], at: float) -> float:
        return float(np.mean([measure(errors, at) for errors in self.errors.T]))


def evaluate_two_view(
    match: MatchFunction,
    pair_set: PairSet,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    threshold: float | None = None,
) -> TwoViewResult:
    """Match every pair of a set and compare the geometry that follows with the truth.

    threshold: the inlier threshold in full-size pixels; None for `estimate_geometry`'s.
    """
    errors, matches, inliers = [], [], []
    for pair in pair_set.pairs:
        found = match(pair.path0, pair.path1)
        points0, points1, scores = (
            (found.points0, found.points1, found.scores)
            if isinstance(found, Matches)
            else (*found, None)
        )
        geometries = [_estimate(pair, points0, points1, scores, s, threshold) for s in seeds]
        errors.append([_error(pair, geometry) for geometry in geometries])
        inliers.append([int(geometry.inliers.sum()) for geometry in geometries])
        matches.append(len(points0))
    return TwoViewResult(
        pair_set.name, pair_set.kind, np.array(errors), np.array(matches), np.array(inliers)
    )


def pool(results: Iterable[TwoViewResult], name: str) -> TwoViewResult:
    """Several sets of one kind as one, every pair counting the same."""
    results = list(results)
    kinds = {result.kind for result in results}
    if len(kinds) != 1:
        raise ArgumentError(f"Only results of one kind can be pooled, not {sorted(kinds)}.")
    return TwoViewResult(
        name,
        results[0].kind,
        np.concatenate([result.errors for result in results]),
        np.concatenate([result.matches for result in results]),
        np.concatenate([result.inliers for result in results]),
    )


def _estimate(
    pair: Pair,
    points0: FloatArray,
    points1: FloatArray,
    scores: FloatArray | None,
    seed: int,
    threshold: float | None,
) -> Geometry:
    if isinstance(pair, HomographyPair):
        return estimate_geometry(
            points0,
            points1,
            "homography",
            size0=pair.size0,
            size1=pair.size1,
            threshold=threshold,
            scores=scores,
            seed=seed,
        )
    return estimate_geometry(
        points0,
        points1,
        "essential",
        size0=pair.size0,
        size1=pair.size1,
        threshold=threshold,
        camera0=pair.camera0,
        camera1=pair.camera1,
        scores=scores,
        seed=seed,
    )


def _error(pair: Pair, geometry: Geometry) -> float:
    if geometry.matrix is None:
        return math.inf
    if isinstance(pair, HomographyPair):
        return corner_error(geometry.matrix, pair.homography_1from0, pair.size0)
    if geometry.rotation_1from0 is None or geometry.translation_1from0 is None:
        return math.inf
    return pose_error(
        geometry.rotation_1from0,
        geometry.translation_1from0,
        pair.rotation_1from0,
        pair.translation_1from0,
    )
