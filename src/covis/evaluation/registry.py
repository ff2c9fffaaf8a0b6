"""Every benchmark by the name that `covis eval` knows it by.

To add one: write `run(data, settings, report) -> list[Row]` (see `covis.evaluation.benchmark`) in a
module of `covis.evaluation`, a function here that imports it and calls it, and an entry in
BENCHMARKS. What papers print for it goes into `covis.evaluation.printed`, under the same protocol.
`covis reproduce` then finds its data by the marks and runs it. `run` is only called for a folder
that has one of the marks; anything else that is wrong with the data raises ArgumentError that
names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covis.evaluation.benchmark import Benchmark, Report, Row, Settings


def _pairs(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation import pairs_benchmark

    return pairs_benchmark.run(data, settings, report)


BENCHMARKS: Mapping[str, Benchmark] = {
    "pairs": Benchmark(
        "any pairs of pictures with a known homography or relative pose",
        "your own pictures",
        "one folder a set: the pictures and pairs.json, see covis.evaluation.pairs",
        ("pairs.json", "*/pairs.json", "*/*/pairs.json"),
        _pairs,
    ),
}
