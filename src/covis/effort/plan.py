"""Which ways to match a pair there are: features with a matcher, the cheapest first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from covis.features.extractor import ALIASES, model_name
from covis.matching.registry import weights_for
from covis.options import UNKNOWN_LICENCE, Effort
from covis.runtime.architectures import names
from covis.runtime.bundle import Bundle, list_bundles, user_models

PACKAGE = ("edgepoint-covis", "xfeat-covis")
"""Features of the package, those whose nearest neighbours are best first; LightGlue matches each
that it has weights for: of 100 hard rendered pairs the second solves three more."""
WITNESS = "sift"
"""Of another kind than all networks, and at home at any turn and scale."""
NETWORK_KEYPOINTS = 2048
"""That LightGlue takes at most: its time grows with their square."""
STRONG = ("aliked-n16", "aliked-n32", "aliked-n16rot", "edgepoint-e64", "disk", "xfeat-official")
"""Published weights by the names that `covis weights get` gives them, the best first."""
STRONG_WAYS = 2
"""How many of these are tried, at most."""


@dataclass(frozen=True)
class Way:
    """Features and what matches them.

    features: as `Extractor` takes them. matcher: as `Matcher` does. keypoints: the best so many
    take part; None for all.
    """

    features: str
    matcher: str = "nearest"
    keypoints: int | None = None


@dataclass(frozen=True)
class Plan:
    """What is tried of a pair.

    cheap: first. others: in this order, where that is not sure. edges: those of them, or else the
    first, that match the pictures drawn as edges. persistent: whether other turns and scales are
    tried, and what both show is looked at again.
    """

    cheap: Way
    others: tuple[Way, ...] = ()
    edges: tuple[Way, ...] = ()
    persistent: bool = True

    @classmethod
    def of(cls, effort: Effort, features: str | None) -> Plan:
        """That of an effort, with the features that somebody named, or those of the package.

        Raises BundleError where features that were named are not there.
        """
        asked = None if features is None else ALIASES.get(features, features)
        cheap = Way(asked or PACKAGE[0])
        if effort == "fast":
            return cls(cheap, persistent=False)
        sources = [asked] if asked else list(PACKAGE)
        careful = [way for source in sources if (way := _lightglue(source))]
        witness = [] if cheap.features == WITNESS else [Way(WITNESS)]
        best = _installed() if effort == "thorough" else []
        # The strongest first: it leaves least to do for the others.
        others = tuple(dict.fromkeys([*best, *witness, *careful]))
        return cls(cheap, others, tuple(careful) or (cheap,))


def _lightglue(features: str) -> Way | None:
    """LightGlue with the weights that are there for features; None where none are."""
    bundle = weights_for("lightglue", model_name(features))
    return None if bundle is None else Way(features, str(bundle.folder), NETWORK_KEYPOINTS)


def _installed() -> list[Way]:
    """Of the weights that the user has, the best ways; none whose terms forbid some uses."""
    there = [
        bundle
        for bundle in list_bundles()
        if bundle.folder.parent == user_models()
        and bundle.architecture in names("features")
        and _free(bundle)
    ]
    there.sort(key=lambda bundle: _rank(bundle.folder.name))
    ways = []
    for bundle in there:
        source = bundle.folder.name
        careful = _lightglue(source)
        ways.append(careful if careful and _free_matcher(careful) else Way(source))
    # A network that matches is worth more than any features by themselves.
    ways.sort(key=lambda way: way.matcher == "nearest")
    return ways[:STRONG_WAYS]


def _rank(name: str) -> int:
    return STRONG.index(name) if name in STRONG else len(STRONG)


def _free_matcher(way: Way) -> bool:
    return _free(Bundle.read(way.matcher))


def _free(bundle: Bundle) -> bool:
    """Whether its terms are known and do not forbid commercial use."""
    words = bundle.licence.lower()
    return bundle.licence != UNKNOWN_LICENCE and not re.search("non-? ?commercial", words)
