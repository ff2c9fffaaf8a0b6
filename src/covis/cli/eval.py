"""`covis eval`: a published benchmark, or pairs of one's own, beside what papers print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.outputs import check_output
from covis.cli.progress import progress

ITS_OWN = "the benchmark's"

BenchmarkName = Annotated[
    str | None, typer.Argument(metavar="BENCHMARK", help="Its name; leave it out to list them all.")
]
Data = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Its folder; leave it out to see where to get it."),
]
Estimators = Annotated[
    list[str] | None,
    options.name(
        "poselib (LO-RANSAC), poselib-prosac (best matches first), opencv (RANSAC), "
        "opencv-magsac, or dlt (homographies, all matches); may be given several times.",
        "those of the benchmark's papers",
    ),
]
Thresholds = Annotated[
    list[float] | None,
    typer.Option(
        metavar="PX",
        help="Inlier threshold; of several the best is reported, and said so.",
        show_default="those of the benchmark's papers",
    ),
]
Top = Annotated[
    int | None, options.number("Retrieval: how many are checked by matches.", ITS_OWN, least=0)
]
Protocol = Annotated[str, options.name("Measure by one paper's protocol only.", "all")]
Large = Annotated[
    bool, options.flag("--large", "HPatches: with the 8 large sequences that others leave out.")
]
Every = Annotated[int, options.number("Only every N-th pair or query, for a try.")]
Seeds = Annotated[int, options.number("Robust estimations a pair; means are printed.")]
Out = Annotated[Path | None, options.output("FILE", "Write settings and figures as JSON.")]


def command(
    benchmark: BenchmarkName = None,
    data: Data = None,
    features: options.Features = options.DEFAULT_FEATURES,
    matcher: options.Matcher = options.DEFAULT_MATCHER,
    full_depth: options.FullDepth = False,
    estimator: Estimators = None,
    threshold: Thresholds = None,
    max_keypoints: Annotated[int | None, options.max_keypoints(ITS_OWN)] = None,
    max_size: Annotated[int | None, options.max_size(ITS_OWN)] = None,
    top: Top = None,
    protocol: Protocol = "",
    large: Large = False,
    every: Every = 1,
    seeds: Seeds = 3,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
    out: Out = None,
) -> None:
    """Measure features and matchers on a benchmark, beside what papers print.

    Figures are in percent unless their name says otherwise. Rows say whether they were measured
    here or are printed in a paper.
    """
    from covis.evaluation.registry import BENCHMARKS

    if benchmark is None:
        for name, each in BENCHMARKS.items():
            typer.echo(f"{name:18} {each.about}")
        return
    if data is None and benchmark in BENCHMARKS:
        typer.echo(f"{benchmark}: {BENCHMARKS[benchmark].how_to_get}.")
        return
    if out is not None:
        check_output(out, data)

    from covis.evaluation.benchmark import Settings
    from covis.evaluation.result import run_benchmark, tables

    settings = Settings(
        features=features,
        matcher=matcher,
        full_depth=full_depth,
        max_keypoints=max_keypoints,
        max_size=max_size,
        estimators=tuple(estimator or ()),
        thresholds=tuple(threshold or ()),
        seeds=seeds,
        every=every,
        top=top,
        protocol=protocol,
        large=large,
        threads=threads,
        device=device,
    )
    with progress() as report:
        result = run_benchmark(benchmark, data or Path(), settings, report)
    if out is not None:
        result.save(out)
    typer.echo(tables(benchmark, [("measured", row) for row in result.rows]))
    typer.echo(
        f"\n{result.seconds:.0f} s on {result.machine}, {threads or 'all'} used; {seeds} seeds."
    )
