"""Picture 1 as it would look in the place of picture 0."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.draw.canvas import Size, save_picture
from covis.geometry.alignment import Alignment
from covis.types import Image

OPAQUE = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".ppm", ".pgm", ".pnm"))
"""Suffixes of formats that know no transparency, or not everywhere."""
BAND = 256
"""Rows that are made at a time, for memory."""


def warp_onto(image1: Image, alignment: Alignment, size: Size | None = None) -> NDArray[np.uint8]:
    """Image 1 laid onto image 0: (h, w, 4) uint8, RGB and opacity, 0 where it shows nothing.

    image1: its pixels may be smaller than full size. size: (width, height) of the result, which
        stands for all of image 0; its full size where left out.
    """
    width, height = size or alignment.size0
    scale0 = np.array(alignment.size0) / (width, height)
    rows1, columns1 = image1.pixels.shape[:2]
    scale1 = np.array([columns1 / image1.width, rows1 / image1.height])
    shown = np.zeros((height, width), np.uint8)
    if len(alignment.outline) > 2:
        outline = np.rint((alignment.outline / scale0 - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(shown, outline, 255, cv2.LINE_8, 4)
    warped = np.zeros((height, width, 4), np.uint8)
    for top in range(0, height, BAND):
        below = min(top + BAND, height)
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(top, below) + 0.5)
        places = alignment.to_image1(np.column_stack([x.ravel(), y.ravel()]) * scale0) * scale1
        inside = ((places >= 0) & (places <= (columns1, rows1))).all(axis=1)
        at = np.where(inside[:, None], places - 0.5, -1).astype(np.float32)
        x1, y1 = at.T.reshape(2, below - top, width)
        border = cv2.BORDER_REPLICATE
        seen = cv2.remap(image1.pixels, x1, y1, cv2.INTER_LINEAR, borderMode=border)
        opaque = (inside.reshape(below - top, width) & (shown[top:below] > 0)).astype(np.uint8)
        warped[top:below, :, :3] = seen * opaque[:, :, None]
        warped[top:below, :, 3] = 255 * opaque
    return warped


def save_warped(warped: NDArray[np.uint8], path: str | os.PathLike[str]) -> None:
    """Write what `warp_onto` made; what shows nothing is transparent, or black where the format
    knows no transparency. Raises ImageError as `save_picture` does."""
    opaque = Path(path).suffix.lower() in OPAQUE
    save_picture(warped[:, :, :3] if opaque else warped, path)
