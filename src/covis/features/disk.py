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
from covis.types import Features, Image

SIZE_MULTIPLE = 16
WINDOW = np.ones((5, 5), np.uint8)
DIMENSION = 128
BLOCK = 512
"""Keypoints described at a time: memory grows with these."""


class Disk(Network, OneByOne):
    """The DISK of one bundle, on images."""

    THRESHOLD = 0.0
    """Scores are logits."""
    ROLES = ("detect", "describe")

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """Detect and describe."""
        height, width = image.pixels.shape[:2]
        below, beside = -height % SIZE_MULTIPLE, -width % SIZE_MULTIPLE
        if max(height, width) <= SIZE_MULTIPLE:
            # A norm over the one pixel that is left of it says nothing.
            beside += SIZE_MULTIPLE
        padded = cv2.copyMakeBorder(image.pixels, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        heat, features = self.graphs["detect"](
            ["scores", "features"], pixels=np.asarray(padded, np.uint8)
        )
        heat = np.ascontiguousarray(heat[:height, :width])
        # As published: the largest of its window alone, none of what those leave.
        found = (heat == cv2.dilate(heat, WINDOW)) & (heat > threshold)
        if image.mask is not None:
            found &= ~image.mask
        flat = np.flatnonzero(found)
        flat = flat[best_first(heat.ravel()[flat], max_keypoints)]
        xy = np.column_stack([flat % width, flat // width])
        descriptors = np.empty((len(xy), DIMENSION), np.float32)
        for begin in range(0, len(xy), BLOCK):
            block = slice(begin, begin + BLOCK)
            (descriptors[block],) = self.graphs["describe"](
                ["descriptors"], features=features, keypoints=xy[block]
            )
        return self.features(image, heat.shape, xy, heat.ravel()[flat], descriptors)
