"""Polygons in pictures: (N, 2) points (x, y), either way round.

cv2.intersectConvexConvex is not used: it halves areas where edges coincide, as those of a picture
and a part of it do.
"""

from __future__ import annotations

import numpy as np

from covis.types import Matrix

Box = tuple[float, float, float, float]
"""x, y, width, height."""


def clipped(polygon: Matrix, box: Box) -> Matrix:
    """The part of a convex polygon that lies in a box; (0, 2) where none does."""
    x, y, width, height = box
    for axis, sign, offset in ((0, 1, -x), (0, -1, x + width), (1, 1, -y), (1, -1, y + height)):
        kept: list[Matrix] = []
        for place, point in enumerate(polygon):
            before = polygon[place - 1]
            here, there = (sign * each[axis] + offset for each in (point, before))
            if (here < 0) != (there < 0):
                kept.append(point + (before - point) * (here / (here - there)))
            if here >= 0:
                kept.append(point)
        polygon = np.array(kept, np.float64).reshape(-1, 2)
    return polygon


def area(polygon: Matrix) -> float:
    """In square pixels; 0 for fewer than three points."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def box_around(polygon: Matrix) -> Box:
    """The upright box around one or more points."""
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def corners(box: Box) -> Matrix:
    """(4, 2), clockwise from the top left."""
    x, y, width, height = box
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)
