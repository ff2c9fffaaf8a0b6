"""`covis match`: the points that two images share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.messages import counted

if TYPE_CHECKING:
    from covis.types import Matches

_MODEL_NAMES = {
    "homography": "a homography",
    "fundamental": "a fundamental matrix",
    "essential": "an essential matrix",
}


def command(
    a: Annotated[Path, typer.Argument(help="A picture.")],
    b: Annotated[Path, typer.Argument(help="Another picture.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Draw the matches into this picture."),
    ] = None,
    as_json: options.AsJson = False,
    features: options.Features = "xfeat",
    matcher: options.Matcher = options.DEFAULT_MATCHER,
    geometry: options.Geometry = "fundamental",
    max_keypoints: options.MaxKeypoints = options.DEFAULT_MAX_KEYPOINTS,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    rotate: options.Rotate = "none",
    full_depth: options.FullDepth = False,
    mask_a: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Find nothing in A where this picture is not black."),
    ] = None,
    mask_b: Annotated[Path | None, typer.Option(metavar="FILE", help="The same for B.")] = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
) -> None:
    """Find the points that two images share."""
    from covis.images.decode import check_picture

    for picture in (a, b):
        check_picture(picture)
    if output is not None:
        from covis.draw.pictures import check_drawable

        check_drawable(output)

    from covis.api import match

    found = match(
        a,
        b,
        features,
        matcher,
        geometry,
        max_keypoints,
        max_size or None,
        rotate=rotate,
        full_depth=full_depth,
        mask_a=mask_a,
        mask_b=mask_b,
        seed=seed,
        threads=threads,
    )
    if output is not None:
        found.draw(a, b, output)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    for line in describe(found):
        typer.echo(line)
    if output is not None:
        typer.echo(f"Drawn in {output}.")


def describe(found: Matches) -> list[str]:
    """What people want to know of matches, a line each."""
    count, agreeing = len(found), int(found.inliers.sum())
    lines = [counted(count, "match", "matches")]
    geometry = found.geometry
    if geometry is not None and geometry.matrix is not None:
        lines[0] += f", {agreeing} agree with {_MODEL_NAMES[geometry.kind]}"
    lines[0] += "."
    if geometry is not None and geometry.note:
        lines.append(geometry.note)
    if found.verdict is not None:
        said = {"same": "the same", "different": "different things", "unsure": "unsure"}
        probability = found.verdict.probability
        lines.append(f"Verdict: {said[found.verdict.label]}, probability {probability:.3f}.")
    if found.turn:
        lines.append(
            f"B was turned by {found.turn} degrees clockwise to be matched; its points are those "
            "of the picture as it is."
        )
    stages = ", ".join(f"{stage} {1000 * spent:.0f} ms" for stage, spent in found.seconds.items())
    lines.append(f"Time: {stages}.")
    lines.append(f"Model: {found.model}; licence: {found.licence}.")
    return lines
