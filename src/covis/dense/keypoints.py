"""Which place of one image shows the same part as a place of another (LiFT, section 4.1)."""

from __future__ import annotations

import numpy as np

from covis.dense.features import DenseFeatures
from covis.types import FloatArray

CHUNK = 1 << 24
"""Similarities held at a time."""


def transfer(
    source: DenseFeatures, target: DenseFeatures, points: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Carry places (N, 2) of one image to another, in full-size pixels of each.

    Each goes to the cell whose descriptor is most alike, by the cosine: (N, 2) and the cosines
    (N,). Of cells equally alike it is the uppermost, then the leftmost.
    """
    descriptors = source.at(points)
    cells = target.descriptors.reshape(-1, target.descriptors.shape[2])
    best = np.empty(len(descriptors), np.intp)
    cosines = np.empty(len(descriptors), np.float32)
    rows = max(CHUNK // len(cells), 1)
    for begin in range(0, len(descriptors), rows):
        block = slice(begin, begin + rows)
        alike = descriptors[block] @ cells.T
        best[block] = alike.argmax(axis=1)
        cosines[block] = alike[np.arange(len(alike)), best[block]]
    return target.points.reshape(-1, 2)[best], cosines


def pck(found: FloatArray, truth: FloatArray, side: float, alpha: float = 0.1) -> float:
    """The share of places (N, 2) within alpha * side of where they belong, in 0..1.

    side: the longer one of the target's box, in pixels.
    """
    errors = np.linalg.norm(np.asarray(found, np.float64) - truth, axis=1)
    return float((errors <= alpha * side).mean())
