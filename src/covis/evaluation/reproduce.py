"""Every table that there is data for, in one run that can be stopped and goes on.

A table is a benchmark on a folder. Pairs are matched and search is done with our models, the
official weights where they are installed, and SIFT. Each run's result is kept as JSON, and taken
from there when settings and models are the same.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from covis.errors import ArgumentError, CovisError
from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.benchmarks.pairs import figures
from covis.evaluation.metrics.two_view import TwoViewResult
from covis.evaluation.registry import BENCHMARKS
from covis.evaluation.result import (
    Result,
    machine,
    models,
    run_benchmark,
    tables,
    versions,
)
from covis.runtime.bundle import installed_bundle

QUICK = 5
"""Of how many pairs or queries a quick run takes one."""

GROUPS = {"hard poses": ("7scenes", "scannet-sample")}
"""Sets of pairs that get a row together where all of them are there."""

OWN = ("pairs", "queries")
"""Benchmarks of one's own pictures, in folders of any name."""

DEEP = ("", "*/", "*/*/")
"""How deep below the folder of data a benchmark's folder may be."""


@dataclass(frozen=True)
class Job:
    """One run. label: whose method it is, for the table's first column."""

    benchmark: str
    folder: Path
    label: str
    settings: Settings

    @property
    def file(self) -> str:
        words = self.benchmark, self.folder.name, self.label, *self._method
        return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()) + ".json"

    @property
    def _method(self) -> tuple[str, ...]:
        settings = self.settings
        depth = "full" if settings.full_depth else ""
        return settings.features, settings.matcher, depth, str(settings.max_keypoints or "")

    @property
    def words(self) -> str:
        """What it measures, for people."""
        if BENCHMARKS[self.benchmark].methods == "own":
            return self.label
        settings = self.settings
        depth = ", full depth" if settings.full_depth else ""
        points = f", {settings.max_keypoints} keypoints" if settings.max_keypoints else ""
        return f"{self.label}, {settings.features} + {settings.matcher}{depth}{points}"

    def kept(self, folder: Path) -> Result | None:
        """The result of the same run before, None where there is none."""
        try:
            result = Result.load(folder / self.file)
        except ArgumentError:
            return None
        same = (
            (result.benchmark, result.data) == (self.benchmark, str(self.folder))
            and result.settings == self.settings
            and result.models == models(self.benchmark, self.settings)
            and result.versions == versions()
        )
        return result if same else None


def find_data(root: Path) -> Iterator[tuple[str, Path]]:
    """Benchmarks and folders that have their data, at most two folders deep.

    A benchmark's folder is called by its name, or another that the registry gives it, whatever its
    case and its hyphens; those of one's own, "pairs" and "queries", by any. Pairs are one table,
    wherever they are.
    """
    folders = [root, *(path for mark in DEEP[1:] for path in sorted(root.glob(mark)))]
    for name, benchmark in BENCHMARKS.items():
        if name in OWN:
            at = next((folder for folder in folders if benchmark.is_in(folder)), None)
            if at is not None:
                yield name, at
            continue
        names = {_plain(each) for each in (name, *benchmark.folders)}
        for folder in folders:
            if _plain(folder.name) in names and benchmark.is_in(folder):
                yield name, folder


def plan(root: Path, official: str, base: Settings) -> list[Job]:
    """What is run.

    official: the name of the official XFeat weights; left out where they are not installed, as is
    their LightGlue, "lightglue-" and that name.
    """
    return [
        Job(name, folder, label, settings)
        for name, folder in find_data(root.resolve())
        for label, settings in _contestants(name, official, base)
    ]


def run(
    jobs: Sequence[Job], keep: Path, report: Report = lambda done, total: None
) -> Iterator[tuple[Job, Result | CovisError, bool]]:
    """Run what was not run before, one job after the other.

    Gives the result, or why there is none, such as a missing model or a damaged file, and whether
    it was known before. keep: takes a JSON file for each job.
    """
    keep.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        result: Result | CovisError | None = job.kept(keep)
        known = result is not None
        if result is None:
            try:
                result = run_benchmark(job.benchmark, job.folder, job.settings, report)
                result.save(keep / job.file)
            except CovisError as error:
                result = error
        yield job, result, known


def page(
    done: Sequence[tuple[Job, Result]], waiting: Sequence[tuple[Job, str]], official: str
) -> str:
    """docs/results.md. waiting: what has not been measured, and why."""
    dates = sorted(result.date[:10] for _, result in done)
    spans = [dates[0], dates[-1]] if dates else [datetime.date.today().isoformat()] * 2
    when = spans[0] if spans[0] == spans[1] else f"{spans[0]} to {spans[1]}"
    blocks = ["# Results", HEAD.format(when=when)]
    blocks.append("\n".join(f"- {line}" for line in _facts(done, official)))
    for name, folder in dict.fromkeys((job.benchmark, job.folder) for job, _ in done):
        here = [(j, r) for j, r in done if (j.benchmark, j.folder) == (name, folder)]
        seconds = sum(result.seconds for _, result in here)
        title = name if name in OWN else f"{name} ({folder.name})"
        blocks.append(f"## {title}")
        blocks.append(f"{BENCHMARKS[name].about[0].upper()}{BENCHMARKS[name].about[1:]}.")
        blocks += _sections(name, here)
        blocks.append(f"Measured in {seconds:.0f} seconds.")
    measured = {job.benchmark for job, _ in (*done, *waiting)} | set(OWN)
    missing = [name for name in BENCHMARKS if name not in measured]
    if waiting:
        blocks.append("## Not measured")
        blocks.append("\n".join(f"- `{j.benchmark}`, {j.words}: {why}" for j, why in waiting))
    if missing:
        blocks.append("## Not measured: no data")
        blocks.append(MISSING)
        blocks.append("\n".join(f"- `{n}`: {BENCHMARKS[n].how_to_get}" for n in missing))
    return "\n\n".join(blocks) + "\n"


