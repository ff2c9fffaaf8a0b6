"""`covis map`: a folder of photos into a COLMAP model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from covis.cli import options as shared
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.cli.progress import StageBars
from covis.errors import ArgumentError
from covis.options import (
    MAP_CAMERA_MODEL,
    MAP_DISTANCE,
    MAP_MATCHER,
    MAP_MAX_SIZE,
    MAP_NEIGHBOURS,
    MAP_OVERLAP,
    MAP_VIDEO_FRAMES,
)
from covis.options import Effort as EffortKind

if TYPE_CHECKING:
    from covis.sfm.exports import ExportName
    from covis.sfm.options import MapSummary, PairsName

Photos = Annotated[
    Path,
    typer.Argument(
        metavar="PHOTOS", help="A folder of photos and videos, at any depth, or a video."
    ),
]
Out = Annotated[Path, shared.output("MODEL", "The folder of the map.")]
Pairs = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="Which photos are matched: exhaustive; sequential, neighbours by name and loop "
        "closures; retrieval, the most similar ones; gps, the nearest ones; or a text file, "
        "two names a line. auto: exhaustive up to 60 photos, then retrieval, without pairs that "
        "others tie together.",
    ),
]
Neighbours = Annotated[int, shared.number("Of each photo, with retrieval and gps.")]
Overlap = Annotated[int, shared.number("Next photos of each, with sequential.")]
Distance = Annotated[float, typer.Option(min=0, metavar="METRES", help="At most, with gps.")]
Features = Annotated[str | None, shared.name("xfeat, sift, or another.", shared.DEFAULT_FEATURES)]
Matcher = Annotated[
    str | None,
    shared.name(
        "nearest is fast; lightglue places more photos of hard scenes; semi-dense finds "
        "points with less texture, and maps anew whenever photos are added; auto is lightglue "
        "where there are weights.",
        MAP_MATCHER,
    ),
]
MaxKeypoints = Annotated[int | None, shared.max_keypoints(str(shared.DEFAULT_MAX_KEYPOINTS))]
MaxSize = Annotated[int | None, shared.max_size(str(MAP_MAX_SIZE))]
Masks = Annotated[
    Path | None,
    shared.folder(
        "Masks as COLMAP has them: DIR/a.jpg.png, or a.png, is that of PHOTOS/a.jpg, black or "
        "transparent where nothing counts."
    ),
]
CameraSharing = Annotated[
    Literal["auto", "shared", "per-folder", "per-image"],
    typer.Option(
        help="Which photos share intrinsics. auto: those of one camera, size and focal length, "
        "where EXIF says nothing those of one folder and size."
    ),
]
CameraModel = Annotated[str, shared.name("As COLMAP names it.")]
CameraParams = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Known intrinsics of all photos, in COLMAP's order, as in 1380,1382,760.6,503.7 "
        "for PINHOLE. They are then kept as they are.",
    ),
]
RefineCameras = Annotated[
    bool | None,
    typer.Option(
        "--refine-cameras/--keep-cameras",
        help="Whether the mapper adjusts intrinsics.",
        show_default="refine, unless --camera-params",
    ),
]
Effort = Annotated[
    EffortKind,
    shared.effort(
        "the matcher alone",
        "where that leaves photos apart, the likeliest pairs turned and by LightGlue, too",
        "more of these, and LightGlue on all pairs that do not agree",
    ),
]
Mapper = Annotated[Literal["incremental", "global"], typer.Option(help="Which of COLMAP's.")]
RefineKeypoints = Annotated[
    bool,
    typer.Option(
        "--refine-keypoints/--no-refine-keypoints",
        help="Move keypoints to where photos show the same spot: more accurate poses.",
    ),
]
Gps = Annotated[
    bool,
    typer.Option(
        "--gps/--no-gps",
        help="Turn, scale and move a new model to the GPS positions in EXIF, where these suffice: "
        "metres to the east, to the north and up.",
    ),
]
VideoFrames = Annotated[
    int,
    shared.number(
        "Of each video at most: sharp ones, whenever the picture has moved by a twentieth. They "
        "are kept in MODEL/frames."
    ),
]
VideoRate = Annotated[
    float | None,
    typer.Option(
        metavar="HZ", help="Frames to take a second instead, the sharpest.", show_default=False
    ),
]
Afresh = Annotated[
    bool, shared.flag("--afresh", "Map anew from the matches, though there is a model.")
]
Database = Annotated[
    Path | None, shared.file("A COLMAP database whose photos and cameras to keep.")
]
Model = Annotated[Path | None, shared.folder("A COLMAP model whose poses to keep, and add to.")]
Export = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND",
        help="Write the largest model to MODEL/export/ as well: ply; text or binary, COLMAP's "
        "files; nerfstudio, transforms.json. Several times for several.",
        show_default=False,
    ),
]
Draw = Annotated[Path | None, shared.file("Draw the model from above: points and cameras.")]


def command(
    photos: Photos,
    out: Out,
    pairs: Pairs = "auto",
    neighbours: Neighbours = MAP_NEIGHBOURS,
    overlap: Overlap = MAP_OVERLAP,
    distance: Distance = MAP_DISTANCE,
    features: Features = None,
    matcher: Matcher = None,
    max_keypoints: MaxKeypoints = None,
    max_size: MaxSize = None,
    masks: Masks = None,
    camera: CameraSharing = "auto",
    camera_model: CameraModel = MAP_CAMERA_MODEL,
    camera_params: CameraParams = None,
    refine_cameras: RefineCameras = None,
    effort: Effort = shared.DEFAULT_EFFORT,
    mapper: Mapper = "incremental",
    refine_keypoints: RefineKeypoints = True,
    gps: Gps = True,
    video_frames: VideoFrames = MAP_VIDEO_FRAMES,
    video_rate: VideoRate = None,
    afresh: Afresh = False,
    database: Database = None,
    model: Model = None,
    export: Export = None,
    draw: Draw = None,
    engine: shared.Engine = "local",
    address: shared.Address = None,
    seed: shared.Seed = shared.DEFAULT_SEED,
    threads: shared.Threads = None,
    device: shared.Device = shared.DEFAULT_DEVICE,
    as_json: shared.AsJson = False,
) -> None:
    """Make a map: features, matches, camera poses and points.

    MODEL takes COLMAP's database.db and sparse/0, which COLMAP's own programs open, and the
    features, to find places in it again. Run it again with more photos to add them, after some
    were changed, renamed or deleted, or after it was stopped to go on. Needs pycolmap, in covis'
    folder: python -m pip install '.[map]'. Exits with 1 if not all photos could be placed.
    """
    from covis.sfm import MapOptions, build_map
    from covis.sfm.map import need_pycolmap

    need_pycolmap()
    check_drawing(draw, photos)
    options = MapOptions(
        features=features, max_keypoints=max_keypoints, max_size=max_size, matcher=matcher,
        masks=masks, pairs=_pairs(pairs), neighbours=neighbours, overlap=overlap,
        distance=distance, sharing=camera, camera_model=camera_model,
        camera_params=_params(camera_params), refine_cameras=refine_cameras,
        refine_keypoints=refine_keypoints, effort=effort, mapper=mapper, gps=gps,
        video_frames=video_frames, video_rate=video_rate, afresh=afresh, database=database,
        model=model, engine=engine, address=address, seed=seed, threads=threads, device=device,
    )  # fmt: skip
    exports = export_kinds(export or [], camera_model)
    with StageBars() as bars:
        summary = build_map(photos, out, options=options, report=bars)
    _print(out, summary, _write(out, summary, exports, draw), as_json)
    _tell_left_out(photos)
    if summary.registered < summary.photos or summary.failed:
        raise typer.Exit(NOT_SO)


def _tell_left_out(photos: Path) -> None:
    from covis.images.passed_over import passed_over
    from covis.images.picture_files import walk_pictures

    told = [passed_over([photos], videos=False)]
    with suppress(ArgumentError):  # Of a folder of videos alone.
        for _ in walk_pictures([photos], told.append):
            pass
    for line in filter(None, told):
        typer.echo(f"covis: {line}", err=True)


def export_kinds(kinds: list[str], camera_model: str = "") -> list[ExportName]:
    """The kinds, each once. Raises ArgumentError for one that there is not, or not of cameras of
    a model; "" where each has its own."""
    from covis.sfm.exports import ExportName, check_export

    known: dict[str, ExportName] = {kind: kind for kind in get_args(ExportName)}
    for kind in kinds:
        if kind not in known:
            raise ArgumentError(f"no export '{kind}'; there are: {', '.join(known)}.")
        if camera_model:
            check_export(known[kind], camera_model)
    return [known[kind] for kind in dict.fromkeys(kinds)]


def _pairs(how: str) -> PairsName | Path:
    from covis.sfm.options import PairsName

    known: dict[str, PairsName] = {kind: kind for kind in get_args(PairsName)}
    if how in known:
        return known[how]
    if not Path(how).is_file():
        raise ArgumentError(
            f"--pairs {how}: neither a file nor a way; there are: {', '.join(known)}."
        )
    return Path(how)


def _params(listed: str | None) -> list[float] | None:
    if listed is None:
        return None
    try:
        return [float(number) for number in listed.split(",")]
    except ValueError:
        raise ArgumentError(
            f"--camera-params {listed}: numbers with commas in between are needed."
        ) from None


def _write(
    out: Path, summary: MapSummary, exports: list[ExportName], draw: Path | None
) -> list[str]:
    if not summary.models or not (exports or draw):
        return []
    from covis.draw.canvas import save_picture
    from covis.draw.map import draw_map
    from covis.sfm.exports import export_map
    from covis.sfm.map import Map

    made = Map.open(out)
    written = [str(export_map(made, kind)) for kind in exports]
    if draw is not None:
        save_picture(draw_map(made.reconstruction), draw)
        written.append(str(draw))
    return written


def _print(out: Path, summary: MapSummary, written: list[str], as_json: bool) -> None:
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(summary), "written": written}))
        return
    from covis.messages import counted

    for line in [*summary.failed.values(), *summary.changes()]:
        typer.echo(f"covis: {line}", err=True)
    placed = f"{summary.registered} of {counted(summary.photos, 'photo')} placed"
    if not summary.models:
        typer.echo(f"{placed}: no model could be made.")
    else:
        typer.echo(
            f"{placed}, {counted(summary.points, 'point')}, reprojection error "
            f"{summary.error:.2f} px, {summary.track_length:.1f} photos a point."
        )
    if summary.frame():
        typer.echo(summary.frame())
    stages = ", ".join(f"{k} {took:.1f} s" for k, took in summary.seconds.items() if took >= 0.05)
    typer.echo(
        f"{counted(summary.pairs, 'pair')} matched ({summary.new_pairs:,} now), "
        f"{summary.verified:,} verified. {stages}."
    )
    if len(summary.tried) > 1:
        ways = "; ".join(
            f"{each.method}, {each.view}: {each.verified:,} of {each.pairs:,}"
            for each in summary.tried
        )
        typer.echo(f"Tried, with pairs that agree: {ways}.")
    if summary.remade:
        typer.echo("Matched and mapped anew: semi-dense keypoints change with every pair.")
    for line in summary.advice():
        typer.echo(f"covis: {line}", err=True)
    if summary.models:
        typer.echo(f"{out / 'sparse' / '0'}" + "".join(f", {path}" for path in written))
