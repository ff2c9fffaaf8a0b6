"""A benchmark as somebody would add one: how many words a text has, after a paper that knew."""

from __future__ import annotations

from pathlib import Path

from covis.evaluation.benchmark import Benchmark, Report, Settings
from covis.evaluation.published_results import PublishedResult
from covis.evaluation.tables import Row

PROTOCOL = "counting"


def run(data: Path, settings: Settings, report: Report) -> list[Row]:
    texts = settings.sampled(sorted(data.glob("*.txt")))
    rows = []
    for done, path in enumerate(texts, 1):
        words = len(path.read_text().split())
        rows.append(Row(PROTOCOL, settings.features, path.stem, {"words": float(words)}, 1))
        report(done, len(texts))
    return rows


BENCHMARKS = (
    Benchmark(
        "toy",
        "words of texts",
        "https://example.org/texts",
        "texts, *.txt",
        ("*.txt",),
        run,
        published=(PublishedResult("toy", PROTOCOL, "Abacus", "a", {"words": 3.0}, "A paper"),),
    ),
)
