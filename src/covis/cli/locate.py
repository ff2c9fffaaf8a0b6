"""`covis locate`: where photos were taken, in a map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.errors import ArgumentError
from covis.messages import counted
from covis.options import LOCATE_NEIGHBOURS
from covis.options import Effort as EffortKind

if TYPE_CHECKING:
    from covis.geometry.camera import CalibratedCamera


Queries = Annotated[
    list[Path],
    typer.Argument(
        metavar="QUERY",
        help="Photos to place, folders of them, or text files that list them, with cameras as "
        "hloc has them: NAME MODEL WIDTH HEIGHT PARAMS.",
    ),
]
Model = Annotated[
    Path, typer.Option("--in", metavar="MODEL", help="A map's folder, made by covis map.")
]
CameraParams = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL,P1,P2,...",
        help="The queries' camera in COLMAP's words, such as PINHOLE,fx,fy,cx,cy.",
    ),
]
Focal = Annotated[
    float | None,
    typer.Option(
        metavar="PX",
        help="The queries' focal length in pixels.",
        show_default="EXIF's, else estimated",
    ),
]
CameraOf = Annotated[
    str | None,
    typer.Option(metavar="PHOTO", help="The queries were taken as this photo of the map was."),
]
Matcher = Annotated[
    str,
    options.name(
        "nearest; lightglue, or weights by name or folder: that one alone; auto leaves it to "
        "--effort."
    ),
]
Effort = Annotated[
    EffortKind,
    options.effort(
        "nearest neighbours alone",
        "where those do not find the place, the photo turned, and LightGlue",
        "more photos of the map, too",
    ),
]
Neighbours = Annotated[int, options.number("Photos of the map to match with at most.")]
Output = Annotated[Path | None, options.drawing("the place of one query")]


def command(
    queries: Queries,
    model: Model,
    camera_params: CameraParams = None,
    focal: Focal = None,
    camera_of: CameraOf = None,
    matcher: Matcher = options.DEFAULT_MATCHER,
    full_depth: options.FullDepth = False,
    neighbours: Neighbours = LOCATE_NEIGHBOURS,
    effort: Effort = options.DEFAULT_EFFORT,
    output: Output = None,
    as_json: options.AsJsonLines = False,
    seed: options.Seed = options.DEFAULT_SEED,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Find where photos were taken, in a map of the place.

    Exits with 1 if that cannot be said of each, with 2 if one cannot be read.
    """
    if sum(given is not None for given in (camera_params, focal, camera_of)) > 1:
        raise typer.BadParameter("give one of --camera-params, --focal and --camera-of.")
    check_drawing(output, *queries)
    from covis.errors import ImageError
    from covis.sfm import Locator
    from covis.sfm.map import Settings
    from covis.sfm.query_lists import read_queries

    settings = Settings.find(model)
    listed = read_queries(queries, Path(settings.photos if settings else "."))
    if output is not None and len(listed) > 1:
        raise typer.BadParameter("-o draws one query; give one, or leave -o out.")
    locate = Locator(
        model,
        matcher=matcher,
        full_depth=full_depth,
        neighbours=neighbours,
        effort=effort,
        threads=threads,
        device=device,
    )
    shared = None if camera_of is None else locate.camera_of(camera_of)
    failed = unsure = 0
    for each in listed:
        query, camera = each.path, each.camera
        try:
            if camera is None:
                camera = shared if camera_params is None else _parsed(camera_params, query)
            found = locate(query, camera=camera, focal=focal if camera is None else None, seed=seed)
        except (ImageError, ArgumentError) as error:
            if len(listed) == 1:
                raise
            typer.echo(f"covis: {error}", err=True)
            failed += 1
            continue
        unsure += found.estimate.pose is None
        if output is not None:
            found.draw(query, locate.map, output)
        if as_json:
            typer.echo(json.dumps(found.to_dict()))
            continue
        if len(listed) > 1:
            typer.echo(f"{query}:")
        for line in found.lines():
            typer.echo(line)
    if output is not None and not as_json:
        typer.echo(f"Drawn in {output}.")
    if len(listed) > 1 and not as_json:
        placed = len(listed) - failed - unsure
        typer.echo(f"{placed} of {counted(len(listed), 'photo')} placed.")
    if failed:
        raise typer.Exit(2)
    if unsure:
        raise typer.Exit(NOT_SO)


def _parsed(camera: str, query: Path) -> CalibratedCamera:
    """The camera that --camera-params says, of the query's file."""
    from covis.geometry.camera import CalibratedCamera
    from covis.images.decode import load_image
    from covis.sfm.photo_cameras import map_from_upright

    image = load_image(query, max_size=64)
    size = map_from_upright(image.orientation).of_size((image.width, image.height))
    return CalibratedCamera.parse(camera, size)
