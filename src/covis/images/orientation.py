"""Pictures turned by quarters, and points of them in the upright picture again.

Features are found for one way up: a picture that was taken with the camera on its side is turned
first, and what was found in it is turned back. Turns are clockwise, as seen, in degrees.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from covis.types import FloatArray, Image

TURNS = (90, 180, 270)

_CODES = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def turn_image(image: Image, turn: int) -> Image:
    """The picture and its mask, turned; 0 for as it is."""
    if turn == 0:
        return image
    pixels = np.asarray(cv2.rotate(image.pixels, _CODES[turn]), np.uint8)
    mask = image.mask
    if mask is not None:
        mask = cv2.rotate(mask.astype(np.uint8), _CODES[turn]).astype(np.bool_)
    size = (image.width, image.height) if turn == 180 else (image.height, image.width)
    return replace(image, pixels=pixels, mask=mask, width=size[0], height=size[1])


def turn_back(points: FloatArray, turn: int, size: tuple[int, int]) -> FloatArray:
    """Points of a turned picture, in the picture as it was: (N, 2) full-size pixels both.

    size: (width, height) of the turned picture.
    """
    (x, y), (width, height) = points.T, size
    if turn == 0:
        return points
    if turn == 90:
        x, y = y, width - x
    elif turn == 180:
        x, y = width - x, height - y
    else:
        x, y = height - y, x
    return np.column_stack([x, y]).astype(np.float32)
