"""`covis map`: a folder of photos into a COLMAP model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from covis.cli import options as shared
from covis.errors import ArgumentError

if TYPE_CHECKING:
    from covis.sfm.build import Summary

_PAIRS = ("auto", "exhaustive", "sequential", "retrieval", "gps")
_EXPORTS = ("ply", "text", "binary", "nerfstudio")


def command(
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="A folder of photos, at any depth.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="MODEL", help="The folder of the map.")
    ],
    pairs: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Which photos are matched: exhaustive; sequential, neighbours by name and loop "
            "closures; retrieval, the most similar ones; gps, the nearest ones; or a text file, "
            "two names a line. auto: exhaustive up to 60 photos, then retrieval.",
        ),
    ] = "auto",
    neighbours: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of each photo, with retrieval and gps.")
    ] = 20,
    overlap: Annotated[
        int, typer.Option(min=1, metavar="N", help="Next photos of each, with sequential.")
    ] = 10,
    distance: Annotated[
        float, typer.Option(min=0.0, metavar="METRES", help="At most, with gps.")
    ] = 100.0,
    features: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="xfeat, sift, or another.", show_default="xfeat"),
    ] = None,
    matcher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="nearest is fast; lightglue places more photos of hard scenes; semi-dense finds "
            "points with less texture, and maps anew whenever photos are added; auto is lightglue "
            "where there are weights.",
            show_default="nearest",
        ),
    ] = None,
    max_keypoints: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Features a photo at most.", show_default="4096"),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Shrink larger photos to this longest side; 0 for full size.",
            show_default="1600",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Masks as COLMAP has them: DIR/a.jpg.png is that of PHOTOS/a.jpg, black where "
            "nothing counts.",
        ),
    ] = None,
    camera: Annotated[
        Literal["auto", "shared", "per-image"],
        typer.Option(
            help="Which photos share intrinsics. auto: those of one camera, size and focal length."
        ),
    ] = "auto",
    camera_model: Annotated[
        str, typer.Option(metavar="NAME", help="As COLMAP names it.")
    ] = "SIMPLE_RADIAL",
    camera_params: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Known intrinsics of all photos, in COLMAP's order, as in 1380,1382,760.6,503.7 "
            "for PINHOLE. They are then kept as they are.",
        ),
    ] = None,
    refine_cameras: Annotated[
        bool | None,
        typer.Option(
            "--refine-cameras/--keep-cameras",
            help="Whether the mapper adjusts intrinsics.",
            show_default="refine, unless --camera-params",
        ),
    ] = None,
    mapper: Annotated[
        Literal["incremental", "global"], typer.Option(help="Which of COLMAP's.")
    ] = "incremental",
    align: Annotated[
        bool,
        typer.Option(
            "--align/--no-align",
            help="Move keypoints to where photos show the same spot: more accurate poses.",
        ),
    ] = True,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Map anew from the matches, though there is a model.")
    ] = False,
    database: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A COLMAP database whose photos and cameras to keep."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A COLMAP model whose poses to keep, and add to."),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Write the largest model to MODEL/export/ as well: ply; text or binary, COLMAP's "
            "files; nerfstudio, transforms.json. Several times for several.",
            show_default=False,
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the model from above: points and cameras."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where to extract and match.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The Ray cluster.", show_default="this machine"),
    ] = None,
    seed: shared.Seed = 0,
    threads: shared.Threads = None,
    as_json: shared.AsJson = False,
) -> None:
    """Make a map: features, matches, camera poses and points.

    MODEL takes COLMAP's database.db and sparse/0, which COLMAP's own programs open, and the
    features, to find places in it again. Run it again with more photos to add them, or after it
    was stopped to go on. Needs pycolmap, in covis' folder: python -m pip install '.[map]'. Exits
    with 1 if not all photos could be placed.
    """
    from covis.sfm.build import Options, build_map
    from covis.sfm.map import need_pycolmap

    need_pycolmap()
    unknown = next((kind for kind in export or () if kind not in _EXPORTS), None)
    if unknown is not None:
        raise ArgumentError(f"no export '{unknown}'; there are: {', '.join(_EXPORTS)}.")
    options = Options(
        features=features,
        max_keypoints=max_keypoints,
        max_size=max_size,
        matcher=matcher,
        masks=masks,
        pairs=_pairs(pairs),
        neighbours=neighbours,
        overlap=overlap,
        distance=distance,
        sharing=camera,
        camera_model=camera_model,
        camera_params=_params(camera_params),
        refine=refine_cameras,
        mapper=mapper,
        align=align,
        afresh=afresh,
        database=database,
        model=model,
        engine=engine,
        address=address,
        seed=seed,
        threads=threads,
    )
    with _Progress() as progress:
        summary = build_map(photos, out, options, progress)
    written = _write(out, summary, export or [], draw)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(summary), "written": written}))
    else:
        _print(out, summary, written)
    if summary.registered < summary.photos or summary.failed:
        raise typer.Exit(1)


def _pairs(how: str) -> Any:
    if how in _PAIRS:
        return how
    if not Path(how).is_file():
        raise ArgumentError(
            f"--pairs {how}: neither a file nor a way; there are: {', '.join(_PAIRS)}."
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


def _write(out: Path, summary: Summary, exports: list[Any], draw: Path | None) -> list[str]:
    if not summary.models or not (exports or draw):
        return []
    from covis.draw.map import draw_model
    from covis.draw.pictures import save_picture
    from covis.sfm.exports import export_model
    from covis.sfm.map import Map

    made = Map.open(out)
    written = []
    for kind in dict.fromkeys(exports):
        folder = out / "export" / kind
        root = Path(made.settings.photos)
        written.append(str(export_model(made.reconstruction, root, folder, kind)))
    if draw is not None:
        save_picture(draw_model(made.reconstruction), draw)
        written.append(str(draw))
    return written


def _print(out: Path, summary: Summary, written: list[str]) -> None:
    from covis.messages import counted

    for why in summary.failed.values():
        typer.echo(f"covis: {why}", err=True)
    typer.echo(
        f"{summary.registered} of {counted(summary.photos, 'photo')} placed, "
        f"{counted(summary.points, 'point')}, reprojection error {summary.error:.2f} px, "
        f"{summary.track_length:.1f} photos a point."
    )
    stages = ", ".join(f"{stage} {took:.1f} s" for stage, took in summary.seconds.items())
    typer.echo(
        f"{counted(summary.pairs, 'pair')} matched ({summary.new_pairs:,} now), "
        f"{summary.verified:,} verified. {stages}."
    )
    if summary.remade:
        typer.echo("Matched and mapped anew: semi-dense keypoints change with every pair.")
    for line in summary.advice():
        typer.echo(f"covis: {line}", err=True)
    if summary.models:
        typer.echo(f"{out / 'sparse' / '0'}" + "".join(f", {path}" for path in written))
    else:
        typer.echo("covis: no model could be made.", err=True)


class _Progress:
    """One bar a stage on a terminal; nothing elsewhere."""

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._bars.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, rate="")
        task = self._tasks[stage]
        self._bars.update(task, completed=min(done, total or done))
        speed = next(each.speed for each in self._bars.tasks if each.id == task)
        self._bars.update(task, rate=f"{speed:.1f}/s" if speed else "")
