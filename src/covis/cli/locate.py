"""`covis locate`: where photos were taken, in a map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options

if TYPE_CHECKING:
    from covis.sfm.localise import Localisation


def command(
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY", help="Photos to place.")],
    model: Annotated[
        Path, typer.Option("--in", metavar="MODEL", help="A map's folder, made by covis map.")
    ],
    camera_params: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL,P1,P2,...",
            help="The queries' camera in COLMAP's words, such as PINHOLE,fx,fy,cx,cy.",
        ),
    ] = None,
    focal: Annotated[
        float | None,
        typer.Option(
            metavar="PX",
            help="The queries' focal length in pixels.",
            show_default="EXIF's, else estimated",
        ),
    ] = None,
    camera_of: Annotated[
        str | None,
        typer.Option(metavar="PHOTO", help="The queries were taken as this photo of the map was."),
    ] = None,
    matcher: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="nearest; lightglue, or weights by name or folder; auto is nearest and, where "
            "that does not find the place, lightglue.",
        ),
    ] = options.DEFAULT_MATCHER,
    full_depth: options.FullDepth = False,
    neighbours: Annotated[
        int, typer.Option(min=1, metavar="N", help="Photos of the map to match with at most.")
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Draw the place of one query into this picture."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a query and nothing else.")
    ] = False,
    seed: options.Seed = 0,
    threads: options.Threads = None,
) -> None:
    """Find where photos were taken, in a map of the place."""
    if sum(given is not None for given in (camera_params, focal, camera_of)) > 1:
        raise typer.BadParameter("give one of --camera-params, --focal and --camera-of.")
    if output is not None and len(queries) > 1:
        raise typer.BadParameter("-o draws one query; give one, or leave -o out.")
    from covis.errors import ImageError
    from covis.geometry.absolute_pose import CalibratedCamera
    from covis.images.decode import load_image
    from covis.sfm.cameras import file_size
    from covis.sfm.localise import Locator

    find = Locator(
        model, matcher=matcher, full_depth=full_depth, neighbours=neighbours, threads=threads
    )
    lens = None if camera_of is None else find.camera_of(camera_of)
    failed = False
    for query in queries:
        try:
            if camera_params is not None:
                image = load_image(query, max_size=64)
                size = file_size((image.width, image.height), image.orientation)
                lens = CalibratedCamera.parse(camera_params, size)
            found = find(query, lens=lens, focal=focal, seed=seed)
        except ImageError as error:
            if len(queries) == 1:
                raise
            typer.echo(f"covis: {error}", err=True)
            failed = True
            continue
        if output is not None:
            found.draw(query, find.map, output)
        if as_json:
            typer.echo(json.dumps(found.to_dict()))
            continue
        if len(queries) > 1:
            typer.echo(f"{query}:")
        for line in describe(found):
            typer.echo(line)
    if output is not None and not as_json:
        typer.echo(f"Drawn in {output}.")
    if failed:
        raise typer.Exit(2)


def describe(found: Localisation) -> list[str]:
    """What people want to know of a place, a line each."""
    estimate = found.estimate
    inliers, points = int(estimate.inliers.sum()), len(estimate.inliers)
    if estimate.pose is None:
        lines = [f"{estimate.note[0].upper()}{estimate.note[1:]}."]
    else:
        turn, place = estimate.rotation_deviation, estimate.position_deviation
        quaternion = " ".join(f"{value:.6f}" for value in estimate.pose.quaternion)
        shift = " ".join(f"{value:.5g}" for value in estimate.pose.translation)
        position = ", ".join(f"{value:.5g}" for value in estimate.pose.position)
        lines = [
            f"Camera at ({position}), give or take {max(place):.2g} of the map's units.",
            f"cam_from_world: rotation (w x y z) {quaternion}, give or take {max(turn):.2g} "
            f"degrees; translation {shift}.",
            f"{inliers} of {points} points agree, confidence {estimate.confidence:.3f}.",
        ]
        focal = f"Focal length {estimate.lens.focal:.1f} px, {found.focal_source}"
        if estimate.focal_deviation:
            focal += f", give or take {100 * estimate.focal_deviation:.1g} %"
        lines.append(f"{focal}.")
    seen = [neighbour for neighbour in found.neighbours if neighbour.inliers]
    seen.sort(key=lambda neighbour: -neighbour.inliers)
    if seen and estimate.pose is not None:
        names = ", ".join(f"{neighbour.name} ({neighbour.inliers})" for neighbour in seen[:3])
        lines.append(f"Sees what these photos of the map see: {names}.")
    stages = ", ".join(f"{stage} {1000 * spent:.0f} ms" for stage, spent in found.seconds.items())
    lines.append(f"Time: {sum(found.seconds.values()):.2f} s ({stages}).")
    lines.append(f"Model: {found.model}; licence: {found.licence}.")
    return lines
