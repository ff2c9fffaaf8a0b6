"""Mutual nearest neighbours, in blocks: memory grows with the features, not their product."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.matching.registry import Pairs
from covis.options import MatcherOptions, RuntimeOptions, optional, ratio, thread_count
from covis.runtime.onnx import OnnxGraph
from covis.types import Features, FloatArray

BLOCK_BYTES = 4 * 2**20
"""Similarities that each thread holds at a time; they stay in the processor's cache."""


@cache
def _product() -> OnnxGraph:
    """The matrix product of ONNX Runtime: faster than NumPy's here, and with one thread a
    block it leaves no pool of BLAS threads spinning beside the network's."""
    return OnnxGraph(Path(__file__).parent / "matrix_product.onnx", RuntimeOptions(threads=1))


class Nearest:
    """Mutual nearest neighbours of sparse features."""

    name, bundle = "nearest", None

    def __init__(self, model: str, options: MatcherOptions, runtime: RuntimeOptions) -> None:
        self._options, self._runtime = options, runtime

    def __call__(self, features0: Features, features1: Features) -> Pairs:
        """See `PairMatcher`; scores are similarities."""
        return Pairs(
            *mutual_nearest(
                features0.descriptors,
                features1.descriptors,
                min_similarity=self._options.min_similarity,
                max_ratio=self._options.max_ratio,
                threads=self._runtime.threads,
            )
        )


def mutual_nearest(
    descriptors0: FloatArray,
    descriptors1: FloatArray,
    *,
    min_similarity: float | None = None,
    max_ratio: float | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.int64], FloatArray]:
    """Pairs of descriptors that are each other's most similar.

    descriptors0: (N, D), descriptors1: (M, D), float32. Similarity is the inner product,
        which for unit descriptors is the cosine.
    min_similarity: leaves out pairs below it.
    max_ratio: Lowe's ratio test on Euclidean distances of unit descriptors: leaves out a pair
        when the nearest neighbour in image 1 is not nearer than `max_ratio` times the second.
    threads: processor threads; all by default.

    Returns (K, 2) int64 indices, ordered by the first, and (K,) float32 similarities. Where
    several descriptors of image 1 are equally similar to one of image 0 the first counts, and
    where several of image 0 then claim one of image 1, the first of them.

    Raises ArgumentError when the descriptors' lengths differ or an option is out of range.
    """
    if descriptors0.ndim != 2 or descriptors1.ndim != 2:
        raise ArgumentError("descriptors must be arrays of shape (N, D).")
    if descriptors0.shape[1] != descriptors1.shape[1]:
        raise ArgumentError(
            f"the descriptors have {descriptors0.shape[1]} and {descriptors1.shape[1]} numbers: "
            "they come from different methods and cannot be matched."
        )
    optional(ratio, "max_ratio", max_ratio)
    count0, count1 = len(descriptors0), len(descriptors1)
    if count0 == 0 or count1 == 0:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)

    nearest = np.empty(count0, np.int64)
    similarity = np.empty(count0, np.float32)
    second = np.full(count0, -np.inf, np.float32)
    columns = np.ascontiguousarray(descriptors1.T, np.float32)
    rows = min(count0, max(1, BLOCK_BYTES // (4 * count1)))

    def search(begin: int) -> FloatArray:
        """Fill in one block of rows; returns each column's largest similarity in it."""
        end = min(begin + rows, count0)
        x = np.ascontiguousarray(descriptors0[begin:end], np.float32)
        (block,) = _product()(["product"], x=x, columns=columns)
        found = block.argmax(axis=1)
        here = np.arange(end - begin)
        nearest[begin:end] = found
        similarity[begin:end] = block[here, found]
        largest: FloatArray = block.max(axis=0)
        if max_ratio is not None and count1 > 1:
            block[here, found] = -np.inf
            second[begin:end] = block.max(axis=1)
        return largest

    best1 = np.full(count1, -np.inf, np.float32)
    blocks = range(0, count0, rows)
    workers = min(thread_count(threads), len(blocks))
    # Where other work wants the processor, each thread that is waited for costs milliseconds.
    with ThreadPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        for largest in pool.map(search, blocks) if pool else map(search, blocks):
            np.maximum(best1, largest, out=best1)

    # The very same products were compared both ways, so equality is exact.
    mutual = similarity == best1[nearest]
    if min_similarity is not None:
        mutual &= similarity >= min_similarity
    if max_ratio is not None:
        distance, further = (np.maximum(2 - 2 * s, 0) for s in (similarity, second))
        mutual &= distance < max_ratio**2 * further
    indices0 = np.flatnonzero(mutual)
    _, first = np.unique(nearest[indices0], return_index=True)
    indices0 = indices0[np.sort(first)]
    return np.column_stack([indices0, nearest[indices0]]), similarity[indices0]
