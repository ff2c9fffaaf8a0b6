"""How a paper measures pairs: picture sizes, features, estimators and their thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.datasets.pairs import Pair, PairSet, scaled
from covis.evaluation.method import Method
from covis.evaluation.metrics.two_view import (
    MatchedPoints,
    Setup,
    TwoViewResult,
    evaluate_setups,
    pool,
)

SEARCHED = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Thresholds in pixels among which each method and estimator gets its best one (LightGlue)."""

TITLES = {
    "poselib": "LO-RANSAC",
    "poselib-prosac": "LO-RANSAC, best matches first",
    "opencv": "RANSAC",
    "opencv-magsac": "MAGSAC++",
    "dlt": "weighted DLT",
}
"""Estimators by the names that papers give them."""

Figures = Callable[[TwoViewResult], Mapping[str, float]]


@dataclass(frozen=True)
class Protocol:
    """One paper's.

    name: whose. max_keypoints: features an image. longest, shortest: the side that pictures are
    shrunk to, in pixels; None for their own size. thresholds: of every estimator but dlt.
    """

    name: str
    max_keypoints: int
    estimators: tuple[str, ...]
    thresholds: tuple[float, ...]
    longest: int | None = None
    shortest: int | None = None

    def sized(self, pair: Pair) -> Pair:
        """The pair with pictures as large as the protocol has them."""
        sides = []
        for size in (pair.size0, pair.size1):
            side = max(size)
            if self.longest is not None:
                side = min(side, self.longest)
            if self.shortest is not None:
                side = min(side, round(self.shortest * max(size) / min(size)))
            sides.append(side)
        return scaled(pair, sides[0], sides[1])


def chosen(protocols: Sequence[Protocol], settings: Settings) -> list[Protocol]:
    """Those that the settings ask for, with the settings' sizes, features and estimators.

    Raises ArgumentError on a name that none of them has.
    """
    names = [protocol.name for protocol in protocols]
    if settings.protocol and settings.protocol not in names:
        raise ArgumentError(f"no protocol '{settings.protocol}'; there are: {', '.join(names)}.")
    found = []
    for each in protocols:
        if settings.protocol not in ("", each.name):
            continue
        if settings.max_size is not None:
            each = replace(each, longest=settings.max_size or None, shortest=None)
        found.append(
            replace(
                each,
                max_keypoints=settings.max_keypoints or each.max_keypoints,
                estimators=settings.estimators or each.estimators,
                thresholds=settings.thresholds or each.thresholds,
            )
        )
    return found


def measure(
    protocol: Protocol,
    method: Method,
    sets: Sequence[PairSet],
    figures: Figures,
    settings: Settings,
    tick: Callable[[], None],
    match: Callable[[Pair], MatchedPoints] | None = None,
) -> list[Row]:
    """A row for each estimator and part; several parts together are "all".

    figures: of a result. tick: is called after each pair. match: `method.match` where None.

    Every estimator gets the threshold with the best mean of areas over all parts, and the row says
    so.
    """
    setups = [
        Setup(name, threshold)
        for name in protocol.estimators
        for threshold in ((None,) if name == "dlt" else protocol.thresholds or (None,))
    ]
    parts: dict[Setup, list[TwoViewResult]] = {setup: [] for setup in setups}
    for pair_set in sets:
        sized = replace(pair_set, pairs=tuple(map(protocol.sized, pair_set.pairs)))
        found = evaluate_setups(
            match or method.match, sized, setups, seeds=range(settings.seeds), report=tick
        )
        for setup, result in found.items():
            parts[setup].append(result)
    rows = []
    for name in protocol.estimators:
        tried = [setup for setup in setups if setup.estimator == name]
        best = max(tried, key=lambda setup: _mean_area(figures(pool(parts[setup], "all"))))
        results = parts[best]
        if len(results) > 1:
            results = [*results, pool(results, "all")]
        for result in results:
            rows.append(
                Row(
                    protocol=f"{protocol.name}, {TITLES[name]}",
                    method=method.name,
                    part=result.name,
                    figures=figures(result),
                    items=len(result.matches),
                    note=_note(protocol, method, settings, tried, best),
                    detail=detail_of(result) | {"threshold": best.threshold},
                )
            )
    return rows


def counting(report: Report, total: int) -> Callable[[], None]:
    """What to call after each of so many items."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        report(done, total)

    return tick


def sampled(sets: Iterable[PairSet], settings: Settings) -> list[PairSet]:
    """The sets with every so many-th pair only, where settings ask for it."""
    return [replace(each, pairs=tuple(settings.sampled(each.pairs))) for each in sets]


def detail_of(result: TwoViewResult) -> dict[str, object]:
    """Every pair's errors and counts."""
    return {
        "errors": result.errors.tolist(),
        "matches": result.matches.tolist(),
        "inliers": result.inliers.tolist(),
    }


def _mean_area(figures: Mapping[str, float]) -> float:
    """Of what a threshold is chosen by: the first kind of figure, areas or accuracies."""
    kind = next(iter(figures)).partition("@")[0]
    return float(np.mean([v for name, v in figures.items() if name.partition("@")[0] == kind]))


def _note(
    protocol: Protocol, method: Method, settings: Settings, tried: Sequence[Setup], best: Setup
) -> str:
    sides = [
        f"{word} side at most {side} px"
        for word, side in (("longer", protocol.longest), ("shorter", protocol.shortest))
        if side is not None
    ]
    words = [*sides, f"{method.extractor.max_keypoints} keypoints"]
    if best.threshold is not None:
        words.append(f"threshold {best.threshold:g} px")
        if len(tried) > 1:
            listed = ", ".join(f"{setup.threshold:g}" for setup in tried)
            words[-1] += f", the best of {listed} on these pairs"
    elif best.estimator != "dlt":
        words.append("covis' own thresholds")
    if settings.every > 1:
        words.append(f"only one pair in {settings.every}")
    seeds = "one seed" if settings.seeds == 1 else f"means over {settings.seeds} seeds"
    return "; ".join([*words, seeds])
