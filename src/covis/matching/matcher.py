"""The public matcher: one object for many pairs."""

from __future__ import annotations

import time
from typing import Literal, get_args

import numpy as np

from covis.errors import ArgumentError
from covis.matching.lightglue import LightGlue
from covis.matching.nearest import mutual_nearest
from covis.matching.semi_dense import Refiner
from covis.runtime.bundle import find_bundle
from covis.types import Features, Matches

MatcherName = Literal["nearest", "semi-dense"]
"""The matchers that need no weights of their own."""

MATCHERS = (*get_args(MatcherName), "lightglue")

MIN_CONFIDENCE = 0.25
"""Refined matches below it are dropped; the published value."""


class Matcher:
    """Matches the features of two images.

    >>> matcher = Matcher("nearest", max_ratio=0.9)
    >>> matches = matcher(features0, features1)  # doctest: +SKIP
    """

    def __init__(
        self,
        matcher: MatcherName | Literal["lightglue"] = "nearest",
        *,
        features: str | None = None,
        bundle: str | None = None,
        min_similarity: float | None = None,
        max_ratio: float | None = None,
        threads: int | None = None,
    ) -> None:
        """Set the matcher up.

        matcher: "nearest", mutual nearest neighbours; "semi-dense", the same on semi-dense
            features and then refined to sub-pixel accuracy (XFeat*); "lightglue", a network that
            was trained for one kind of features.
        features: the bundle that the semi-dense features come from; needed only for one that was
            opened by its folder, others are found by the features' own word.
        bundle: the name or the folder of LightGlue's weights; needed for it alone.
        min_similarity, max_ratio: see `mutual_nearest`; neither is set in the paper.
        threads: processor threads; all by default.

        Raises ArgumentError on an unknown matcher, thresholds where they mean nothing or a
        missing bundle, BundleError on a bundle that is not LightGlue's.
        """
        if matcher not in MATCHERS:
            raise ArgumentError(f"no matcher '{matcher}'; there are: {', '.join(MATCHERS)}.")
        if matcher == "semi-dense" and (min_similarity, max_ratio) != (None, None):
            raise ArgumentError(
                "min_similarity and max_ratio are for descriptors of unit length; semi-dense ones "
                "are not. Leave them out: refinement drops what does not fit."
            )
        self.matcher = matcher
        self._bundle = features
        self._min_similarity, self._max_ratio = min_similarity, max_ratio
        self._threads = threads
        self._refiners: dict[str, Refiner] = {}
        if matcher == "lightglue" and (min_similarity, max_ratio) != (None, None):
            raise ArgumentError("min_similarity and max_ratio are for the matcher 'nearest'.")
        if (matcher == "lightglue") != (bundle is not None):
            raise ArgumentError("the matcher 'lightglue', and no other, needs a bundle of weights.")
        self._lightglue: LightGlue | None = None
        if bundle is not None:
            self._lightglue = LightGlue.open(find_bundle(bundle), threads=threads)

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Match two sets of features of one model.

        Raises ArgumentError when the models differ, when semi-dense matching is given
        sparse features or the other way about, or when LightGlue is given others than its own.
        """
        if features0.model != features1.model:
            raise ArgumentError(
                f"features of '{features0.model}' and '{features1.model}' cannot be matched; "
                "extract both with the same model."
            )
        semi_dense = self.matcher == "semi-dense"
        for features in (features0, features1):
            if (features.pixel_sizes is not None) != semi_dense:
                raise ArgumentError(
                    f"the matcher '{self.matcher}' needs "
                    f"{'semi-dense' if semi_dense else 'sparse'} features; extract with "
                    f"Extractor(semi_dense={semi_dense})."
                )
        began = time.perf_counter()
        if self._lightglue is not None:
            found = self._lightglue(features0, features1)
            indices, scores = found.indices, found.scores
        else:
            indices, scores = mutual_nearest(
                features0.descriptors,
                features1.descriptors,
                min_similarity=self._min_similarity,
                max_ratio=self._max_ratio,
                threads=self._threads,
            )
        points0 = features0.keypoints[indices[:, 0]]
        if semi_dense:
            refiner = self._refiner(features0.model)
            points0, scores, kept = refiner(features0, features1, indices, MIN_CONFIDENCE)
            indices = indices[kept]
        order = np.argsort(-scores, kind="stable")
        return Matches(
            points0=points0[order],
            points1=features1.keypoints[indices[order, 1]],
            scores=np.clip(scores[order], 0, 1),
            indices=None if semi_dense else indices[order],
            seconds={"match": time.perf_counter() - began},
            model=features0.model,
        )

    def _refiner(self, model: str) -> Refiner:
        if model not in self._refiners:
            self._refiners[model] = Refiner(find_bundle(self._bundle or model), self._threads)
        return self._refiners[model]
