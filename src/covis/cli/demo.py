"""`covis demo`: matches against a known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.outputs import check_drawing
from covis.errors import CovisError
from covis.messages import described_matches

if TYPE_CHECKING:
    from covis.demo import DemoPair
    from covis.types import BoolArray, Matches

RIGHT_WITHIN = 3
"""Pixels."""


def command(
    output: Annotated[Path, options.drawing("the matches")] = Path("demo.png"),
    keep: Annotated[
        Path | None, options.folder("Keep the two rendered pictures in this folder.")
    ] = None,
    baseline: Annotated[
        float,
        typer.Option(
            min=0, max=3, metavar="X", help="How far apart the two views are; 2 is a hard pair."
        ),
    ] = 1.0,
    features: options.PairFeatures = None,
    matcher: options.PairMatcher = options.DEFAULT_MATCHER,
    effort: options.Effort = options.DEFAULT_EFFORT,
    seed: options.Seed = options.DEFAULT_SEED,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
    web: Annotated[
        bool, options.flag("--web", "Show the pair on the page of 'covis web' instead.")
    ] = False,
) -> None:
    """Match two rendered views of a scene.

    What is found is checked against the known truth.
    """
    if web:
        from covis.cli.web import open_page

        open_page([], at="#/match/demo", device=device)
        return
    check_drawing(output)
    from covis.api import match
    from covis.demo import render_demo

    pair = render_demo(seed=seed, baseline=baseline)
    if keep is not None:
        _keep(pair, keep)
    found = match(
        pair.image0,
        pair.image1,
        features=features,
        matcher=matcher,
        effort=effort,
        seed=seed,
        threads=threads,
        device=device,
    )
    found.draw(pair.image0, pair.image1, output)
    for line in described_matches(found):
        typer.echo(line)
    inliers = found.inliers
    right = right_matches(found, pair)
    typer.echo(
        f"Right within {RIGHT_WITHIN} pixels of the truth: {right.sum()} of {len(found)}; "
        f"of those that agree, {right[inliers].sum()} of {inliers.sum()}."
    )
    typer.echo(f"Drawn in {output}.")


def right_matches(found: Matches, pair: DemoPair) -> BoolArray:
    """(N,) bool: the matches whose point in view 1 lies where the scene says."""
    import numpy as np

    truth, visible = pair.to_view1(found.points0)
    error = np.linalg.norm(found.points1 - truth, axis=1)
    right: BoolArray = visible & (error <= RIGHT_WITHIN)
    return right


def _keep(pair: DemoPair, folder: Path) -> None:
    from covis.draw.canvas import save_picture

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{folder}: cannot make this folder ({error.strerror}).") from None
    save_picture(pair.image0, folder / "a.png")
    save_picture(pair.image1, folder / "b.png")
