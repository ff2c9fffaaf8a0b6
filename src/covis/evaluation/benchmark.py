"""What every benchmark takes and gives: settings, a report of progress, rows of figures.

A benchmark is a function `run(data, settings, report) -> list[Row]` in a module of its own and an
entry in `covis.evaluation.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from covis.errors import ArgumentError
from covis.matching.matcher import DEFAULT_MATCHER

T = TypeVar("T")

ESTIMATORS = ("poselib", "poselib-prosac", "opencv", "opencv-magsac", "dlt")
"""See `covis.evaluation.estimators`."""

Report = Callable[[int, int], None]
"""Takes how many items are done, and of how many."""


@dataclass(frozen=True)
class Settings:
    """What the figures depend on. Where a field is None or empty, the benchmark takes its own.

    features, matcher, full_depth, max_keypoints, max_size, threads: as `covis.match` takes them;
        max_size 0 is for no shrinking.
    estimators: see `covis.evaluation.estimators`. thresholds: of the robust estimation, in pixels
        of the pictures as they are matched; of several the best one is reported, and said so.
    seeds: how many times the robust estimation is drawn; figures are means over them.
    every: takes every so many-th item only, to try things out.
    top: how many pictures of a ranking are checked by local matches.
    protocol: of a benchmark with several, the one to measure by; empty for all.
    large: with what the usual protocol leaves out for its size, where there is such a thing.
    """

    features: str = "xfeat"
    matcher: str = DEFAULT_MATCHER
    full_depth: bool = False
    max_keypoints: int | None = None
    max_size: int | None = None
    estimators: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    seeds: int = 3
    every: int = 1
    top: int | None = None
    protocol: str = ""
    large: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "every"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.top is not None and self.top < 0:
            raise ArgumentError(f"top must be 0 or more, not {self.top}.")
        for name in self.estimators:
            if name not in ESTIMATORS:
                raise ArgumentError(f"no estimator '{name}'; there are: {', '.join(ESTIMATORS)}.")
        if not all(0 < threshold < float("inf") for threshold in self.thresholds):
            raise ArgumentError(f"thresholds must be positive pixels, not {self.thresholds}.")

    def sampled(self, items: Sequence[T]) -> Sequence[T]:
        """Every `every`-th item."""
        return items[:: self.every]


@dataclass(frozen=True)
class Row:
    """The figures of one method on one part of a benchmark.

    protocol: what was measured and how, in words; rows of one protocol stand in one table, and
        `covis.evaluation.published_results` has what papers print under it.
    method: what was measured, by the names of its models. part: "all", a scene, a set.
    figures: name -> value, as papers print them: shares and areas in percent, others with their
        unit in the name; NaN for none. items: how many pairs, queries, ... they come from.
    note: what else a reader must know. detail: ready for JSON, such as single errors.
    """

    protocol: str
    method: str
    part: str
    figures: Mapping[str, float]
    items: int
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """An entry of the registry.

    about: one line. source: the official address of the data. layout: how to lay it out, one line.
    marks: patterns; a folder in which one of them finds something has the data.
    run: the benchmark; imports what it needs when it is called.
    """

    about: str
    source: str
    layout: str
    marks: tuple[str, ...]
    run: Callable[[Path, Settings, Report], list[Row]]
    folders: tuple[str, ...] = ()
    methods: Literal["pairs", "search", "own"] = "own"

    def is_in(self, folder: Path) -> bool:
        return any(next(folder.glob(mark), None) is not None for mark in self.marks)

    @property
    def how_to_get(self) -> str:
        """One line: where the data comes from and how to lay it out."""
        return f"the data is at {self.source}; laid out as {self.layout}"
