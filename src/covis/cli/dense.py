"""`covis dense`: a descriptor at every place of a picture, and what it is good for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO, App
from covis.cli.outputs import check_drawing, check_output
from covis.cli.progress import progress
from covis.errors import ArgumentError, CovisError
from covis.messages import counted
from covis.options import DEFAULT_DENSE, DISCOVERY_TAU, FINE_DENSE

if TYPE_CHECKING:
    from covis.dense import DenseFeatures

app = App(no_args_is_help=True, rich_markup_mode=None)

DISCOVER_CELLS = 30
MOST_OF = 0.9
"""A video with fewer of the frames that it promises was cut."""
WRITTEN = "masks.json"
"""Beside masks: the frames that they are of."""

Model = Annotated[
    str,
    options.name(
        "A model for dense features: lift-xfeat-covis tells parts of alike things apart "
        "better, lift-xfeat-covis-fine follows outlines better; ViTs come in by 'covis weights "
        "import'."
    ),
]
LIFTS = "How often the resolution is doubled: of XFeat, a descriptor every 8, 4 or 2 pixels."
Lifts = Annotated[
    int | None,
    typer.Option(
        min=0, max=2, metavar="N", help=LIFTS, show_default="1, or 0 where the model has no LiFT"
    ),
]


@app.callback()
def _main() -> None:
    """A descriptor at every place of a picture: alike parts, carried masks, objects."""


@app.command("match")
def match_command(
    a: Annotated[Path, typer.Argument(metavar="A", help="A picture.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same kind of thing.")],
    points: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y ...",
            help="Places of A in pixels, as in '320,200 15,40', or a file with one a line.",
            show_default="about 24 that stand out",
        ),
    ] = None,
    output: Annotated[Path | None, options.drawing("the places")] = None,
    as_json: options.AsJson = False,
    lifts: Lifts = None,
    model: Model = DEFAULT_DENSE,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Find the places of A again in B: the most alike one for each, whatever it is.

    (0.5, 0.5) is the middle of the top-left pixel. The cosine says how alike they are, 1 at most.
    """
    check_drawing(output, a, b)
    from covis.dense import match
    from covis.draw.canvas import save_picture
    from covis.draw.dense import draw_transfer
    from covis.images.decode import load_image
    from covis.types import DRAWN_SIZE

    found = match(
        a,
        b,
        None if points is None else read_points(points),
        model=model,
        lifts=lifts,
        max_size=max_size,
        threads=threads,
        device=device,
    )
    if output is not None:
        shown0, shown1 = (load_image(path, max_size=DRAWN_SIZE) for path in (a, b))
        save_picture(draw_transfer(shown0, shown1, found.points0, found.points1), output)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    rows = zip(found.points0, found.points1, found.cosines, strict=True)
    for number, ((x0, y0), (x1, y1), cosine) in enumerate(rows, 1):
        typer.echo(f"{number:3}  {x0:7.1f},{y0:.1f}  ->  {x1:7.1f},{y1:.1f}  cosine {cosine:.3f}")
    typer.echo(f"Model: {found.model}; licence: {found.licence}.")
    if output is not None:
        typer.echo(f"Drawn in {output}.")


