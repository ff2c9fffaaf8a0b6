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
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.evaluation.datasets.pairs import HomographyPair, Pair, PairSet
from covis.evaluation.estimators import estimate
from covis.evaluation.metrics.pose import area_under_curve, corner_error, pose_error, share_under
from covis.types import FloatArray, Geometry, Matches, Matrix

MatchedPoints = Matches | tuple[FloatArray, FloatArray]
"""Matches, or (N, 2) points of image 0 and of image 1."""

THRESHOLDS: Mapping[str, tuple[int, int, int]] = {"homography": (3, 5, 7), "pose": (5, 10, 20)}
"""Where errors are summed up: pixels of image 1, or degrees."""


class Setup(NamedTuple):
    """How matches become a geometry; see `covis.evaluation.estimators`.

    threshold: in the pair's pixels; None for `default_threshold`.
    """

    estimator: str = "poselib-prosac"
    threshold: float | None = None


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
        return self.areas(THRESHOLDS[self.kind])

    @property
    def share(self) -> dict[int, float]:
        """Threshold -> share of pairs with at most that error, 0..1."""
        return self.shares(THRESHOLDS[self.kind])

    def areas(self, thresholds: Sequence[int]) -> dict[int, float]:
        """As `auc`, at other thresholds."""
        return {t: self._mean_over_seeds(area_under_curve, t) for t in thresholds}

    def shares(self, thresholds: Sequence[int]) -> dict[int, float]:
        """As `share`, at other thresholds."""
        return {t: self._mean_over_seeds(share_under, t) for t in thresholds}

    @property
    def median_error(self) -> float:
        """Median over pairs of the median over seeds."""
        return float(np.median(np.median(self.errors, axis=1)))

    def _mean_over_seeds(self, measure: Callable[[Matrix, float], float], at: float) -> float:
        return float(np.mean([measure(errors, at) for errors in self.errors.T]))


def evaluate_setups(
    match: Callable[[Pair], MatchedPoints],
    pair_set: PairSet,
    setups: Iterable[Setup],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    report: Callable[[], None] = lambda: None,
) -> dict[Setup, TwoViewResult]:
    """Match every pair of a set once, and estimate its geometry in several ways.

    match: gives points in the pair's pixels. report: is called after each pair.
    """
    setups = list(setups)
    matches: list[int] = []
    errors: dict[Setup, list[list[float]]] = {setup: [] for setup in setups}
    inliers: dict[Setup, list[list[int]]] = {setup: [] for setup in setups}
    for pair in pair_set.pairs:
        found = match(pair)
        points0, points1, scores = (
            (found.points0, found.points1, found.scores)
            if isinstance(found, Matches)
            else (*found, None)
        )
        matches.append(len(points0))
        for setup in setups:
            geometries = [
                estimate(setup.estimator, pair, points0, points1, scores, setup.threshold, seed)
                for seed in seeds
            ]
            errors[setup].append([_error(pair, geometry) for geometry in geometries])
            inliers[setup].append([int(geometry.inliers.sum()) for geometry in geometries])
        report()
    counts = np.array(matches)
    name, kind = pair_set.name, pair_set.kind
    return {
        setup: TwoViewResult(name, kind, np.array(errors[setup]), counts, np.array(inliers[setup]))
        for setup in setups
    }


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
