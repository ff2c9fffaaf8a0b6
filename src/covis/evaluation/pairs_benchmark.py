"""Pairs of one's own: every set of pairs in a folder, see `covis.evaluation.pairs`.

Pictures are taken at their own size unless settings say otherwise; errors and thresholds are in
full-size pixels. Figures of a homography: AUC and share of pairs at 3, 5 and 7 pixels of corner
error; of a pose: at 5, 10 and 20 degrees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.method import Method, checked_size
from covis.evaluation.pairs import PairSet, read_pairs
from covis.evaluation.two_view import THRESHOLDS, Setup, TwoViewResult, evaluate_setups, pool

UNITS = {"homography": "px", "pose": "°"}
TITLES = {"homography": "homography", "pose": "relative pose"}


def find_sets(data: Path) -> list[PairSet]:
    """The sets of the folder itself, of the folders in it, and of those in them, by path.

    Raises ArgumentError as `read_pairs` does.
    """
    marks = ("pairs.json", "*/pairs.json", "*/*/pairs.json")
    return [read_pairs(path.parent) for mark in marks for path in sorted(data.glob(mark))]


def run(data: Path, settings: Settings, report: Report) -> list[Row]:
    sets = [
        dataclasses.replace(each, pairs=tuple(settings.sampled(each.pairs)))
        for each in find_sets(data)
    ]
    method = Method(settings)
    size = checked_size(settings, None)
    total, done = sum(len(each.pairs) for each in sets), 0

    def progress() -> None:
        nonlocal done
        done += 1
        report(done, total)

    rows: list[Row] = []
    results: dict[tuple[str, Setup], list[TwoViewResult]] = {}
    for pair_set in sets:
        for setup, result in evaluate_setups(
            lambda pair: method.match(pair.path0, pair.path1, size, size),
            pair_set,
            _setups(pair_set, settings),
            seeds=range(settings.seeds),
            report=progress,
        ).items():
            results.setdefault((pair_set.kind, setup), []).append(result)
    for (kind, setup), parts in results.items():
        several = [pool(parts, "all")] if len(parts) > 1 else []
        rows += [make_row(f"{TITLES[kind]}, {_words(setup)}", method.name, each)
                 for each in (*parts, *several)]  # fmt: skip
    return rows


def make_row(protocol: str, method: str, result: TwoViewResult) -> Row:
    """The figures of `TwoViewResult`, and each pair's errors."""
    unit = UNITS[result.kind]
    figures = {f"AUC@{t}{unit}": 100 * value for t, value in result.auc.items()}
    figures |= {f"share@{t}{unit}": 100 * value for t, value in result.share.items()}
    figures["matches"] = float(result.matches.mean())
    figures["inliers"] = float(result.inliers.mean())
    detail = {
        "errors": result.errors.tolist(),
        "matches": result.matches.tolist(),
        "inliers": result.inliers.tolist(),
        "thresholds": THRESHOLDS[result.kind],
    }
    return Row(protocol, method, result.name, figures, len(result.matches), detail=detail)


def _setups(pair_set: PairSet, settings: Settings) -> Sequence[Setup]:
    names = settings.estimators or ("poselib",)
    if pair_set.kind == "pose":
        names = tuple(name for name in names if name != "dlt")
    return [Setup(name, t) for name in names for t in settings.thresholds or (None,)]


def _words(setup: Setup) -> str:
    if setup.threshold is None or setup.estimator == "dlt":
        return setup.estimator
    return f"{setup.estimator} at {setup.threshold:g} px"
