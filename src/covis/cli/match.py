"""`covis match`: the points that two images share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.messages import described_matches

if TYPE_CHECKING:
    from covis.geometry.camera import Camera


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
    device: options.Device = options.DEFAULT_DEVICE,
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
        device=device,
    )
    if output is not None:
        found.draw(image0, image1, output)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        for line in described_matches(found):
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
