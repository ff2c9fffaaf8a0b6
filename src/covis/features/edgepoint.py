"""EdgePoint2: score map -> keypoints, descriptors sampled at them (arXiv 2504.17280).

The network sees the image in grey at its size, with zero mean and unit variance, its right and
lower border repeated up to multiples of 32. A pixel i of the image is the point i + 0.5, and so is
a cell i of the descriptors, counted in cells of four pixels. The published code reports whole
pixels; here a parabola through a maximum and its neighbours says where between them it lies.

A picture above `tiles.LARGE` pixels is seen in tiles, normalised by the mean and variance of the
whole: its features are those of the whole to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features.network import Network, batches
from covis.features.nms import best_first, bilinear
from covis.features.tiles import LARGE, Best, Grey, Tile, statistics, tiles, whole
from covis.images.decode import to_grey
from covis.types import BoolArray, Features, FloatArray, Image

SIZE_MULTIPLE = 32
CELL = 4
NMS_WINDOW = np.ones((5, 5), np.uint8)
BORDER = 4
NORM_EPSILON = 1e-5
MARGIN = 128
"""Pixels around a tile: the network sees 118, a descriptor is sampled up to four beyond."""
TILE = 1_700_000
"""Pixels of a tile, at some 180 bytes each."""


class EdgePoint(Network):
    """The EdgePoint2 of one bundle, on images."""

    THRESHOLD = float(1 / (1 + np.exp(5.0)))
    """The published one is a logit of -5."""

    def sparse(
        self, images: Sequence[Image], max_keypoints: int, threshold: float
    ) -> list[Features]:
        """Detect and describe; images of one network size go through it a few together."""
        small = [i for i, image in enumerate(images) if image.pixels[..., 0].size <= LARGE]
        results: dict[int, Features] = {}
        for members, batch in batches([network_input(to_grey(images[i])) for i in small]):
            maps = self.graphs["detect"](["scores", "descriptors"], image=batch)
            for member, padded, cells in zip(members, *maps, strict=True):
                image = images[small[member]]
                height, width = image.pixels.shape[:2]
                logits = np.ascontiguousarray(padded[:height, :width])
                xy, scores = keypoints(logits, max_keypoints, threshold, image.mask)
                exact = between_pixels(logits, xy)
                descriptors = sample_descriptors(cells, xy)
                results[small[member]] = self.features(
                    image, logits.shape, exact, scores, descriptors
                )
        for i in set(range(len(images))) - set(small):
            results[i] = self._in_tiles(images[i], max_keypoints, threshold)
        return [results[index] for index in range(len(images))]

    def _in_tiles(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        grey, best = Grey(image), Best(max_keypoints)
        given = statistics(grey)
        for tile in tiles(grey.shape, MARGIN, TILE):
            part = network_input(grey.crop(*tile.seen), given)[None, None]
            padded, cells = self.graphs["detect"](["scores", "descriptors"], image=part)
            height, width = tile.shape
            logits = np.ascontiguousarray(padded[0, :height, :width])
            xy, scores = keypoints(logits, max_keypoints, threshold, tile.of(image.mask), tile)
            some = best.promising(scores)
            xy, scores = xy[some], scores[some]
            exact = between_pixels(logits, xy, tile)
            best.add(xy + tile.origin, scores, exact, sample_descriptors(cells[0], xy))
        exact, descriptors = best.more
        return self.features(image, grey.shape, exact, best.scores, descriptors)


def network_input(grey: FloatArray, given: tuple[float, float] | None = None) -> FloatArray:
    """(h, w) -> zero mean, unit variance, padded at the right and below to multiples of 32.

    given: mean and variance of the picture that this is part of.
    """
    centred = grey - (grey.mean(dtype=np.float64) if given is None else np.float64(given[0]))
    variance = np.vdot(centred, centred) / centred.size if given is None else given[1]
    normal = np.empty(grey.shape, np.float32)
    np.divide(centred, np.sqrt(variance + NORM_EPSILON), out=normal, casting="same_kind")
    below, beside = (-side % SIZE_MULTIPLE for side in grey.shape)
    if not below and not beside:
        return normal
    padded = cv2.copyMakeBorder(normal, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.float32)


def keypoints(
    logits: FloatArray,
    max_keypoints: int,
    threshold: float,
    mask: BoolArray | None = None,
    tile: Tile | None = None,
) -> tuple[NDArray[np.intp], FloatArray]:
    """The largest of each 5x5 neighbourhood of the map (H, W) above the threshold, best first.

    Returns (N, 2) integer pixels (x, y) and their scores in 0..1, which the threshold counts in.
    The four outermost rows and columns have none, nor has the mask (H, W) where it is True. tile:
    whose map this is, where it is not the whole picture's; its own pixels alone are looked at.
    """
    found = logits == cv2.dilate(logits, NMS_WINDOW)
    (tile or whole(logits.shape)).leave_out(found, BORDER)
    if mask is not None:
        found &= ~mask
    flat = np.flatnonzero(found)
    scores = (1 / (1 + np.exp(-logits.ravel()[flat], dtype=np.float64))).astype(np.float32)
    kept = scores > threshold
    flat, scores = flat[kept], scores[kept]
    order = best_first(scores, max_keypoints)
    width = logits.shape[1]
    return np.column_stack([flat[order] % width, flat[order] // width]), scores[order]


def between_pixels(
    logits: FloatArray, xy: NDArray[np.intp], tile: Tile | None = None
) -> FloatArray:
    """Where maxima (N, 2) of the map (H, W), none at its border, lie: (N, 2) float32.

    tile: whose map this is; the places are counted in the whole.
    """
    x, y = xy.T
    here = logits[y, x]
    steps = []
    for right, down in ((1, 0), (0, 1)):
        before, after = logits[y - down, x - right], logits[y + down, x + right]
        curvature = 2 * here - before - after
        slope = after - before
        steps.append(slope / np.maximum(2 * curvature, np.float32(1e-6)))
    # Short of the next pixel, which may be masked.
    exact = xy + np.clip(np.column_stack(steps), -0.49, 0.49)
    return (exact if tile is None else exact + tile.origin).astype(np.float32)


def sample_descriptors(cells: FloatArray, xy: NDArray[np.intp]) -> FloatArray:
    """Descriptors of cells (h, w, D) at pixels (N, 2), bilinear: (N, D) of unit length.

    Beyond the centres of the outermost cells these count.
    """
    places = np.clip((xy + 0.5) / CELL - 0.5, 0, np.array(cells.shape[1::-1]) - 1)
    sampled = bilinear(cells, places.astype(np.float32))
    return sampled / np.maximum(np.linalg.norm(sampled, axis=1, keepdims=True), 1e-12)
