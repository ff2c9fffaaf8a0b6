"""`covis match`: the points that two images share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.messages import counted

if TYPE_CHECKING:
    from covis.geometry.camera import Camera
    from covis.types import Matches

_MODEL_NAMES = {
    "homography": "a homography",
    "fundamental": "a fundamental matrix",
    "essential": "an essential matrix",
}


def command(
    image0: Annotated[Path, typer.Argument(metavar="IMAGE0", help="A picture.")],
    image1: Annotated[Path, typer.Argument(metavar="IMAGE1", help="Another picture.")],
    output: Annotated[Path | None, options.drawing("the matches")] = None,
    as_json: options.AsJson = False,
    features: options.PairFeatures = None,
    matcher: options.PairMatcher = options.DEFAULT_MATCHER,
    geometry: options.Geometry = options.DEFAULT_GEOMETRY,
    max_keypoints: options.MaxKeypoints = options.DEFAULT_MAX_KEYPOINTS,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    rotate: options.Rotate = options.DEFAULT_ROTATE,
    full_depth: options.FullDepth = False,
    effort: options.Effort = options.DEFAULT_EFFORT,
    budget: options.Budget = None,
    mask0: Annotated[
        Path | None, options.file("Find nothing in image 0 where this picture is not black.")
    ] = None,
    mask1: Annotated[Path | None, options.file("The same for image 1.")] = None,
    camera0: Annotated[str | None, options.intrinsics("image 0")] = None,
    camera1: Annotated[str | None, options.intrinsics("image 1")] = None,
    seed: options.Seed = options.DEFAULT_SEED,
    threads: options.Threads = None,
) -> None:
    """Find the points that two images share, and say whether they show the same.

    Exits with 0 for same, and for --geometry none, which says nothing; with 1 for different and
    unsure.
    """
    from covis.images.opened import check_picture

    for picture in (image0, image1):
        check_picture(picture)
    check_drawing(output, image0, image1, mask0, mask1)
    cameras = [
        _camera(number, path, text, geometry)
        for number, (path, text) in enumerate([(image0, camera0), (image1, camera1)])
    ]

    from covis.api import match

    found = match(
        image0,
        image1,
        features=features,
        matcher=matcher,
        geometry=geometry,
        max_keypoints=max_keypoints,
        max_size=max_size,
        rotate=rotate,
        full_depth=full_depth,
        effort=effort,
        budget=budget,
        mask0=mask0,
        mask1=mask1,
        camera0=cameras[0],
        camera1=cameras[1],
        seed=seed,
        threads=threads,
    )
    if output is not None:
        found.draw(image0, image1, output)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        for line in describe(found):
            typer.echo(line)
        if output is not None:
            typer.echo(f"Drawn in {output}.")
    if found.verdict is not None and found.verdict.label != "same":
        raise typer.Exit(NOT_SO)


def _camera(number: int, picture: Path, text: str | None, geometry: str) -> Camera | None:
    """The camera that --camera0 or --camera1 says. Raises ArgumentError for what is none."""
    if text is None:
        return None
    from covis.errors import ArgumentError
    from covis.geometry.camera import Camera, check_focal
    from covis.images.exif import read_size

    if geometry != "essential":
        raise ArgumentError(f"--camera{number} is for --geometry essential.")
    size = read_size(picture)
    camera = Camera.parse(text, size)
    check_focal(camera, size, f"--camera{number}")
    return camera


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
        probability = found.verdict.probability
        lines.append(f"Verdict: {found.verdict.label}; probability of the same {probability:.3f}.")
    if found.turn:
        lines.append(
            f"Image 1 was turned by {found.turn} degrees clockwise to be matched; its points are "
            "those of the picture as it is."
        )
    if found.attempts:
        tried = "; ".join(
            f"{each.method}, {each.view}: {each.inliers} of {each.matches} agree, "
            f"{each.probability:.3f}, {1000 * each.seconds:.0f} ms"
            for each in found.attempts
        )
        lines.append(f"Tried: {tried}. Stopped: {found.stopped}.")
    stages = ", ".join(f"{stage} {1000 * spent:.0f} ms" for stage, spent in found.seconds.items())
    lines.append(f"Time: {stages}.")
    lines.append(f"Model: {found.model}; licence: {found.licence}.")
    return lines
