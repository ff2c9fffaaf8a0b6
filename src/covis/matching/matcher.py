"""The public matcher: one object for many pairs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from covis.errors import ArgumentError, BundleError
from covis.matching.lightglue import LightGlue
from covis.matching.nearest import mutual_nearest
from covis.matching.semi_dense import Refiner
from covis.runtime.bundle import Bundle, find_bundle, installed_bundle, list_bundles
from covis.types import Features, Matches

MATCHERS = ("nearest", "semi-dense", "lightglue", "auto")

DEFAULT_MATCHER = "auto"

MIN_CONFIDENCE = 0.25
"""Refined matches below it are dropped; the published value."""


class Matcher:
    """Matches the features of two images.

    >>> matcher = Matcher("nearest", max_ratio=0.9)
    >>> matches = matcher(features0, features1)  # doctest: +SKIP
    """

    def __init__(
        self,
        matcher: str = DEFAULT_MATCHER,
        *,
        features: str | None = None,
        full_depth: bool = False,
        min_similarity: float | None = None,
        max_ratio: float | None = None,
        threads: int | None = None,
    ) -> None:
        """Set the matcher up.

        matcher: "nearest", mutual nearest neighbours; "semi-dense", the same on semi-dense
            features and then refined to sub-pixel accuracy (XFeat*); "lightglue", the network
            with the weights that are installed for the features, "lightglue-" and their name;
            the name or the folder of other LightGlue weights; or "auto", LightGlue where
            weights for the features are installed and no threshold below is given, else
            "nearest".
        features: the bundle that the semi-dense features come from; needed only for one that was
            opened by its folder, others are found by the features' own word.
        full_depth: let LightGlue run all its layers on all points, which is slower.
        min_similarity, max_ratio: of "nearest", see `mutual_nearest`; neither is set in the paper.
        threads: processor threads; all by default.

        Raises ArgumentError on an unknown matcher or on options that it does not have,
        BundleError on a bundle that is not LightGlue's.
        """
        thresholds = (min_similarity, max_ratio) != (None, None)
        if matcher == "auto" and thresholds:
            matcher = "nearest"
        if matcher == "semi-dense" and thresholds:
            raise ArgumentError(
                "min_similarity and max_ratio are for descriptors of unit length; semi-dense ones "
                "are not. Leave them out: refinement drops what does not fit."
            )
        if matcher != "nearest" and thresholds:
            raise ArgumentError("min_similarity and max_ratio are for the matcher 'nearest'.")
        if matcher in ("nearest", "semi-dense") and full_depth:
            raise ArgumentError(f"full depth is for LightGlue; '{matcher}' has no layers.")
        self.matcher = matcher
        self._named = None if matcher in MATCHERS else _lightglue_bundle(matcher)
        self._full_depth = full_depth
        self._features = features
        self._min_similarity, self._max_ratio = min_similarity, max_ratio
        self._threads = threads
        self._refiners: dict[str, Refiner] = {}
        self._lightglues: dict[str, tuple[Bundle, LightGlue] | None] = {}

    def bundle(self, model: str) -> Bundle | None:
        """The LightGlue weights that features of `model` are matched with, None where none are.

        They are loaded here, if not before. Raises BundleError when none are installed,
        ArgumentError when they are for other features.
        """
        loaded = self._load(model)
        return None if loaded is None else loaded[0]

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Match two sets of features of one model.

        `Matches.licence` is that of LightGlue's weights, where they were used.

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
        model, licence = features0.model, ""
        loaded = self._load(model)
        if loaded is not None:
            bundle, lightglue = loaded
            found = lightglue(features0, features1)
            indices, scores = found.indices, found.scores
            model, licence = f"{model} + {bundle.name}", bundle.licence
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
            model=model,
            licence=licence,
        )

    def _load(self, model: str) -> tuple[Bundle, LightGlue] | None:
        if model not in self._lightglues:
            bundle = self._find(model)
            loaded = None
            if bundle is not None:
                _check_fits(bundle, model)
                opened = LightGlue.open(bundle, full=self._full_depth, threads=self._threads)
                loaded = bundle, opened
            self._lightglues[model] = loaded
        return self._lightglues[model]

    def _find(self, model: str) -> Bundle | None:
        if self._named is not None or self.matcher in ("nearest", "semi-dense"):
            return self._named
        name = f"lightglue-{model}"
        bundle = installed_bundle(name)
        if bundle is None and self.matcher == "lightglue":
            raise BundleError(
                f"no LightGlue weights are installed for '{model}'. Import some ('covis weights "
                f"import FILE --name {name} --features {model}'), name others as the matcher, "
                "or use 'nearest'."
            )
        return bundle

    def _refiner(self, model: str) -> Refiner:
        if model not in self._refiners:
            self._refiners[model] = Refiner(find_bundle(self._features or model), self._threads)
        return self._refiners[model]


def _lightglue_bundle(name: str) -> Bundle:
    """The LightGlue weights of that name or in that folder; raises ArgumentError for others."""
    if installed_bundle(name) is None and not (Path(name) / "bundle.json").is_file():
        known = [b.folder.name for b in list_bundles() if b.architecture == "lightglue"]
        raise ArgumentError(
            f"no matcher '{name}'; there are: {', '.join([*MATCHERS, *known])}, "
            "and any folder with LightGlue weights."
        )
    bundle = find_bundle(name)
    if bundle.architecture != "lightglue":
        raise ArgumentError(f"'{bundle.name}' is a bundle for {bundle.architecture}, no matcher.")
    return bundle


def _check_fits(bundle: Bundle, model: str) -> None:
    """Raise ArgumentError unless the weights are for features of `model`.

    Those for "xfeat" are for "xfeat-covis" as well: what follows a hyphen tells apart weights
    of one kind of features. Those for "" are for any whose descriptors have the right size.
    """
    kind = bundle.settings.get("features", "")
    if kind and model != kind and not model.startswith(f"{kind}-"):
        raise ArgumentError(
            f"the matcher '{bundle.name}' is for features of '{kind}', not of '{model}'; "
            "use those, or another matcher."
        )
