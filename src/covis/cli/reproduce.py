"""`covis reproduce`: every table that there is data for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_output
from covis.cli.progress import progress
from covis.errors import ArgumentError

Data = Annotated[Path, options.folder("Holds the benchmarks' folders, at most two deep.")]
Page = Annotated[Path, options.output("FILE", "The page to write.")]
Keep = Annotated[
    Path | None,
    options.folder(
        "Where every run's figures are kept, so that a stopped run goes on.", "beside FILE"
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="BENCHMARK",
        help="Only this one, see 'covis eval'; may be given several times.",
        show_default="all",
    ),
]
Official = Annotated[
    str, options.name("The official XFeat weights, as imported; their LightGlue is lightglue-NAME.")
]
Quick = Annotated[bool, options.flag("--quick", "Every fifth pair or query, one seed.")]


def command(
    data: Data = Path("data"),
    out: Page = Path("docs/results.md"),
    keep: Keep = None,
    only: Only = None,
    official: Official = "xfeat-official",
    quick: Quick = False,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Measure every table that there is data for, and write them as a page.

    Ours, the official weights where they are imported, SIFT, and what papers print, each
    labelled. Run it again to go on where it was stopped. 'covis eval' lists the benchmarks, and
    'covis eval BENCHMARK' says where its data comes from. Exits with 1 if some could not be
    measured; the page says why.
    """
    from covis.evaluation import reproduce
    from covis.evaluation.benchmark import Settings
    from covis.evaluation.result import Result
    from covis.files.atomic import replacing

    if not data.is_dir():
        raise ArgumentError(f"{data}: no such folder; --data names the one with the benchmarks.")
    base = Settings(
        every=reproduce.QUICK if quick else 1,
        seeds=1 if quick else 3,
        threads=threads,
        device=device,
    )
    jobs = reproduce.plan(data, official, base)
    check_output(out, *(job.folder for job in jobs))
    left_out = [(job, "left out") for job in jobs if only and job.benchmark not in only]
    jobs = [job for job in jobs if not only or job.benchmark in only]
    if not jobs:
        raise ArgumentError(
            f"{data}: no data of a benchmark there. It is looked for in folders of the benchmarks' "
            "names, such as hpatches/; 'covis eval' lists them, 'covis eval NAME' says what is in "
            "one."
        )
    keep = out.with_name(f"{out.stem}-parts") if keep is None else keep
    out.parent.mkdir(parents=True, exist_ok=True)
    done: list[tuple[reproduce.Job, Result]] = []
    failed: list[tuple[reproduce.Job, str]] = []
    with progress() as report:
        for i, (job, result, known) in enumerate(reproduce.run(jobs, keep, report), 1):
            if isinstance(result, Result):
                done.append((job, result))
                took = "measured before" if known else f"{result.seconds:.0f} s"
            else:
                failed.append((job, str(result)))
                took = f"not measured: {result}"
            typer.echo(f"{i} of {len(jobs)}: {job.benchmark}, {job.words}: {took}", err=True)
            waiting = [(later, "not yet") for later in jobs[i:]]
            with replacing(out) as file:
                file.write(reproduce.page(done, [*failed, *waiting, *left_out], official).encode())
    typer.echo(f"Wrote {out}.")
    if failed:
        raise typer.Exit(NOT_SO)
