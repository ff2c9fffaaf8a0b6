"""Matches without keypoints made into matches of keypoints, so that tracks form.

Semi-dense matches bring their own points for every pair; where those of several pairs lie close
together in a photo, they are taken to be one keypoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from covis.types import FloatArray, Matches, Matrix

RADIUS = 1.5
"""Pixels around a keypoint within which points are taken to be it."""

Indices = NDArray[np.int64]


def shared_keypoints(
    matches: Sequence[tuple[tuple[str, str], Matches]], radii: Mapping[str, float]
) -> tuple[dict[str, Matrix], list[Indices]]:
    """Gather the points of all pairs' matches into keypoints of the photos.

    matches: of pairs of photos, named. radii: by photo, see `cluster`.
    Returns keypoints (K, 2) by photo, and for each pair its matches as (N, 2) places in them, the
    best first, no keypoint twice.
    """
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, (pair, _) in enumerate(matches):
        for side in (0, 1):
            seen[pair[side]].append((number, side))
    owners: list[list[Indices]] = [[np.empty(0, np.int64)] * 2 for _ in matches]
    keypoints = {}
    for name, sides in seen.items():
        points = [(matches[n][1].points0, matches[n][1].points1)[side] for n, side in sides]
        scores = np.concatenate([matches[n][1].scores for n, _ in sides])
        keypoints[name], owner = cluster(np.concatenate(points), scores, radii[name])
        ends = np.cumsum([len(each) for each in points])
        for (n, side), part in zip(sides, np.split(owner, ends[:-1]), strict=True):
            owners[n][side] = part
    indices = [
        one_to_one(np.column_stack(both), found.scores)
        for (_, found), both in zip(matches, owners, strict=True)
    ]
    return keypoints, indices


def cluster(points: FloatArray, scores: FloatArray, radius: float) -> tuple[Matrix, Indices]:
    """Gather points of one photo into keypoints.

    A point that no better one lies within `radius` of becomes a keypoint, and takes the points
    within the radius along; the others go on among themselves until none is left. All points end
    up within `radius` of their keypoint, and no two keypoints lie closer than that.

    points: (N, 2). scores: (N,), larger is better; of equal ones the first counts.
    Returns keypoints (K, 2) float64, the best first, and for each point its keypoint (N,).
    """
    order = np.argsort(-scores, kind="stable")
    ranked = points[order].astype(np.float64)
    owner = np.full(len(ranked), -1, np.int64)
    cells = np.floor(ranked / radius).astype(np.int64)
    left = np.arange(len(ranked))
    centres: list[Indices] = []
    while len(left):
        best = _best_around(cells[left], left)
        chosen = left[best == left]
        centres.append(chosen)
        owner[left] = _nearest(ranked, cells, left, chosen, radius)
        left = left[owner[left] < 0]
    keypoints = np.sort(np.concatenate([*centres, np.empty(0, np.int64)]))
    assigned = np.empty(len(points), np.int64)
    assigned[order] = np.searchsorted(keypoints, owner)
    return ranked[keypoints], assigned


def one_to_one(indices: Indices, scores: FloatArray) -> Indices:
    """Matches of keypoints (N, 2), the best first, without a second one of any keypoint."""
    ranked = indices[np.argsort(-scores, kind="stable")]
    for side in (0, 1):
        _, first = np.unique(ranked[:, side], return_index=True)
        ranked = ranked[np.sort(first)]
    return ranked


_AROUND = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def _keys(cells: Indices) -> Indices:
    return cells[:, 0] * (2**31) + cells[:, 1]


def _best_around(cells: Indices, ranks: Sequence[int] | Indices) -> Indices:
    """For each point the best rank (the lowest) in its own and the eight neighbouring cells."""
    ranks = np.asarray(ranks)
    occupied, first = np.unique(_keys(cells), return_index=True)
    lowest = ranks[first]
    best = ranks.copy()
    for step in _AROUND:
        wanted = _keys(cells + step)
        at = np.minimum(np.searchsorted(occupied, wanted), len(occupied) - 1)
        best = np.where(occupied[at] == wanted, np.minimum(best, lowest[at]), best)
    return best


def _nearest(
    points: Matrix, cells: Indices, left: Indices, chosen: Indices, radius: float
) -> Indices:
    """For each point that is left the nearest chosen one within the radius, or -1.

    No cell holds two chosen ones.
    """
    keys = _keys(cells[chosen])
    sorting = np.argsort(keys)
    occupied, owners = keys[sorting], chosen[sorting]
    nearest, distance = np.full(len(left), -1, np.int64), np.full(len(left), radius)
    for step in _AROUND:
        wanted = _keys(cells[left] + step)
        at = np.minimum(np.searchsorted(occupied, wanted), len(occupied) - 1)
        apart = np.linalg.norm(points[left] - points[owners[at]], axis=1)
        closer = (occupied[at] == wanted) & (apart < distance)
        nearest[closer], distance[closer] = owners[at][closer], apart[closer]
    return nearest
