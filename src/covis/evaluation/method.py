"""Features and a matcher as a benchmark uses them: picture after picture, pair after pair."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from covis.evaluation.benchmark import Settings
from covis.evaluation.datasets.pairs import Pair
from covis.features import Extractor
from covis.features.registry import ratio_of
from covis.images.decode import load_image
from covis.matching import Matcher, needs_semi_dense
from covis.types import Features, FloatArray, Matches

KEYPOINTS = {"semi-dense": 10_000}
"""Features an image by matcher, where neither settings nor benchmark say: as published."""
KEPT = 128
"""Pictures whose features stay in memory, about 1 MB each."""


class Method:
    """Extracts each picture once, as long as it is remembered, and matches pairs."""

    def __init__(self, settings: Settings, max_keypoints: int = 4096) -> None:
        """max_keypoints: where the settings do not say.

        Raises ArgumentError and BundleError as `Extractor` and `Matcher` do.
        """
        semi_dense = needs_semi_dense(settings.matcher)
        self.extractor = Extractor(
            settings.features,
            max_keypoints=settings.max_keypoints or KEYPOINTS.get(settings.matcher, max_keypoints),
            max_size=0,
            semi_dense=semi_dense,
            threads=settings.threads,
            device=settings.device,
        )
        ratio = None
        if settings.matcher in ("nearest", "auto"):
            ratio = ratio_of(settings.features)
        self.matcher = Matcher(
            settings.matcher,
            features=self.extractor.source,
            full_depth=settings.full_depth,
            max_ratio=ratio,
            threads=settings.threads,
            device=settings.device,
        )
        self.name = f"{self.extractor.model} + {self.matcher.opened(self.extractor.model).name}"
        if settings.full_depth:
            self.name += ", full depth"
        self.features = lru_cache(KEPT)(self._extract)

    def match(self, pair: Pair) -> Matches:
        """The matches of a pair in its pixels.

        The pictures are shrunk to its sizes where their files are larger.
        """
        features0 = self.features(pair.path0, max(pair.size0))
        features1 = self.features(pair.path1, max(pair.size1))
        found = self.matcher(features0, features1)
        return replace(
            found,
            points0=found.points0 * _factor(features0, pair.size0),
            points1=found.points1 * _factor(features1, pair.size1),
        )

    def keypoints(self, pair: Pair) -> tuple[FloatArray, FloatArray]:
        """All keypoints of both pictures, (A, 2) and (B, 2), in the pair's pixels."""
        features0 = self.features(pair.path0, max(pair.size0))
        features1 = self.features(pair.path1, max(pair.size1))
        return (
            features0.keypoints * _factor(features0, pair.size0),
            features1.keypoints * _factor(features1, pair.size1),
        )

    @property
    def has_sparse_keypoints(self) -> bool:
        """Whether matches are between keypoints, not refined away from them."""
        return not self.extractor.semi_dense

    def _extract(self, path: Path, max_size: int) -> Features:
        return self.extractor(load_image(path, max_size=max_size))


def _factor(features: Features, size: tuple[int, int]) -> np.float32:
    return np.float32(max(size) / max(features.width, features.height))
