"""`covis match-many`: many pairs into a folder, resumable."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.progress import StageBars
from covis.messages import counted

if TYPE_CHECKING:
    from covis.match_many import PairResult


def command(
    out: Annotated[Path, options.output("DIR", "Where results go.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Match every pair of pictures in this folder."),
    ] = None,
    pairs: Annotated[
        Path | None,
        options.file(
            "A text file, two pictures a line, relative to its folder. Put names with "
            "spaces in double quotes, or a tab between the two. # begins a comment line."
        ),
    ] = None,
    draw: Annotated[bool, options.drawings("pair")] = False,
    features: options.PairFeatures = None,
    matcher: options.PairMatcher = options.DEFAULT_MATCHER,
    geometry: options.Geometry = options.DEFAULT_GEOMETRY,
    max_keypoints: options.MaxKeypoints = options.DEFAULT_MAX_KEYPOINTS,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    rotate: options.Rotate = options.DEFAULT_ROTATE,
    full_depth: options.FullDepth = False,
    effort: options.Effort = options.DEFAULT_EFFORT,
    budget: options.Budget = None,
    seed: options.Seed = options.DEFAULT_SEED,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Match many pairs into a folder.

    Run it again to go on where it was stopped. DIR takes summary.csv, matches/ and features/
    (.npz: covis.Matches.load, covis.Features.load), with --drawings drawings/. Exits with 1 if
    pairs had to be skipped.
    """
    if (folder is None) == (pairs is None):
        raise typer.BadParameter("give either a FOLDER or --pairs FILE.")

    from covis import match_many
    from covis.images.picture_files import pictures_to_pair, read_pairs
    from covis.options import MatchOptions, RuntimeOptions

    if pairs is not None:
        listed = read_pairs(pairs)
        work, total = iter(listed), len(listed)
    else:
        pictures = pictures_to_pair(folder or Path())
        work, total = itertools.combinations(pictures, 2), math.comb(len(pictures), 2)
    chosen = MatchOptions(
        features=features,
        matcher=matcher,
        geometry=geometry,
        max_keypoints=max_keypoints,
        max_size=max_size,
        rotate=rotate,
        full_depth=full_depth,
        effort=effort,
        budget=budget,
        seed=seed,
    )
    with StageBars() as bars:
        seen, told = itertools.count(1), set[str]()
        runtime = RuntimeOptions(threads=threads, device=device)

        def report(result: PairResult) -> None:
            bars("pairs", next(seen), total)
            if result.skipped and result.skipped not in told:
                told.add(result.skipped)
                bars.tell(f"covis: {result.skipped}")

        summary = match_many.match_many(
            work, out, chosen, draw=draw, runtime=runtime, report=report
        )
    done = f"{counted(summary.done, 'pair')} matched"
    before = f" ({summary.reused} of them before)" if summary.reused else ""
    typer.echo(
        f"{done}{before}, {summary.skipped} skipped; "
        f"features of {counted(summary.extracted, 'picture')} found. See {out / 'summary.csv'}."
    )
    if summary.skipped:
        raise typer.Exit(NOT_SO)
