"""A benchmark's run: what it gave, with which settings and versions, where and when."""

from __future__ import annotations

import datetime
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from covis import __version__
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.published_results import PRINTED, Printed
from covis.evaluation.registry import BENCHMARKS
from covis.features.extractor import DEFAULT_FEATURES
from covis.files.atomic import replacing
from covis.runtime.bundle import find_bundle, installed_bundle, list_bundles

PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "poselib")


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
            file.write(json.dumps(_finite(asdict(self)), indent=1, allow_nan=False).encode())

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
        except (ValueError, TypeError, KeyError, AttributeError) as error:
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
        raise ArgumentError(f"{data}: {name} is not there; {benchmark.how_to_get}.")
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
    features = DEFAULT_FEATURES if settings.features == "xfeat" else settings.features
    names = [features, settings.matcher]
    if settings.matcher in ("auto", "lightglue"):
        names[1] = f"lightglue-{features}"
    found = [find_bundle(name) for name in names if _is_bundle(name)]
    return {bundle.name: bundle.digest() for bundle in found}


def _is_bundle(name: str) -> bool:
    return installed_bundle(name) is not None or (Path(name) / "bundle.json").is_file()


def machine() -> str:
    """The processor, how many of it this process may use, and the system."""
    from covis.runtime.onnx import cpu_threads

    return f"{_processor()}, {cpu_threads()} processors, {platform.system()}"


def versions() -> dict[str, str]:
    """Those of covis, Python and every package that the figures depend on."""
    found = {"covis": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def tables(benchmark: str, rows: Sequence[tuple[str, Row]]) -> str:
    """Markdown: for each protocol what was measured and what papers print, each labelled.

    rows: with what stands in the first column, "measured" or whose method it is.
    """
    blocks = []
    for protocol in dict.fromkeys(row.protocol for _, row in rows):
        own = [(label, row) for label, row in rows if row.protocol == protocol]
        printed = [p for p in PRINTED if (p.benchmark, p.protocol) == (benchmark, protocol)]
        notes = dict.fromkeys(row.note for _, row in own if row.note)
        blocks.append("\n\n".join([f"{benchmark}, {protocol}:", _table(own, printed), *notes]))
    return "\n\n".join(blocks)


def _table(measured: Sequence[tuple[str, Row]], printed: Sequence[Printed]) -> str:
    columns = list(dict.fromkeys(name for _, row in measured for name in row.figures))
    lines = [["", "method", "part", "items", *columns]]
    lines.append(["---"] * len(lines[0]))
    for label, row in measured:
        cells = [_cell(row.figures.get(name, math.nan)) for name in columns]
        lines.append([label, row.method, row.part, str(row.items), *cells])
    for each in printed:
        cells = [_cell(each.figures.get(name, math.nan)) for name in columns]
        lines.append([f"printed: {each.source}", each.method, each.part, "", *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
