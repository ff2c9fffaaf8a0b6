"""How well features match pairs rendered from held-out photos: what picks the best weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.evaluation.metrics.pose import area_under_curve, corner_error
from covis.features import Extractor
from covis.geometry import estimate_geometry
from covis.matching.nearest import mutual_nearest
from covis.training.data.synthetic import CELL, Difficulty, Pair, pixel_grid, render_pair

KEYPOINTS = 1000
"""Features of a view, at most."""
CORRECT_WITHIN = 3.0
"""Pixels between a match and the truth."""
THRESHOLDS = (3, 5, 7)
"""Pixels of corner error under which the area is taken, as in the tables of XFeat's paper."""
ENOUGH_CELLS = 16
"""A pair that shows fewer cells in common has no homography to find."""

Extract = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float64], NDArray[np.float32]]]
"""A grey view (S, S) -> keypoints (N, 2), the centre of the top-left pixel at 0, and descriptors
(N, D) of unit length; `KEYPOINTS` at most."""


@dataclass(frozen=True)
class PairSet:
    """Which pairs are matched, and by what they measure.

    Flat ones, of one plane, by the area under the curve of the corner error, mean over
    `THRESHOLDS`; others by the share of the keypoints that find their right counterpart.
    """

    difficulty: Difficulty
    flat: bool
    stream: int
    """Tells its random numbers from other sets'."""
    size: int
    """Of a view's sides, pixels."""


def bundle_features(extractor: Extractor) -> Extract:
    """Features as the runtime extracts them, to compare with."""

    def extract(view: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        found = extractor(view)
        return np.asarray(found.keypoints - 0.5, np.float64), found.descriptors

    return extract


def validate(
    extract: Extract,
    photos: list[NDArray[Any]],
    sets: Mapping[str, PairSet],
    seed: int,
    pairs: int = 24,
) -> dict[str, float]:
    """Match `pairs` pairs of each set by mutual nearest neighbours.

    Returns for each set's name what it measures, in 0..1, and their mean, "score".
    """
    result: dict[str, float] = {}
    for name, each in sets.items():
        values = []
        for index in range(pairs):
            rng = np.random.default_rng((seed, index, each.stream))
            pair = render_pair(photos, each.size, each.difficulty, rng)
            (xy0, descriptors0), (xy1, descriptors1) = (extract(view) for view in pair.views)
            indices, _ = mutual_nearest(descriptors0, descriptors1)
            matched = xy0[indices[:, 0]], xy1[indices[:, 1]]
            if each.flat:
                values.append(_error(pair, *matched))
            else:
                values.append(_correct(pair, *matched) / KEYPOINTS)
        if each.flat:
            result[name] = float(np.mean([area_under_curve(values, t) for t in THRESHOLDS]))
        else:
            result[name] = float(np.mean(values))
    result["score"] = float(np.mean(list(result.values())))
    return result


def _error(pair: Pair, points0: NDArray[np.float64], points1: NDArray[np.float64]) -> float:
    """The corner error in pixels of the homography found."""
    if pair.visible.sum() < ENOUGH_CELLS:
        return float("inf")
    side = pair.views.shape[-1]
    # From the middle of pixels to OpenCV's and the renderer's corners: both shift alike.
    cells = pixel_grid(side)[::CELL, ::CELL]
    truth, _ = cv2.findHomography(pair.points0[pair.visible], cells[pair.visible])
    size = (side, side)
    found = estimate_geometry(points0, points1, "homography", size0=size, size1=size)
    if found.matrix is None or truth is None:
        return float("inf")
    return corner_error(found.matrix, np.asarray(truth, np.float64), size)


def _correct(pair: Pair, points0: NDArray[np.float64], points1: NDArray[np.float64]) -> int:
    """How many matches lie where the cells around them say; none where one is hidden."""
    if not len(points1):
        return 0
    x, y = (points1 / CELL).astype(np.float32).T[:, :, None]
    truth = cv2.remap(pair.points0, x, y, cv2.INTER_LINEAR)[:, 0]
    seen = cv2.remap(pair.visible.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0]
    close = np.linalg.norm(truth - points0, axis=1) <= CORRECT_WITHIN
    return int((close & (seen > 0.999)).sum())
