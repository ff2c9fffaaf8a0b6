"""A benchmark's run: what it gave, with which settings and versions, where and when."""

from __future__ import annotations

import datetime
import json
import math
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from covis import __version__
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report, Settings
from covis.evaluation.registry import BENCHMARKS
from covis.evaluation.tables import Row, figures_table, finite
from covis.features.extractor import ALIASES
from covis.files.atomic import replacing
from covis.runtime.builds import installed_builds
from covis.runtime.bundle import find_bundle, installed_bundle, list_bundles

PACKAGES = ("numpy", "opencv-python-headless", "poselib")


@dataclass(frozen=True)
class Result:
    """What `run_benchmark` gives.

    models: name -> digest, of what features and matches were made with. date: ISO 8601, UTC.
    seconds: wall time.
    """

    benchmark: str
    data: str
    settings: Settings
    models: Mapping[str, str]
    rows: tuple[Row, ...]
    seconds: float
    date: str
    machine: str
    versions: Mapping[str, str]

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all; NaN and infinity become null."""
        with replacing(path) as file:
            file.write(json.dumps(finite(asdict(self)), indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; null figures become NaN. Raises ArgumentError on other files."""
        try:
            values = json.loads(Path(path).read_text("utf-8"))
            settings = values.pop("settings")
            settings |= {name: tuple(settings[name]) for name in ("estimators", "thresholds")}
            rows = tuple(
                Row(**row | {"figures": {k: _number(v) for k, v in row["figures"].items()}})
                for row in values.pop("rows")
            )
            return cls(settings=Settings(**settings), rows=rows, **values)
        except OSError as error:
            raise ArgumentError(f"{path}: cannot be read ({error.strerror}).") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ArgumentError(f"{path}: no result of a benchmark ({error}).") from error


def run_benchmark(
    name: str, data: str | Path, settings: Settings, report: Report = lambda done, total: None
) -> Result:
    """Run a benchmark of the registry on a folder.

    Raises ArgumentError on an unknown name, and where the folder does not hold its data: then it
    says where that comes from.
    """
    if name not in BENCHMARKS:
        raise ArgumentError(f"no benchmark '{name}'; there are: {', '.join(BENCHMARKS)}.")
    benchmark, data = BENCHMARKS[name], Path(data)
    if not benchmark.is_in(data):
        raise ArgumentError(f"{data}: this folder has no data of {name}; {benchmark.how_to_get}.")
    began = time.perf_counter()
    rows = tuple(benchmark.run(data, settings, report))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    seconds = round(time.perf_counter() - began, 1)
    return Result(
        name, str(data), settings, models(name, settings), rows, seconds, now, machine(), versions()
    )


def models(benchmark: str, settings: Settings) -> dict[str, str]:
    """Digests, by name, of the models that a run may depend on.

    Those that the settings name, SIFT being none; all that are installed where a benchmark says
    itself what it compares.
    """
    if BENCHMARKS[benchmark].methods == "own":
        return {bundle.name: bundle.digest() for bundle in list_bundles()}
    features = ALIASES.get(settings.features, settings.features)
    names = [features, settings.matcher]
    if settings.matcher in ("auto", "lightglue"):
        names[1] = f"lightglue-{features}"
    found = [find_bundle(name) for name in names if _is_bundle(name)]
    return {bundle.name: bundle.digest() for bundle in found}


def _is_bundle(name: str) -> bool:
    return installed_bundle(name) is not None or (Path(name) / "bundle.json").is_file()


def machine() -> str:
    """The processor, how many of it this process may use, and the system."""
    from covis.options import cpu_threads

    return f"{_processor()}, {cpu_threads()} processors, {platform.system()}"


def versions() -> dict[str, str]:
    """Those of covis, Python and every package that the figures depend on."""
    found = {"covis": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | installed_builds()


def tables(benchmark: str, rows: Sequence[tuple[str, Row]]) -> str:
    """Markdown: for each protocol what was measured and what papers print, each labelled.

    rows: with what stands in the first column, "measured" or whose method it is.
    """
    blocks = []
    for protocol in dict.fromkeys(row.protocol for _, row in rows):
        own = [(label, row) for label, row in rows if row.protocol == protocol]
        columns = {name for _, row in own for name in row.figures}
        printed = [
            (f"printed: {each.source}", _with_figures(each.row, columns))
            for each in BENCHMARKS[benchmark].published
            if each.protocol == protocol
        ]
        notes = dict.fromkeys(row.note for _, row in own if row.note)
        table = figures_table([*own, *printed])
        blocks.append("\n\n".join([f"{benchmark}, {protocol}:", table, *notes]))
    return "\n\n".join(blocks)


def _with_figures(row: Row, names: Collection[str]) -> Row:
    return replace(row, figures={k: v for k, v in row.figures.items() if k in names})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _number(value: float | None) -> float:
    return math.nan if value is None else value
