"""Keypoint transfer on pairs of images (LiFT, section 4.1), for whatever set they come from.

Every keypoint of the source goes to the target's cell that is most alike by the cosine. It is
right within alpha times the longer side of the target's box.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covis.dense import DenseFeatures, pck, transfer
from covis.images.decode import Source
from covis.types import FloatArray

ALPHAS = (0.05, 0.1, 0.15)
CACHE_BYTES = 1 << 29
"""Features kept between pairs."""


@dataclass(frozen=True, eq=False)
class KeypointPair:
    """Two images of a category and the places of the same parts in them.

    source_points, target_points: (N, 2), full-size pixels, the centre of the top-left one at
    (0.5, 0.5). side: the longer one of the target's box, in pixels.
    """

    source: Path
    target: Path
    source_points: FloatArray
    target_points: FloatArray
    side: float
    category: str


class Cache:
    """Features of the images asked for last, up to `limit` bytes."""

    def __init__(
        self, describe: Callable[[Source], DenseFeatures], limit: int = CACHE_BYTES
    ) -> None:
        self.describe, self.limit = describe, limit
        self.kept: OrderedDict[Path, DenseFeatures] = OrderedDict()
        self.bytes = 0

    def __call__(self, path: Path) -> DenseFeatures:
        if path in self.kept:
            self.kept.move_to_end(path)
            return self.kept[path]
        features = self.kept[path] = self.describe(path)
        self.bytes += features.descriptors.nbytes
        while self.bytes > self.limit and len(self.kept) > 1:
            _, oldest = self.kept.popitem(last=False)
            self.bytes -= oldest.descriptors.nbytes
        return features


def score_pairs(
    pairs: Sequence[KeypointPair],
    describe: Callable[[Source], DenseFeatures],
    tick: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """PCK at every alpha, in 0..1, averaged in three ways.

    "image": the mean over pairs of a pair's share. "point": the share of all keypoints.
    "category": the mean over categories of the share of a category's keypoints.

    Pairs of a category are taken together, so that few images are described twice. tick: called
    after each pair.
    """
    cache = Cache(describe)
    shares: list[list[float]] = []
    ordered = sorted(pairs, key=lambda pair: pair.category)
    for pair in ordered:
        found, _ = transfer(cache(pair.source), cache(pair.target), pair.source_points)
        shares.append([pck(found, pair.target_points, pair.side, alpha) for alpha in ALPHAS])
        tick()
    counts = np.array([len(pair.source_points) for pair in ordered])
    _, categories = np.unique([pair.category for pair in ordered], return_inverse=True)
    totals = np.bincount(categories, counts)
    weights = {"image": None, "point": counts, "category": counts / totals[categories]}
    return {
        f"PCK@{alpha} {average}": float(np.average(values, weights=weight))
        for average, weight in weights.items()
        for alpha, values in zip(ALPHAS, zip(*shares, strict=True), strict=True)
    }
