"""The public matcher: one object for many pairs."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Self

import numpy as np

from covis.errors import ArgumentError
from covis.matching.registry import PairMatcher, find_matcher
from covis.options import DEFAULT_DEVICE, DEFAULT_MATCHER, Device, MatcherOptions, RuntimeOptions
from covis.runtime.bundle import Bundle
from covis.types import Features, Matches


class Matcher:
    """Matches the features of two images.

    >>> matcher = Matcher("nearest", max_ratio=0.9)
    >>> matches = matcher(features0, features1)  # doctest: +SKIP
    """

    def __init__(
        self,
        matcher: str | None = None,
        *,
        features: str | None = None,
        full_depth: bool = False,
        min_similarity: float | None = None,
        max_ratio: float | None = None,
        threads: int | None = None,
        device: Device = DEFAULT_DEVICE,
    ) -> None:
        """Set the matcher up. None leaves a value to covis.

        matcher: "nearest", mutual nearest neighbours; "semi-dense", the same on semi-dense
            features and then, in one of the images, refined to sub-pixel accuracy (XFeat*);
            "lightglue", the network with the weights that are installed for the features,
            "lightglue-" and their name; the name or the folder of other LightGlue weights; or by
            default "auto", LightGlue where weights for the features are installed and no
            threshold below is given, else "nearest".
        features: the bundle that the semi-dense features come from; needed only for one that was
            opened by its folder, others are found by the features' own word.
        full_depth: let LightGlue run all its layers on all points, which is slower.
        min_similarity, max_ratio: of "nearest", see `mutual_nearest`; neither is set in the paper.
        threads: processor threads; all by default.
        device: where networks run, "auto" by default; see `RuntimeOptions`.

        Raises ArgumentError on an unknown matcher or on options that it does not have,
        BundleError on a bundle that is not LightGlue's.
        """
        self.options = MatcherOptions(
            matcher=matcher,
            features=features,
            full_depth=full_depth,
            min_similarity=min_similarity,
            max_ratio=max_ratio,
        )
        self.matcher = self.options.matcher or DEFAULT_MATCHER
        self._runtime = RuntimeOptions(threads=threads, device=device)
        self._row = find_matcher(self.matcher)
        if self.options.thresholds and not self._row.thresholds:
            raise ArgumentError(
                f"min_similarity and max_ratio are for the matcher 'nearest', not for "
                f"'{self.matcher}'; leave them out."
            )
        if full_depth and not self._row.full_depth:
            raise ArgumentError(f"full depth is for LightGlue; '{self.matcher}' has no layers.")
        self._opened: dict[str, PairMatcher] = {}

    @classmethod
    def from_options(cls, options: MatcherOptions, runtime: RuntimeOptions | None = None) -> Self:
        """The same from options objects."""
        return cls(**asdict(options), **asdict(runtime or RuntimeOptions()))

    def opened(self, model: str) -> PairMatcher:
        """What matches features of `model`: its name, and the weights it uses, if any.

        It is loaded here, if not before. Raises BundleError when none is installed,
        ArgumentError when it is for other features.
        """
        if model not in self._opened:
            self._opened[model] = self._row.open(model, self.options, self._runtime)
        return self._opened[model]

    def bundle(self, model: str) -> Bundle | None:
        """The LightGlue weights that features of `model` are matched with, None where none are.

        Raises as `opened` does.
        """
        return self.opened(model).bundle

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Match two sets of features of one model.

        `Matches.licence` is that of LightGlue's weights, where they were used.

        Raises ArgumentError when the models differ, when semi-dense matching is given
        sparse features or the other way about, or when LightGlue is given others than its own.
        """
        self._check(features0, features1)
        began = time.perf_counter()
        model, licence = features0.model, ""
        match = self.opened(model)
        if match.bundle is not None:
            model, licence = f"{model} + {match.bundle.name}", match.bundle.licence
        found = match(features0, features1)
        order = np.argsort(-found.scores, kind="stable")
        indices = found.indices[order]
        points0, points1 = (
            features.keypoints[found.indices[:, image]] if refined is None else refined
            for image, (features, refined) in enumerate(
                ((features0, found.points0), (features1, found.points1))
            )
        )
        refined = found.points0 is not None or found.points1 is not None
        return Matches(
            points0=points0[order],
            points1=points1[order],
            scores=np.clip(found.scores[order], 0, 1),
            indices=None if refined else indices,
            seconds={"match": time.perf_counter() - began},
            model=model,
            licence=licence,
        )

    def _check(self, features0: Features, features1: Features) -> None:
        for given in (features0, features1):
            if not isinstance(given, Features):
                raise ArgumentError(
                    f"a matcher takes the features of two images, not a {type(given).__name__}: "
                    "extract them first, or give the images to covis.match."
                )
        if features0.model != features1.model:
            raise ArgumentError(
                f"features of '{features0.model}' and '{features1.model}' cannot be matched; "
                "extract both with the same model."
            )
        semi_dense = self._row.semi_dense
        for features in (features0, features1):
            if (features.pixel_sizes is not None) != semi_dense:
                raise ArgumentError(
                    f"the matcher '{self.matcher}' needs "
                    f"{'semi-dense' if semi_dense else 'sparse'} features; extract with "
                    f"Extractor(semi_dense={semi_dense})."
                )
