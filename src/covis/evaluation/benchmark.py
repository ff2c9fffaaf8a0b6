"""What every benchmark takes and says of itself: settings, a report of progress, its description.

A benchmark is a function `run(data, settings, report) -> list[Row]` in a module of
`covis.evaluation.benchmarks`, and a `Benchmark` that describes it in the module's `BENCHMARKS`;
`covis.evaluation.registry` lists the module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from covis.errors import ArgumentError
from covis.evaluation.published_results import PublishedResult
from covis.evaluation.tables import Row
from covis.options import DEFAULT_DEVICE, DEFAULT_FEATURES, DEFAULT_MATCHER, Device

T = TypeVar("T")

ESTIMATORS = ("poselib", "poselib-prosac", "opencv", "opencv-magsac", "dlt")
"""See `covis.evaluation.estimators`."""

Report = Callable[[int, int], None]
"""Takes how many items are done, and of how many."""


@dataclass(frozen=True)
class Settings:
    """What the figures depend on. Where a field is None or empty, the benchmark takes its own.

    features, matcher, full_depth, max_keypoints, max_size, threads, device: as `covis.match` takes
        them; max_size 0 is for no shrinking.
    estimators: see `covis.evaluation.estimators`. thresholds: of the robust estimation, in pixels
        of the pictures as they are matched; of several the best one is reported, and said so.
    seeds: how many times the robust estimation is drawn; figures are means over them.
    every: takes every so many-th item only, to try things out.
    top: how many pictures of a ranking are checked by local matches.
    protocol: of a benchmark with several, the one to measure by; empty for all.
    large: with what the usual protocol leaves out for its size, where there is such a thing.
    """

    features: str = DEFAULT_FEATURES
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
    device: Device = DEFAULT_DEVICE

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
class Benchmark:
    """What a benchmark says of itself.

    name: as `covis eval` takes it. about: one line. source: the official address of the data.
    layout: how to lay it out, one line.
    marks: patterns; a folder in which one of them finds something has the data.
    run: the benchmark. It is only called for a folder that has one of the marks; anything else
        that is wrong with the data raises ArgumentError that names the file.
    folders: other names that `covis reproduce` finds the data under.
    methods: what `covis reproduce` compares: "pairs", matchers; "search", features; "own", the
        benchmark says itself.
    published: what papers print for it.
    """

    name: str
    about: str
    source: str
    layout: str
    marks: tuple[str, ...]
    run: Callable[[Path, Settings, Report], list[Row]]
    folders: tuple[str, ...] = ()
    methods: Literal["pairs", "search", "own"] = "own"
    published: tuple[PublishedResult, ...] = ()

    def is_in(self, folder: Path) -> bool:
        return any(next(folder.glob(mark), None) is not None for mark in self.marks)

    @property
    def how_to_get(self) -> str:
        """One line: where the data comes from and how to lay it out."""
        return (
            f"data: {self.source}; layout: {self.layout}; then 'covis eval {self.name} FOLDER' "
            "with the folder that holds it"
        )
