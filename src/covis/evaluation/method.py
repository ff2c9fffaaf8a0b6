"""Features and a matcher as a benchmark uses them: picture after picture, pair after pair."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.features import Extractor
from covis.images import load_image
from covis.matching import Matcher
from covis.types import Features, Matches

KEYPOINTS = {"semi-dense": 10_000}
"""Features an image by matcher, where neither settings nor benchmark say: as published."""
SIFT_RATIO = 0.8
"""Lowe's ratio test, without which nearest neighbours of SIFT are mostly wrong."""
KEPT = 128
"""Pictures whose features stay in memory, about 1 MB each."""


class Method:
    """Extracts each picture once, as long as it is remembered, and matches pairs."""

    def __init__(self, settings: Settings, max_keypoints: int = 4096) -> None:
        """max_keypoints: where the settings do not say.

        Raises ArgumentError and BundleError as `Extractor` and `Matcher` do.
        """
        semi_dense = settings.matcher == "semi-dense"
        self.extractor = Extractor(
            settings.features,
            max_keypoints=settings.max_keypoints or KEYPOINTS.get(settings.matcher, max_keypoints),
            max_size=None,
            semi_dense=semi_dense,
            threads=settings.threads,
        )
        ratio = None
        if settings.features == "sift" and settings.matcher in ("nearest", "auto"):
            ratio = SIFT_RATIO
        self.matcher = Matcher(
            settings.matcher,
            features=self.extractor.source,
            full_depth=settings.full_depth,
            max_ratio=ratio,
            threads=settings.threads,
        )
        bundle = self.matcher.bundle(self.extractor.model)
        plain = "semi-dense" if semi_dense else "nearest"
        self.name = f"{self.extractor.model} + {bundle.name if bundle else plain}"
        if settings.full_depth:
            self.name += ", full depth"
        self.features = lru_cache(KEPT)(self._extract)

    def match(self, path0: Path, path1: Path, size0: int | None, size1: int | None) -> Matches:
        """The matches of two pictures that are shrunk to longest sides of so many pixels.

        Points are in full-size pixels all the same. None for no shrinking.
        """
        return self.matcher(self.features(path0, size0), self.features(path1, size1))

    def _extract(self, path: Path, max_size: int | None) -> Features:
        return self.extractor(load_image(path, max_size=max_size))


def checked_size(settings: Settings, default: int | None) -> int | None:
    """The longest side in pixels that the settings ask for, else the default; None for any."""
    if settings.max_size is None:
        return default
    if settings.max_size < 0:
        raise ArgumentError(f"max_size must be 0 or more, not {settings.max_size}.")
    return settings.max_size or None
