"""`covis match-many`: many pairs into a folder, resumable."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.messages import counted

if TYPE_CHECKING:
    from covis.match_many import PairResult


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where results go.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Match every pair of pictures in this folder."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A text file, two pictures a line, relative to its folder. Put names with "
            "spaces in double quotes, or a tab between the two. # begins a comment line.",
        ),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw each pair as well.")] = False,
    features: options.Features = "xfeat",
    matcher: options.Matcher = options.DEFAULT_MATCHER,
    geometry: options.Geometry = "fundamental",
    max_keypoints: options.MaxKeypoints = options.DEFAULT_MAX_KEYPOINTS,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    rotate: options.Rotate = "none",
    full_depth: options.FullDepth = False,
    seed: options.Seed = 0,
    threads: options.Threads = None,
) -> None:
    """Match many pairs into a folder.

    Run it again to go on where it was stopped. DIR takes summary.csv, matches/ and features/
    (.npz: covis.Matches.load, covis.Features.load), with --draw drawings/. Exits with 1 if pairs
    had to be skipped.
    """
    if (folder is None) == (pairs is None):
        raise typer.BadParameter("give either a FOLDER or --pairs FILE.")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from covis import match_many

    if pairs is not None:
        listed = match_many.read_pairs(pairs)
        work, total = iter(listed), len(listed)
    else:
        pictures = match_many.pictures_in(folder or Path())
        work, total = itertools.combinations(pictures, 2), math.comb(len(pictures), 2)
    settings = match_many.Settings(
        features, matcher, geometry, max_keypoints, max_size or None, seed, rotate, full_depth
    )
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        told: set[str] = set()

        def report(result: PairResult) -> None:
            progress.advance(task)
            if result.skipped and result.skipped not in told:
                told.add(result.skipped)
                console.out(f"covis: {result.skipped}", highlight=False)

        summary = match_many.match_many(
            work, out, settings, draw=draw, threads=threads, report=report
        )
    done = f"{counted(summary.done, 'pair')} matched"
    before = f" ({summary.reused} of them before)" if summary.reused else ""
    typer.echo(
        f"{done}{before}, {summary.skipped} skipped; "
        f"features of {counted(summary.extracted, 'picture')} found. See {out / 'summary.csv'}."
    )
    if summary.skipped:
        raise typer.Exit(1)
