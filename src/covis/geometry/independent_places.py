"""How many independent places agree on a model, where neighbouring keypoints agree together.

Keypoints of one corner are right or wrong together; counted as many, they make knots of chance
matches look like evidence. So places are counted, not points: square cells, PLACES along the longer
side, of the picture where they are fewer.
"""

from __future__ import annotations

import numpy as np

from covis.geometry.two_view import log10_false_alarms
from covis.types import BoolArray, FloatArray, GeometryKind, Matrix

PLACES = 32
"""Along a picture's longer side. Of 500 pairs of unrelated photographs at 480 pixels, nearest
neighbours, the most surprising had 13 at 48 a side, 9 at 32 and 2 at 16; of 60 pairs of views of
one photograph 53, 53 and 50 had more."""
GRID = 8
"""Cells along each side of a picture whose coverage is counted."""


def covered_surprise(
    kind: GeometryKind,
    points0: FloatArray,
    points1: FloatArray,
    inliers: BoolArray,
    threshold: float,
    size0: tuple[int, int],
    size1: tuple[int, int],
) -> float:
    """-log10 of how many models with as many agreeing places chance would bring, at least 0, by
    the share of the pictures that the inliers cover.

    kind: not "none". points0, points1: (N, 2), of all matches, at least one, in pixels. inliers:
    (N,) bool. threshold: in pixels, that of the inliers. size0, size1: (width, height) in pixels.
    """
    both = ((points0, size0), (points1, size1))
    places = min(_places(points, size) for points, size in both)
    agreeing = min(_places(points[inliers], size) for points, size in both)
    alarms = log10_false_alarms(
        kind, places, agreeing, threshold, size0, size1, matches_each=len(points0) / places
    )
    return max(-alarms, 0.0) * min(coverage(points[inliers], size) for points, size in both)


def coverage(points: FloatArray, size: tuple[int, int]) -> float:
    """The share of a picture's cells, GRID a side, that (N, 2) points lie in, 0..1."""
    return _cells(points * (GRID / np.array(size)), GRID) / GRID**2


def _places(points: FloatArray, size: tuple[int, int]) -> int:
    """In how many square cells, PLACES along the longer side, (N, 2) points lie."""
    return _cells(points * (PLACES / max(size)), PLACES)


def _cells(places: Matrix | FloatArray, most: int) -> int:
    """In how many cells (N, 2) places lie, given in cells. most: cells along a side."""
    cells = np.clip(places, 0, most - 1).astype(np.int64)
    return len(np.unique(cells[:, 0] * most + cells[:, 1]))
