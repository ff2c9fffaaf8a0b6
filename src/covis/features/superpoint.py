"""SuperPoint: score map -> keypoints, descriptors sampled at them.

The network sees the image in grey at its size. A pixel i of the image is the point i + 0.5; the
official code reports i: its keypoints are ours less half.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features.network import Network
from covis.features.nms import best_first, bilinear, clear_border, suppress
from covis.features.registry import OneByOne
from covis.types import BoolArray, Features, FloatArray, Image

CELL = 8
RADIUS = 4
BORDER = 4
DIMENSION = 256


class SuperPoint(Network, OneByOne):
    """The SuperPoint of one bundle, on images."""

    THRESHOLD = 0.0005

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """Detect and describe."""
        shape = image.pixels.shape[:2]
        xy, scores = np.empty((0, 2), np.intp), np.empty(0, np.float32)
        descriptors = np.empty((0, DIMENSION), np.float32)
        if min(shape) > 2 * BORDER:
            grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
            heat, cells = self.graphs["detect"](["scores", "descriptors"], image=grey[None, None])
            mask = image.mask
            if mask is not None:
                mask = mask[: heat.shape[0], : heat.shape[1]]
            xy, scores = keypoints(heat, max_keypoints, threshold, mask)
            descriptors = sample_descriptors(cells, xy)
        return self.features(image, shape, xy, scores, descriptors)


def keypoints(
    heat: FloatArray, max_keypoints: int, threshold: float, mask: BoolArray | None = None
) -> tuple[NDArray[np.intp], FloatArray]:
    """The local maxima of the score map (H, W) above the threshold, best first.

    Returns (N, 2) integer pixels (x, y) and their scores. The four outermost rows and columns
    have none, nor has the mask (H, W) where it is True.
    """
    found = suppress(heat, RADIUS) & (heat > threshold)
    clear_border(found, BORDER)
    if mask is not None:
        found &= ~mask
    flat = np.flatnonzero(found)
    scores = heat.ravel()[flat]
    order = best_first(scores, max_keypoints)
    width = heat.shape[1]
    return np.column_stack([flat[order] % width, flat[order] // width]), scores[order]


def sample_descriptors(cells: FloatArray, xy: NDArray[np.intp]) -> FloatArray:
    """Descriptors of cells (h, w, D) at pixels (N, 2), bilinear: (N, D) of unit length.

    The official code places pixel x at (x - 3.5) / (8 w - 4.5) of the way from the centre of the
    first cell to the centre of the last, half a cell short of the border; so does this.
    """
    last = np.array(cells.shape[1::-1]) - 1
    places = (xy - (CELL - 1) / 2) / (CELL * (last + 1) - (CELL + 1) / 2) * last
    sampled = bilinear(cells, places.astype(np.float32))
    return sampled / np.maximum(np.linalg.norm(sampled, axis=1, keepdims=True), 1e-12)