@app.command("propagate")
def propagate_command(
    frames: Annotated[
        Path,
        typer.Argument(
            metavar="FRAMES", help="A folder of pictures, taken by name, or a video file."
        ),
    ],
    mask: Annotated[
        Path,
        options.file(
            "What to follow, in the first frame: an indexed PNG or dark greys, an index or a grey "
            "an object and 0 for none; white on black; or what is not transparent."
        ),
    ],
    out: Annotated[Path, options.output("DIR", "Where masks go.")],
    draw: Annotated[bool, options.drawings("frame with its masks")] = False,
    truth: Annotated[
        Path | None, options.folder("True masks by the frames' names: print J, F and their mean.")
    ] = None,
    lifts: Lifts = None,
    model: Model = FINE_DENSE,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Carry a mask of the first frame through a video.

    DIR takes a mask for every frame, of the frame's size, as indexed, grey or black and white as
    the first; masks of an earlier run of more frames are removed from it. Exits with 1 where a
    video ends early.
    """
    import time

    import numpy as np

    from covis.dense import DenseExtractor, Frames, carry_through
    from covis.dense.masks import fit, read_mask, write_mask
    from covis.draw.canvas import save_picture
    from covis.draw.dense import draw_labels

    clip = Frames.open(frames, max_size)
    labels, palette = read_mask(mask)
    if out.resolve() == frames.resolve():
        raise ArgumentError(f"{out}: the frames are there; give another folder for the masks.")
    check_output(out, truth, mask.parent)
    describe = DenseExtractor(model, lifts=lifts, max_size=max_size, threads=threads, device=device)
    names: list[str] = []
    scores = []
    began = time.perf_counter()
    with progress("frames") as report:
        for name, image, found in carry_through(clip, labels, describe, threads=threads):
            if not names:
                _make(out / "drawings" if draw else out)
            write_mask(out / f"{name}.png", found, palette)
            if draw:
                save_picture(draw_labels(image, found, palette), out / "drawings" / f"{name}.jpg")
            if truth is not None:
                true, _ = read_mask(truth / f"{name}.png")
                scores.append(fit(found, true, np.setdiff1d(labels, 0)))
            names.append(name)
            report(len(names), clip.count or None)
    rate = len(names) / (time.perf_counter() - began)
    _forget_others(out, names)
    typer.echo(f"{counted(len(names), 'mask')} in {out}, {rate:.1f} frames a second.")
    if len(scores) > 2:
        j, f = np.mean(scores[1:-1], axis=0).tolist()
        typer.echo(
            f"J {100 * j:.1f}, F {100 * f:.1f}, J&F {50 * (j + f):.1f}, without the first and the "
            "last frame."
        )
    # What a file says of its length may be off by a little.
    if len(names) < MOST_OF * clip.count:
        typer.echo(
            f"covis: {frames} ends after {len(names):,} of {clip.count:,} frames; it is cut short "
            "or damaged.",
            err=True,
        )
        raise typer.Exit(NOT_SO)


def _forget_others(out: Path, names: list[str]) -> None:
    """Remove what an earlier run wrote of frames that this one has not, as that run listed it."""
    from covis.files.atomic import replacing

    listed = out / WRITTEN
    try:
        before = json.loads(listed.read_text("utf-8"))["masks"]
        stale = {name for name in before if Path(name).name == name} - set(names)
    except (OSError, ValueError, KeyError, TypeError):
        stale = set()
    for name in stale:
        for path in (out / f"{name}.png", out / "drawings" / f"{name}.jpg"):
            path.unlink(missing_ok=True)
    with replacing(listed) as file:
        file.write(json.dumps({"masks": names}).encode())


@app.command("discover")
def discover_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")],
    output: Annotated[Path | None, options.drawing("the object")] = None,
    as_json: options.AsJson = False,
    tau: Annotated[
        float, typer.Option(metavar="COSINE", help="Cells with a cosine above it belong together.")
    ] = DISCOVERY_TAU,
    lifts: Annotated[int, typer.Option(min=0, max=2, metavar="N", help=LIFTS)] = 0,
    model: Model = DEFAULT_DENSE,
    max_size: Annotated[
        int | None,
        options.max_size(f"{DISCOVER_CELLS} of the backbone's cells, of XFeat's 240 pixels"),
    ] = None,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Find the object of a picture, without knowing what it is.

    Its box is left, top, right, bottom in pixels. XFeat's features tell corners and textures
    apart, not objects: expect the right box one time in four, and one in mere noise. The paper's
    features are those of DINO's ViTs. Exits with 1 for a picture of one colour.
    """
    check_drawing(output, image)
    from covis.dense import DenseExtractor, discover
    from covis.dense.object_discovery import is_plain
    from covis.draw.canvas import save_picture
    from covis.draw.dense import draw_box
    from covis.images.decode import load_image
    from covis.types import DRAWN_SIZE

    describe = DenseExtractor(model, lifts=lifts, max_size=0, threads=threads, device=device)
    side = DISCOVER_CELLS * describe.stride if max_size is None else max_size
    loaded = load_image(image, max_size=side)
    terms = {"model": describe.model, "licence": describe.licence}
    if is_plain(loaded):
        if as_json:
            typer.echo(json.dumps({"box": None, "share": 0.0} | terms))
        else:
            typer.echo("Nothing stands out: the picture is of one colour.")
        raise typer.Exit(NOT_SO)
    features = describe(loaded)
    found = discover(features, tau)
    if output is not None:
        shown = load_image(image, max_size=DRAWN_SIZE)
        save_picture(draw_box(shown, found.box, found.cells, features.step), output)
    if as_json:
        told = {"box": found.box, "share": float(found.cells.mean())}
        typer.echo(json.dumps(told | terms))
        return
    words = ", ".join(f"{side:.0f}" for side in found.box)
    typer.echo(f"Box: {words}; {100 * found.cells.mean():.0f} % of the picture is the object.")
    typer.echo(f"Model: {describe.model}; licence: {describe.licence}.")
    if output is not None:
        typer.echo(f"Drawn in {output}.")


@app.command("show")
def show_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")],
    output: Annotated[Path, options.drawing("the colours")],
    point: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="Show how alike everything is to this place, in pixels."),
    ] = None,
    compare: Annotated[
        bool,
        options.flag(
            "--compare", "Show the backbone's features, these enlarged, and any lifted ones."
        ),
    ] = False,
    lifts: Lifts = None,
    model: Model = FINE_DENSE,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Show what the descriptors tell apart: alike places get alike colours.

    The colours are their three principal components.
    """
    check_drawing(output, image)
    from covis.dense import DenseExtractor, enlarge, likeness, pca_colours
    from covis.dense.keypoint_transfer import within
    from covis.draw.canvas import beside, save_picture
    from covis.draw.dense import draw_colours, draw_heat
    from covis.images.decode import load_image

    def described(times: int | None) -> DenseFeatures:
        describe = DenseExtractor(
            model, lifts=times, max_size=max_size, threads=threads, device=device
        )
        return describe(loaded)

    loaded = load_image(image, max_size=max_size)
    place = None
    if point is not None:
        (place,) = within([read_point(point)], loaded.width, loaded.height, loaded.name)
    if compare:
        small, lifted = described(0), described(lifts or None)
        maps = [small, enlarge(small, lifted.doublings or 1)]
        captions = ["backbone", "bilinear"]
        if lifted.doublings:
            maps.append(lifted)
            captions.append("lifted once" if lifted.doublings == 1 else "lifted twice")
    else:
        maps = [described(lifts)]
        captions = [f"a descriptor every {maps[0].step[0]:g} pixels"]
    pictures = [
        draw_colours(loaded, colours, features.step)
        if place is None
        else draw_heat(loaded, likeness(features, place), features.step, place)
        for features, colours in zip(maps, pca_colours(maps), strict=True)
    ]
    save_picture(beside([loaded.pixels, *pictures], [image.name, *captions]), output)
    typer.echo(f"Drawn in {output}.")


def read_point(point: str) -> list[float]:
    """One place. Raises ArgumentError when it cannot be read."""
    numbers = [float(n) for n in point.split(",") if re.fullmatch(r"[-+]?\d*\.?\d+", n.strip())]
    if len(numbers) != 2 or point.count(",") != 1:
        raise ArgumentError(f"'{point}' is no point; give x,y in pixels, such as 320,200.")
    return numbers


def read_points(points: str) -> list[list[float]]:
    """Places as in "320,200 15,40", or from a file with one a line.

    Raises ArgumentError that names what cannot be read.
    """
    path = Path(points)
    try:
        text = path.read_text("utf-8") if path.is_file() else points
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{points}: no list of points to read ({error}).") from None
    found = [read_point(word) for word in re.sub(r"\s*,\s*", ",", text).split()]
    if not found:
        raise ArgumentError(f"{points or 'nothing'}: no points in it; give x,y in pixels.")
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{folder} cannot be made: {error.strerror or error}.") from error