HEAD = (
    "Written by `covis reproduce`, {when}. Figures are in percent unless their name says\n"
    "otherwise. The first column says whose weights a row was measured with here, or which paper\n"
    "prints it; what is printed was not measured here."
)
MISSING = "Put the data into a folder of that name and run `covis reproduce --data` again."


def _contestants(name: str, official: str, base: Settings) -> Iterator[tuple[str, Settings]]:
    methods = BENCHMARKS[name].methods
    if methods == "own":
        yield "ours", base
        return
    has_official = installed_bundle(official) is not None
    nearest = replace(base, matcher="nearest")
    if methods == "search":
        yield "SIFT", replace(nearest, features="sift")
        if has_official:
            yield "official weights", replace(nearest, features=official)
        yield "ours", nearest
        return
    # Pairs of one's own have no paper that says how many keypoints; README's tables have these.
    many, few = (4096, 2048) if name == "pairs" else (None, None)
    yield "SIFT", replace(nearest, features="sift", max_keypoints=many)
    if has_official:
        yield "official weights", replace(nearest, features=official, max_keypoints=many)
    yield "ours", replace(nearest, max_keypoints=many)
    lightglue = replace(base, matcher="lightglue", max_keypoints=few)
    if name == "pairs":
        if has_official:
            yield "official weights", replace(nearest, features=official, max_keypoints=few)
        yield "ours", replace(nearest, max_keypoints=few)
    if has_official and installed_bundle(f"lightglue-{official}") is not None:
        yield "official weights", replace(lightglue, features=official)
    yield "ours", lightglue
    yield "ours", replace(lightglue, full_depth=True)


def _sections(name: str, done: Sequence[tuple[Job, Result]]) -> Iterator[str]:
    """The tables of one benchmark; of pairs, runs with as many keypoints side by side."""
    by_keypoints: dict[int | None, list[tuple[Job, Result]]] = {}
    for job, result in done:
        by_keypoints.setdefault(job.settings.max_keypoints, []).append((job, result))
    for keypoints, runs in by_keypoints.items():
        if len(by_keypoints) > 1:
            yield f"### {keypoints} keypoints"
        rows = [
            (job.label, row)
            for job, result in runs
            for row in (*result.rows, *_grouped(result.rows))
        ]
        if name != "pairs":
            yield tables(name, rows)
            continue
        whole = _by_part([each for each in rows if each[1].part in ("all", *GROUPS)])
        single = _by_part([each for each in rows if each not in whole])
        if whole:
            yield tables(name, whole)
        if single:
            table = tables(name, single)
            yield f"<details><summary>Set by set</summary>\n\n{table}\n\n</details>"


def _by_part(rows: Iterable[tuple[str, Row]]) -> list[tuple[str, Row]]:
    listed = list(rows)
    parts = list(dict.fromkeys(row.part for _, row in listed))
    return sorted(listed, key=lambda each: parts.index(each[1].part))


def _grouped(rows: Sequence[Row]) -> Iterator[Row]:
    """A row for each of GROUPS, from the errors of their sets."""
    for group, names in GROUPS.items():
        for protocol in dict.fromkeys(row.protocol for row in rows):
            parts = [row for row in rows if row.protocol == protocol and row.part in names]
            if len(parts) < len(names) or not all("errors" in row.detail for row in parts):
                continue
            result = TwoViewResult(
                group,
                "pose",
                np.concatenate([_errors(row.detail) for row in parts]),
                np.concatenate([np.array(row.detail["matches"]) for row in parts]),
                np.concatenate([np.array(row.detail["inliers"]) for row in parts]),
            )
            yield replace(
                parts[0], part=group, figures=figures(result), items=len(result.matches), detail={}
            )


def _errors(detail: Mapping[str, object]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(pairs, seeds); JSON's null stands for an infinite one."""
    errors = np.array(detail["errors"], np.float64)
    return np.where(np.isnan(errors), np.inf, errors)


def _facts(done: Sequence[tuple[Job, Result]], official: str) -> Iterator[str]:
    machines = dict.fromkeys(result.machine for _, result in done) or {machine(): None}
    yield f"machine: {'; '.join(machines)}"
    threads = {job.settings.threads or "all" for job, _ in done}
    yield f"threads: {', '.join(map(str, sorted(threads, key=str)))}"
    packages = [f"{name} {number}" for name, number in versions().items()]
    yield f"versions: {', '.join(packages)}"
    seeds = {job.settings.seeds for job, _ in done}
    numbers = ", ".join(f"0 to {count - 1}" if count > 1 else "0" for count in sorted(seeds))
    yield f"seeds of the robust estimation: {numbers}"
    named = {name: digest for _, result in done for name, digest in result.models.items()}
    yield "models: " + ", ".join(f"{name} ({digest})" for name, digest in sorted(named.items()))
    if any(job.settings.every > 1 for job, _ in done):
        yield f"a quick run: only one pair or query in {QUICK}"
    if installed_bundle(official) is None:
        yield (
            f"official weights: none are installed as '{official}'; see 'covis weights import' in "
            "README.md"
        )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
