"""ALIKED: score map -> keypoints, descriptors at them (arXiv 2304.03608).

The network sees the image at its size, padded to multiples of 32 with its border. A pixel i of
the image is the point i + 0.5; the official code reports i: its keypoints are ours less half.
"""

from __future__ import annotations

import cv2
import numpy as np

from covis.features.network import Network
from covis.features.nms import best_first, bilinear, suppress
from covis.features.registry import OneByOne
from covis.features.tiles import LARGE, Best, Tile, tiles, whole
from covis.types import Features, FloatArray, Image

SIZE_MULTIPLE = 32
RADIUS = 2
TEMPERATURE = 0.1
MAPS = ("map0", "map1", "map2", "map3")
BLOCK = 512
"""Keypoints described at a time: memory grows with these."""
MARGIN = 256
"""Pixels around a tile: the network sees some 200, unless its offsets reach far."""
TILE = 1_000_000
"""Pixels of a tile, at some 300 bytes each."""


class Aliked(Network, OneByOne):
    """The ALIKED of one bundle, on images."""

    THRESHOLD = 0.2
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
        above, left, below, right = tile.seen
        part = image.pixels[above:below, left:right]
        left, right, top, bottom = (*_halves(-width), *_halves(-height))
        padded = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
        heat, *maps = self.graphs["detect"](["scores", *MAPS], pixels=np.asarray(padded, np.uint8))
        heat = np.ascontiguousarray(heat[top : top + height, left : left + width])
        xy, scores = keypoints(heat, threshold, tile)
        if image.mask is not None:
            x, y = (xy + tile.origin + np.float32(0.5)).astype(np.intp).T
            free = ~image.mask[y, x]
            xy, scores = xy[free], scores[free]
        order = best_first(scores, best.count)
        order = order[best.promising(scores[order])]
        xy, scores = xy[order], scores[order]
        descriptors = np.empty((len(xy), sum(level.shape[-1] for level in maps)), np.float32)
        for begin in range(0, len(xy), BLOCK):
            block = slice(begin, begin + BLOCK)
            (descriptors[block],) = self.graphs["describe"](
                ["descriptors"],
                keypoints=xy[block],
                box=np.array([left, top, width, height], np.int64),
                **dict(zip(MAPS, maps, strict=True)),
            )
        best.add((xy + tile.origin).astype(np.float32), scores, descriptors)


def _halves(side: int) -> tuple[int, int]:
    """What to add before and after a side of -`side` pixels to make it a multiple of 32."""
    missing = side % SIZE_MULTIPLE
    return missing // 2, missing - missing // 2


def keypoints(
    heat: FloatArray, threshold: float, tile: Tile | None = None
) -> tuple[FloatArray, FloatArray]:
    """Local maxima of the score map (H, W) above the threshold, finer than a pixel.

    Returns (N, 2) float32 (x, y), the centre of the top-left pixel at 0, and the map there (N,),
    from the top row to the bottom one. A maximum moves to the mean of its 5x5 neighbourhood,
    weighted by the softmax of the scores with temperature 0.1. The two outermost rows and
    columns have none. tile: whose map this is; its own maxima alone are taken.
    """
    found = suppress(heat, RADIUS) & (heat > threshold)
    (tile or whole(heat.shape)).leave_out(found, RADIUS)
    y, x = np.nonzero(found)
    steps = np.arange(-RADIUS, RADIUS + 1)
    patches = heat[y[:, None, None] + steps[:, None], x[:, None, None] + steps]
    largest = patches.max(axis=(1, 2), keepdims=True, initial=0)
    weights = np.exp((patches - largest) / np.float32(TEMPERATURE))
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    across, down = weights.sum(axis=1) @ steps, weights.sum(axis=2) @ steps
    xy = np.column_stack([x + across, y + down]).astype(np.float32)
    return xy, bilinear(heat[..., None], xy)[:, 0]
