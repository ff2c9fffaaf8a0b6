"""`covis align`: one picture laid onto another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.options import WarpKind


def command(
    image0: Annotated[Path, typer.Argument(metavar="IMAGE0", help="A picture.")],
    image1: Annotated[Path, typer.Argument(metavar="IMAGE1", help="What is laid onto it.")],
    output: Annotated[
        Path,
        options.output("FILE", "Write image 1, warped to image 0's size, into this picture."),
    ],
    warp: Annotated[
        WarpKind,
        typer.Option(
            help="homography: for a plane, or a camera that only turns; smooth: for scenes with "
            "depth; auto: the one that is less far off."
        ),
    ] = "auto",
    as_json: options.AsJson = False,
    features: options.Features = options.DEFAULT_FEATURES,
    matcher: options.Matcher = options.DEFAULT_MATCHER,
    max_keypoints: options.MaxKeypoints = options.DEFAULT_MAX_KEYPOINTS,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    rotate: options.Rotate = options.DEFAULT_ROTATE,
    seed: options.Seed = options.DEFAULT_SEED,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Lay a picture onto another, and say how far off the result is.

    Where image 1 shows nothing the result is transparent, or black where the format knows no
    transparency. Exits with 1 unless the pictures show the same.
    """
    from covis.images.opened import check_picture

    for picture in (image0, image1):
        check_picture(picture)
    check_drawing(output, image0, image1)

    from covis.api import match
    from covis.draw.aligned import save_warped, warp_onto
    from covis.geometry.alignment import estimate_alignment
    from covis.images.decode import load_image
    from covis.images.exif import read_size

    found = match(
        image0,
        image1,
        features=features,
        matcher=matcher,
        max_keypoints=max_keypoints,
        max_size=max_size,
        rotate=rotate,
        seed=seed,
        threads=threads,
        device=device,
    )
    sizes = read_size(image0), read_size(image1)
    alignment = estimate_alignment(found, *sizes, kind=warp, seed=seed)
    save_warped(warp_onto(load_image(image1), alignment), output)
    assert found.verdict is not None
    if as_json:
        typer.echo(json.dumps({**alignment.to_dict(), "verdict": found.verdict.label}))
    else:
        typer.echo(alignment.describe())
        verdict = f"Verdict: {found.verdict.label}; probability of the same"
        typer.echo(f"{verdict} {found.verdict.probability:.3f}.")
        typer.echo(f"Written to {output}.")
    if found.verdict.label != "same":
        raise typer.Exit(NOT_SO)
