"""DISK: score map -> keypoints, descriptors at them (arXiv 2006.13566).

The network sees the image at its size, padded with black to multiples of 16 at the right and at
the bottom. A pixel i of the image is the point i + 0.5; the official code reports i: its
keypoints are ours less half.
"""

from __future__ import annotations

import cv2
import numpy as np

from covis.features.network import Network
from covis.features.nms import best_first
from covis.features.registry import OneByOne
from covis.features.tiles import LARGE, Best, Tile, tiles, whole
from covis.types import Features, Image

SIZE_MULTIPLE = 16
WINDOW = np.ones((5, 5), np.uint8)
DIMENSION = 128
BLOCK = 512
"""Keypoints described at a time: memory grows with these."""
MARGIN = 256
"""Pixels around a tile."""
TILE = 1_000_000
"""Pixels of a tile."""


class Disk(Network, OneByOne):
    """The DISK of one bundle, on images."""

    THRESHOLD = 0.0
    """Scores are logits."""
    ROLES = ("detect", "describe")

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """Detect and describe."""
        height, width = image.pixels.shape[:2]
        shape, best = (height, width), Best(max_keypoints)
        for tile in tiles(shape, MARGIN, TILE) if height * width > LARGE else [whole(shape)]:
            self._add(best, image, tile, threshold)
        return self.features(image, shape, best.xy, best.scores, *best.more)

    def _add(self, best: Best, image: Image, tile: Tile, threshold: float) -> None:
        """What a tile has."""
        height, width = tile.shape
        top, left, bottom, right = tile.seen
        part = image.pixels[top:bottom, left:right]
        below, beside = -height % SIZE_MULTIPLE, -width % SIZE_MULTIPLE
        if max(height, width) <= SIZE_MULTIPLE:
            # A norm over the one pixel that is left of it says nothing.
            beside += SIZE_MULTIPLE
        padded = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        heat, features = self.graphs["detect"](
            ["scores", "features"], pixels=np.asarray(padded, np.uint8)
        )
        heat = np.ascontiguousarray(heat[:height, :width])
        # As published: the largest of its window alone, none of what those leave.
        found = (heat == cv2.dilate(heat, WINDOW)) & (heat > threshold)
        tile.leave_out(found)
        if image.mask is not None:
            found &= ~image.mask[top:bottom, left:right]
        flat = np.flatnonzero(found)
        flat = flat[best_first(heat.ravel()[flat], best.count)]
        flat = flat[best.promising(heat.ravel()[flat])]
        xy = np.column_stack([flat % width, flat // width])
        descriptors = np.empty((len(xy), DIMENSION), np.float32)
        for begin in range(0, len(xy), BLOCK):
            block = slice(begin, begin + BLOCK)
            (descriptors[block],) = self.graphs["describe"](
                ["descriptors"], features=features, keypoints=xy[block]
            )
        best.add(xy + tile.origin, heat.ravel()[flat], descriptors)
