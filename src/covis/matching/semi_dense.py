"""Semi-dense matches, refined to sub-cell accuracy (XFeat*, section 3.3 of the paper)."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from covis.matching.nearest import mutual_nearest
from covis.matching.registry import Pairs
from covis.options import MatcherOptions, RuntimeOptions
from covis.runtime.bundle import Bundle, find_bundle
from covis.runtime.onnx import open_graphs
from covis.types import BoolArray, Features, FloatArray

MIN_CONFIDENCE = 0.25
"""Refined matches below it are dropped; the published value."""


class SemiDense:
    """Mutual nearest neighbours of semi-dense features, and then where they really lie."""

    name, bundle = "semi-dense", None

    def __init__(self, model: str, options: MatcherOptions, runtime: RuntimeOptions) -> None:
        self._threads = runtime.threads
        self._source, self._runtime = options.features or model, runtime

    @cached_property
    def _refine(self) -> Refiner:
        return Refiner(find_bundle(self._source), self._runtime)

    def __call__(self, features0: Features, features1: Features) -> Pairs:
        """See `PairMatcher`. Which image is refined does not depend on their order: what is found
        is the same either way."""
        if _contents(features0) <= _contents(features1):
            return self.refined0(features0, features1)
        turned = self.refined0(features1, features0)
        return Pairs(turned.indices[:, ::-1], turned.scores, points1=turned.points0)

    def refined0(self, features0: Features, features1: Features) -> Pairs:
        """The same, the points of image 0 being moved, as published."""
        indices, _ = mutual_nearest(
            features0.descriptors, features1.descriptors, threads=self._threads
        )
        points0, scores, kept = self._refine(features0, features1, indices, MIN_CONFIDENCE)
        return Pairs(indices[kept], scores, points0)


def _contents(features: Features) -> tuple[bytes, bytes]:
    return features.keypoints.tobytes(), features.descriptors.tobytes()


class Refiner:
    """The refinement head of an XFeat bundle."""

    def __init__(self, bundle: Bundle, runtime: RuntimeOptions | None = None) -> None:
        self._refine = open_graphs(bundle, ["refine"], runtime)["refine"]

    def __call__(
        self,
        features0: Features,
        features1: Features,
        indices: NDArray[np.int64],
        min_confidence: float,
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Move the points of image 0 to where those of image 1 say they lie.

        indices: (N, 2) matched semi-dense features. Returns points of image 0 (K, 2), the
        confidences (K,) and which of the N matches were kept, (N,) bool.
        """
        if features0.pixel_sizes is None:
            raise ValueError("semi-dense features are needed")
        rows, columns = indices.T
        pairs = np.concatenate(
            [features0.descriptors[rows], features1.descriptors[columns]], axis=1
        )
        offsets, confidence = self._refine(["offsets", "confidence"], pairs=pairs)
        keep = confidence > min_confidence
        moved = features0.keypoints[rows] + offsets * features0.pixel_sizes[rows]
        return moved[keep], confidence[keep], keep
