"""What there is to match features with, and what each one must give.

A network has its row in `covis.runtime.architectures`; a matcher without weights of its own has it
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, BundleError
from covis.options import DEFAULT_MATCHER, MatcherOptions, RuntimeOptions
from covis.runtime.architectures import ARCHITECTURES, load, names
from covis.runtime.bundle import Bundle, find_bundle, installed_bundle, list_bundles
from covis.types import Features, FloatArray


class Pairs(NamedTuple):
    """Which features belong together.

    indices: (K, 2) int64 into the two sets of features, none of them twice.
    scores: (K,) float32, the larger the surer.
    points0, points1: (K, 2) float32, where those of an image lie, if they were refined; None for
        where the features lie.
    """

    indices: NDArray[np.int64]
    scores: FloatArray
    points0: FloatArray | None = None
    points1: FloatArray | None = None


class PairMatcher(Protocol):
    """One way to match, opened for the features of one model.

    name: what results are named after. bundle: the matcher's own weights, None for none.
    """

    name: str
    bundle: Bundle | None

    def __call__(self, features0: Features, features1: Features) -> Pairs:
        """Match two sets of features, either of which may be empty."""


@dataclass(frozen=True, kw_only=True)
class MatcherRow:
    """A matcher.

    opens: what makes a `PairMatcher` of (model, options, runtime), where `model` is the features'
        own word; as "module:name" it is imported when it is needed.
    semi_dense: whether it takes semi-dense features, instead of sparse ones.
    thresholds: whether it has `min_similarity` and `max_ratio`. full_depth: whether it has layers.
    """

    opens: str | Callable[[str, MatcherOptions, RuntimeOptions], PairMatcher]
    semi_dense: bool = False
    thresholds: bool = False
    full_depth: bool = False

    def open(self, model: str, options: MatcherOptions, runtime: RuntimeOptions) -> PairMatcher:
        """For features of `model`."""
        make = load(self.opens) if isinstance(self.opens, str) else self.opens
        opened: PairMatcher = make(model, options, runtime)
        return opened


def find_matcher(name: str) -> MatcherRow:
    """The matcher of that name; or that of the weights with that name, or in that folder.

    Raises ArgumentError where there is none.
    """
    if name in MATCHERS:
        return MATCHERS[name]
    if installed_bundle(name) is None and not (Path(name) / "bundle.json").is_file():
        known = [b.folder.name for b in list_bundles() if b.architecture in names("matcher")]
        raise ArgumentError(
            f"no matcher '{name}'; there are: {', '.join([*MATCHERS, *known])}, "
            "and any folder with LightGlue weights."
        )
    bundle = find_bundle(name)
    if bundle.architecture not in names("matcher"):
        raise ArgumentError(f"'{bundle.name}' is a bundle for {bundle.architecture}, no matcher.")
    return MatcherRow(opens=partial(open_bundle, bundle), full_depth=True)


def needs_semi_dense(matcher: str | None) -> bool:
    """Whether a matcher takes semi-dense features. False for one that there is not."""
    row = MATCHERS.get(matcher or DEFAULT_MATCHER)
    return row is not None and row.semi_dense


def open_bundle(
    bundle: Bundle, model: str, options: MatcherOptions, runtime: RuntimeOptions
) -> PairMatcher:
    """A network with the weights of `bundle`, once these are found to be for the features."""
    _check_fits(bundle, model)
    opened: PairMatcher = load(ARCHITECTURES[bundle.architecture].runs)(bundle, options, runtime)
    return opened


def open_installed(
    architecture: str, model: str, options: MatcherOptions, runtime: RuntimeOptions
) -> PairMatcher:
    """A network with the weights that are installed for features of `model`."""
    bundle = weights_for(architecture, model)
    if bundle is None:
        name = f"{architecture}-{model}"
        raise BundleError(
            f"no LightGlue weights are installed for '{model}'. Import some ('covis weights "
            f"import FILE --name {name} --features {model}'), name others as the matcher, "
            "or use 'nearest'."
        )
    return open_bundle(bundle, model, options, runtime)


def open_auto(model: str, options: MatcherOptions, runtime: RuntimeOptions) -> PairMatcher:
    """LightGlue where its weights are installed and no threshold is given, else "nearest"."""
    bundle = None if options.thresholds else weights_for("lightglue", model)
    if bundle is None:
        return MATCHERS["nearest"].open(model, options, runtime)
    return open_bundle(bundle, model, options, runtime)


def weights_for(architecture: str, model: str) -> Bundle | None:
    """The bundle for features of `model`, None where none is installed: the one that is named
    after the features, else one that says it is for them."""
    bundle = installed_bundle(f"{architecture}-{model}")
    if bundle is not None:
        return bundle
    fitting = (
        each
        for each in list_bundles()
        if each.architecture == architecture and model in kinds(each)
    )
    return next(fitting, None)


def kinds(bundle: Bundle) -> list[str]:
    """The features that a matcher's weights are for; none where nothing is said."""
    said = str(bundle.settings.get("features", ""))
    return said.split(",") if said else []


def fits(bundle: Bundle, model: str) -> bool:
    """Whether a matcher's weights are for features of `model`.

    Those for "xfeat" are for "xfeat-covis" as well: what follows a hyphen tells apart weights
    of one kind of features. Those that say nothing are for any whose descriptors have the right
    size.
    """
    said = kinds(bundle)
    return not said or any(model == kind or model.startswith(f"{kind}-") for kind in said)


def _check_fits(bundle: Bundle, model: str) -> None:
    """Raise ArgumentError unless it does."""
    if not fits(bundle, model):
        raise ArgumentError(
            f"the matcher '{bundle.name}' is for features of '{', '.join(kinds(bundle))}', not of "
            f"'{model}'; use those, or another matcher."
        )


MATCHERS: dict[str, MatcherRow] = {
    "nearest": MatcherRow(opens="covis.matching.nearest:Nearest", thresholds=True),
    "semi-dense": MatcherRow(opens="covis.matching.semi_dense:SemiDense", semi_dense=True),
    **{
        name: MatcherRow(opens=partial(open_installed, name), full_depth=True)
        for name in names("matcher")
    },
    "auto": MatcherRow(opens=open_auto, thresholds=True, full_depth=True),
}
"""By the name that `Matcher` takes."""
