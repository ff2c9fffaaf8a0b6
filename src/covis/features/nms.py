"""What the detectors share: local maxima, the best of many, masks, sampling."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.types import BoolArray, FloatArray

ROUNDS = 2
"""Further rounds of `suppress`, as published."""


def suppress(scores: FloatArray, radius: int) -> BoolArray:
    """Non-maximum suppression of a map (H, W): True where a pixel stays.

    Those that are the largest within `radius` pixels each way, then, twice, those that are once
    everything that near to the ones so far is taken away. Equal neighbours all stay.
    """
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    kept: BoolArray = scores == cv2.dilate(scores, window)
    for _ in range(ROUNDS):
        near = cv2.dilate(kept.view(np.uint8), window).view(np.bool_)
        rest = np.where(near, np.float32(0), scores)
        kept |= (rest == cv2.dilate(rest, window)) & ~near
    return kept


def clear_border(kept: BoolArray, border: int) -> None:
    """Set the outermost `border` pixels of a map to False."""
    kept[:border] = kept[-border:] = False
    kept[:, :border] = kept[:, -border:] = False


def best_first(scores: FloatArray, count: int) -> NDArray[np.intp]:
    """Indices of the `count` largest scores, largest first, equal ones in their order."""
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count] if count else np.inf
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def mask_at(
    mask: BoolArray,
    columns: NDArray[np.floating[Any]],
    rows: NDArray[np.floating[Any]],
    size: tuple[int, ...],
) -> BoolArray:
    """The mask's pixels under a lattice of points of an image of `size`, (height, width)."""
    height, width = mask.shape
    x = np.minimum((columns * width / size[1]).astype(np.intp), width - 1)
    y = np.minimum((rows * height / size[0]).astype(np.intp), height - 1)
    return np.asarray(mask[np.ix_(y, x)])


def bilinear(pixels: FloatArray, points: FloatArray) -> FloatArray:
    """A map (h, w, D) at (N, 2) points (x, y) inside it: (N, D); pixel i's centre is at i."""
    height, width = pixels.shape[:2]
    first = np.floor(points).astype(np.intp)
    first = np.clip(first, 0, np.maximum(np.array([width, height]) - 2, 0))
    (x0, y0), (across, down) = first.T, (points - first).T[..., None]
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    upper = pixels[y0, x0] * (1 - across) + pixels[y0, x1] * across
    lower = pixels[y1, x0] * (1 - across) + pixels[y1, x1] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)
