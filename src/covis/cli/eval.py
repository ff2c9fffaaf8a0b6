"""`covis eval`: a published benchmark, or pairs of one's own, beside what papers print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options

BenchmarkName = Annotated[
    str | None,
    typer.Argument(metavar="BENCHMARK", help="Its name; leave it out to list them all."),
]
Data = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Its folder; leave it out to see where to get it."),
]
Estimators = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="poselib (LO-RANSAC), poselib-prosac (best matches first), opencv (RANSAC), "
        "opencv-magsac, or dlt (homographies, all matches); may be given several times.",
        show_default="those of the benchmark's papers",
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
MaxKeypoints = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Features an image at most.", show_default="the benchmark's"
    ),
]
MaxSize = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="PX",
        help="Shrink larger images to this longest side; 0 for full size.",
        show_default="the benchmark's",
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Retrieval: how many are checked by matches.",
        show_default="the benchmark's",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(metavar="NAME", help="Measure by one paper's protocol only.", show_default="all"),
]
Large = Annotated[
    bool,
    typer.Option("--large", help="HPatches: with the 8 large sequences that others leave out."),
]
Every = Annotated[
    int, typer.Option(min=1, metavar="N", help="Only every N-th pair or query, for a try.")
]
Seeds = Annotated[
    int, typer.Option(min=1, metavar="N", help="Robust estimations a pair; means are printed.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="Write settings and figures as JSON."),
]


def command(
    benchmark: BenchmarkName = None,
    data: Data = None,
    features: options.Features = options.DEFAULT_FEATURES,
    matcher: options.Matcher = options.DEFAULT_MATCHER,
    full_depth: options.FullDepth = False,
    estimator: Estimators = None,
    threshold: Thresholds = None,
    max_keypoints: MaxKeypoints = None,
    max_size: MaxSize = None,
    top: Top = None,
    protocol: Protocol = "",
    large: Large = False,
    every: Every = 1,
    seeds: Seeds = 3,
    threads: options.Threads = None,
    out: Out = None,
) -> None:
    """Measure features and matchers on a benchmark, beside what papers print.

    Figures are in percent unless their name says otherwise. Rows say whether they were measured
    here or are printed in a paper.
    """
    from covis.evaluation.registry import BENCHMARKS

    if benchmark is None:
        for name, each in BENCHMARKS.items():
            typer.echo(f"{name:16} {each.about}")
        return
    if data is None and benchmark in BENCHMARKS:
        typer.echo(f"{benchmark}: {BENCHMARKS[benchmark].how_to_get}.")
        return

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
    )
    with options.progress() as report:
        result = run_benchmark(benchmark, data or Path(), settings, report)
    if out is not None:
        result.save(out)
    typer.echo(tables(benchmark, [("measured", row) for row in result.rows]))
    typer.echo(
        f"\n{result.seconds:.0f} s on {result.machine}, {threads or 'all'} used; {seeds} seeds."
    )
