"""SuperPoint: score map -> keypoints, descriptors sampled at them.

The network sees the image in grey at its size. A pixel i of the image is the point i + 0.5; the
official code reports i: its keypoints are ours less half.

A picture above `tiles.LARGE` pixels is seen in tiles: its features are those of the whole.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features.network import Network
from covis.features.nms import best_first, bilinear, suppress
from covis.features.registry import OneByOne
from covis.features.tiles import LARGE, Best, Tile, tiles, whole
from covis.types import BoolArray, Features, FloatArray, Image

CELL = 8
RADIUS = 4
BORDER = 4
DIMENSION = 256
MARGIN = 96
"""Pixels around a tile: the network sees some 50, suppression decides by 20 beyond."""
TILE = 600_000
"""Pixels of a tile, at some 600 bytes each."""


class SuperPoint(Network, OneByOne):
    """The SuperPoint of one bundle, on images."""

    THRESHOLD = 0.0005

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """Detect and describe."""
        shape = image.pixels.shape[:2]
        if min(shape) <= 2 * BORDER:
            nowhere, none = np.empty((0, 2), np.intp), np.empty(0, np.float32)
            return self.features(image, shape, nowhere, none, np.empty((0, DIMENSION), np.float32))
        # The network has nothing for what is less than a cell, but sees it.
        cells = shape[0] // CELL * CELL, shape[1] // CELL * CELL
        best = Best(max_keypoints)
        large = shape[0] * shape[1] > LARGE
        for tile in tiles(cells, MARGIN, TILE) if large else [whole(cells)]:
            top, left, bottom, right = tile.seen
            part = image.pixels[
                top : shape[0] if bottom == cells[0] else bottom,
                left : shape[1] if right == cells[1] else right,
            ]
            grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
            heat, maps = self.graphs["detect"](["scores", "descriptors"], image=grey[None, None])
            xy, scores = keypoints(heat, max_keypoints, threshold, tile.of(image.mask), tile)
            some = best.promising(scores)
            xy, scores = xy[some], scores[some]
            best.add(xy + tile.origin, scores, sample_descriptors(maps, xy, tile))
        return self.features(image, shape, best.xy, best.scores, *best.more)


def keypoints(
    heat: FloatArray,
    max_keypoints: int,
    threshold: float,
    mask: BoolArray | None = None,
    tile: Tile | None = None,
) -> tuple[NDArray[np.intp], FloatArray]:
    """The local maxima of the score map (H, W) above the threshold, best first.

    Returns (N, 2) integer pixels (x, y) and their scores. The four outermost rows and columns
    have none, nor has the mask (H, W) where it is True. tile: whose map this is, where it is not
    the whole picture's; its own pixels alone are looked at.
    """
    found = suppress(heat, RADIUS) & (heat > threshold)
    (tile or whole(heat.shape)).leave_out(found, BORDER)
    if mask is not None:
        found &= ~mask
    flat = np.flatnonzero(found)
    scores = heat.ravel()[flat]
    order = best_first(scores, max_keypoints)
    width = heat.shape[1]
    return np.column_stack([flat[order] % width, flat[order] // width]), scores[order]


def sample_descriptors(
    cells: FloatArray, xy: NDArray[np.intp], tile: Tile | None = None
) -> FloatArray:
    """Descriptors of cells (h, w, D) at pixels (N, 2), bilinear: (N, D) of unit length.

    The official code places pixel x at (x - 3.5) / (8 w - 4.5) of the way from the centre of the
    first cell to the centre of the last, half a cell short of the border; so does this. tile:
    whose cells these are, where they are not the whole picture's.
    """
    tile = tile or whole([CELL * side for side in cells.shape[:2]])
    last = np.array(tile.whole[::-1]) // CELL - 1
    places = (xy + tile.origin - (CELL - 1) / 2) / (CELL * (last + 1) - (CELL + 1) / 2) * last
    places -= tile.origin // CELL
    sampled = bilinear(cells, places.astype(np.float32))
    return sampled / np.maximum(np.linalg.norm(sampled, axis=1, keepdims=True), 1e-12)
