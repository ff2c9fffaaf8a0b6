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


def best_first(scores: FloatArray, count: int) -> NDArray[np.intp]:
    """Indices of the `count` largest scores, largest first, equal ones in their order."""
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count] if count else np.inf
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    return candidates[_falling(scores[candidates])[:count]]


def _falling(scores: FloatArray) -> NDArray[np.intp]:
    """The order of (N,) float32 from the largest to the smallest, equal ones as they come.

    Sorts whole numbers that hold a score's bits and its place: twice as fast as a stable sort.
    """
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # One zero, not two.
    # Bits of numbers below 0 rise as these fall.
    rank = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits).astype(np.int64)
    keys = (rank << 32) | np.arange(len(scores))
    keys.sort()
    return (keys & 0xFFFFFFFF).astype(np.intp, copy=False)


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


BLOCK = 512
"""Points sampled at a time; larger blocks fall out of the cache."""


def bilinear(pixels: FloatArray, points: FloatArray) -> FloatArray:
    """A map (h, w, D) at (N, 2) points (x, y) inside it: (N, D); pixel i's centre is at i."""
    height, width = pixels.shape[:2]
    last = np.array([width, height]) - 1
    first = np.clip(np.floor(points).astype(np.intp), 0, np.maximum(last - 1, 0))
    after = (points - first).astype(np.float32)
    both = np.stack([1 - after, after], axis=1)
    columns, rows = np.stack([first, np.minimum(first + 1, last)], axis=1).transpose(2, 0, 1)
    taps = rows[:, :, None] * width + columns[:, None, :]
    weights = both[:, :, None, 1] * both[:, None, :, 0]
    flat = pixels.reshape(height * width, -1)
    return weighted_rows(flat, taps.reshape(-1, 4), weights.reshape(-1, 4))


def weighted_rows(rows: FloatArray, taps: NDArray[np.intp], weights: FloatArray) -> FloatArray:
    """(N, D): sums of rows of (M, D), by (N, K) indices, all of them in it, and (N, K) weights."""
    sums = np.empty((len(taps), rows.shape[1]), np.float32)
    taken = np.empty((min(BLOCK, len(taps)), taps.shape[1], rows.shape[1]), np.float32)
    for begin in range(0, len(taps), BLOCK):
        block = slice(begin, begin + BLOCK)
        some = taken[: len(taps[block])]
        rows.take(taps[block], axis=0, out=some, mode="clip")  # To clip is to check no bounds.
        np.matmul(weights[block, None], some, out=sums[block, None])
    return sums
