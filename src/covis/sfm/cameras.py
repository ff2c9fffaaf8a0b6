"""Cameras as COLMAP has them, and points in the pixel frame that it sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from covis.types import Matrix

# EXIF orientation: how the upright picture's pixel (x, y) of one of size (w, h) lies in the file.
_TURNS = {2: "x", 3: "xy", 4: "y", 5: "t", 6: "ty", 7: "txy", 8: "tx"}


def file_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of the file's pixels, from the upright picture's."""
    return size[::-1] if orientation >= 5 else size


def to_file(points: ArrayLike, size: tuple[int, int], orientation: int) -> Matrix:
    """Points of the upright picture in the pixels as the file has them, (N, 2) float64.

    size: (width, height) of the upright picture. orientation: EXIF's, 1 for nothing to do.
    """
    turned = np.array(points, np.float64).reshape(-1, 2)
    turns = _TURNS.get(orientation, "")
    width, height = file_size(size, orientation)
    if "t" in turns:
        turned = turned[:, ::-1].copy()
    if "x" in turns:
        turned[:, 0] = width - turned[:, 0]
    if "y" in turns:
        turned[:, 1] = height - turned[:, 1]
    return turned


def to_upright(points: ArrayLike, size: tuple[int, int], orientation: int) -> Matrix:
    """The opposite of `to_file`; size is the upright picture's, too."""
    turned = np.array(points, np.float64).reshape(-1, 2)
    turns = _TURNS.get(orientation, "")
    width, height = file_size(size, orientation)
    if "x" in turns:
        turned[:, 0] = width - turned[:, 0]
    if "y" in turns:
        turned[:, 1] = height - turned[:, 1]
    return turned[:, ::-1].copy() if "t" in turns else turned
