"""SIFT from OpenCV, as root-SIFT: the classical features to compare with.

A picture above `tiles.LARGE` pixels is seen in tiles, for what is up to `COARSE` pixels large: such
features are those of the whole. Larger ones are found in the picture shrunk to the size of a tile:
about, not exactly, those of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features.registry import OneByOne
from covis.features.tiles import LARGE, Best, tiles
from covis.types import BoolArray, Features, Image

COARSE = 32.0
"""Diameter of a feature, in pixels, up to which it is found in tiles: a descriptor reaches 5.3 of
these far."""
MARGIN = 256
"""Pixels around a tile."""
TILE = 1_500_000
"""Pixels of a tile, at some 210 bytes each."""


class Sift(OneByOne):
    """SIFT on images."""

    THRESHOLD = 0.0

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """See `extract_sift`."""
        return extract_sift(image, max_keypoints, threshold)


def extract_sift(image: Image, max_keypoints: int, threshold: float = 0.0) -> Features:
    """Detect and describe with SIFT; descriptors (N, 128) are square-rooted and of unit length.

    Scores are OpenCV's responses; only those above the threshold stay.

    Scales are OpenCV's diameters, twice the deviation of the Gaussian, and orientations its angles.
    """
    height, width = image.pixels.shape[:2]
    if height * width > LARGE:
        best = _in_tiles(image, max_keypoints, threshold)
        sizes, angles, vectors = best.more
        return _features(image, best.xy, best.scores, sizes, angles, vectors)
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    mask = None if image.mask is None else np.where(image.mask, 0, 255).astype(np.uint8)
    found, vectors = _sift(max_keypoints).detectAndCompute(grey, mask)
    strong = [i for i, keypoint in enumerate(found) if keypoint.response > threshold]
    order = sorted(strong, key=lambda i: -found[i].response)[:max_keypoints]
    if vectors is None:
        vectors = np.empty((0, 128), np.float32)
    xy, scores, sizes, angles = _arrays([found[i] for i in order])
    return _features(image, xy, scores, sizes, angles, vectors[order])


def _sift(count: int) -> Any:
    """OpenCV's, for at most so many keypoints, all for 0.

    Without the precise upscale it places everything a quarter of a pixel too far right and down.
    """
    return cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=count, enable_precise_upscale=True
    )


def _in_tiles(image: Image, max_keypoints: int, threshold: float) -> Best:
    """The fine ones of each tile, and the coarse ones of the picture shrunk."""
    best = Best(max_keypoints)
    nothing = _arrays([])
    best.add(*nothing, np.empty((0, 128), np.float32))
    shape = image.pixels.shape[:2]
    for tile in tiles(shape, MARGIN, TILE):
        top, left, bottom, right = tile.seen
        free = np.ones(tile.shape, np.bool_)
        tile.leave_out(free)
        if image.mask is not None:
            free &= ~image.mask[top:bottom, left:right]
        _add(best, image.pixels[top:bottom, left:right], free, threshold, tile.origin)
    factor = np.sqrt(TILE / (shape[0] * shape[1]))
    size = max(round(shape[1] * factor), 1), max(round(shape[0] * factor), 1)
    small = np.asarray(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    free = np.ones(small.shape[:2], np.bool_)
    if image.mask is not None:
        shrunk = cv2.resize(image.mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        free = shrunk == 0
    _add(best, small, free, threshold, np.zeros(2), np.array(shape[::-1]) / size)
    return best


def _add(
    best: Best,
    pixels: NDArray[np.uint8],
    free: BoolArray,
    threshold: float,
    origin: NDArray[Any],
    factor: NDArray[np.float64] | None = None,
) -> None:
    """What there is in a part of a picture, where it is free, fine ones only; or, for a factor,
    coarse ones of a whole that was so much larger, in (x, y)."""
    grey, sift = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _sift(0)
    grown = 1.0 if factor is None else float(factor.mean())
    found = [
        each
        for each in sift.detect(grey, np.where(free, 255, 0).astype(np.uint8))
        if each.response > threshold and (each.size * grown <= COARSE) == (factor is None)
    ]
    found = sorted(found, key=lambda each: -each.response)[: best.count]
    scores = np.array([each.response for each in found], np.float32)
    found = [found[i] for i in best.promising(scores)]
    if not found:
        return
    found, vectors = sift.compute(grey, found)
    xy, scores, sizes, angles = _arrays(found)
    if factor is not None:
        xy, sizes = (xy + 0.5) * factor - 0.5, sizes * np.float32(grown)
    best.add(xy + origin, scores, sizes, angles, vectors)


def _arrays(found: Sequence[Any]) -> tuple[NDArray[Any], ...]:
    """OpenCV's keypoints: (N, 2) float64, responses, diameters, and angles in degrees, (N,)."""
    return (
        np.array([each.pt for each in found], np.float64).reshape(-1, 2),
        np.array([each.response for each in found], np.float32),
        np.array([each.size for each in found], np.float32),
        np.array([each.angle for each in found], np.float64),
    )


def _features(
    image: Image,
    xy: NDArray[Any],
    scores: NDArray[np.float32],
    sizes: NDArray[np.float32],
    angles: NDArray[np.float64],
    vectors: NDArray[np.float32],
) -> Features:
    height, width = image.pixels.shape[:2]
    factor = np.array([image.width / width, image.height / height])
    root = np.sqrt(vectors / np.maximum(vectors.sum(axis=1, keepdims=True), 1e-12))
    return Features(
        # OpenCV puts the top-left pixel's centre at (0, 0).
        keypoints=((xy + 0.5) * factor).astype(np.float32),
        scores=scores,
        descriptors=root.astype(np.float32),
        width=image.width,
        height=image.height,
        model="sift",
        scales=sizes * np.float32(factor.mean()),
        orientations=np.radians(angles).astype(np.float32),
    )
