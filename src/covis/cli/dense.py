"""`covis dense`: a descriptor at every place of a picture, and what it is good for."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO, App
from covis.cli.outputs import check_drawing, check_output
from covis.cli.progress import progress
from covis.errors import ArgumentError, CovisError
from covis.messages import counted
from covis.options import DEFAULT_DENSE, DISCOVERY_TAU, FINE_DENSE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from covis.dense import Carried, DenseFeatures

app = App(no_args_is_help=True, rich_markup_mode=None)

DISCOVER_CELLS = 30
MOST_OF = 0.9
"""A video with fewer of the frames that it promises was cut."""
WRITTEN = "masks.json"
"""Beside masks: the frames that they are of, and how sure they are."""

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
        typer.Option(
            metavar="FILE|DIR",
            help="What to follow, in the first frame: an indexed PNG or greys, an index or a grey "
            "an object and 0 for none; white on black; or what is not transparent. Or a folder of "
            "masks by the frames' names: the first one's, and later ones with what is new there.",
        ),
    ],
    out: Annotated[Path, options.output("DIR", "Where masks go.")],
    draw: Annotated[bool, options.drawings("frame with its masks")] = False,
    truth: Annotated[
        Path | None, options.folder("True masks by the frames' names: print J, F and their mean.")
    ] = None,
    as_json: options.AsJson = False,
    lifts: Lifts = None,
    model: Model = FINE_DENSE,
    max_size: options.MaxSize = options.DEFAULT_MAX_SIZE,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Carry masks of the first frame, and of later ones, through a video.

    DIR takes a mask for every frame, of the frame's size, as indexed, grey or black and white as
    the first, and masks.json: how sure each object is in each frame. Masks of an earlier run of
    more frames are removed from it. Exits with 1 where a video ends early.
    """
    from covis.dense import DenseExtractor, Frames, carry_through
    from covis.dense.masks import read_given, read_objects, write_mask
    from covis.draw.canvas import save_picture
    from covis.draw.dense import draw_labels

    clip = Frames.open(frames, max_size)
    if out.resolve() == frames.resolve():
        raise ArgumentError(f"{out}: the frames are there; give another folder for the masks.")
    given, palette = read_given(mask, clip)
    check_output(out, truth, mask.parent)
    if mask.is_dir() and out.resolve() == mask.resolve():
        raise ArgumentError(f"{out}: the given masks are there; give another folder.")
    describe = DenseExtractor(model, lifts=lifts, max_size=max_size, threads=threads, device=device)
    followed = carry_through(clip, given[0], describe, later=given, threads=threads)
    scores = _Scores(describe.model, describe.licence)
    with progress("frames") as report:
        for name, image, found in followed:
            if not scores.frames:
                _make(out / "drawings" if draw else out)
            write_mask(out / f"{name}.png", found.labels, palette)
            if draw:
                picture = draw_labels(image, found.labels, palette)
                save_picture(picture, out / "drawings" / f"{name}.jpg")
            true = None if truth is None else read_objects(truth / f"{name}.png")[0]
            scores.add(name, found, true)
            report(len(scores.frames), clip.count or None)
    told = scores.told()
    _write_list(out, told)
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _say_scores(out, told)
    # What a file says of its length may be off by a little.
    if len(scores.frames) < MOST_OF * clip.count:
        typer.echo(
            f"covis: {frames} ends after {len(scores.frames):,} of {clip.count:,} frames; it is "
            "cut short or damaged.",
            err=True,
        )
        raise typer.Exit(NOT_SO)


class _Scores:
    """How well each object is followed, frame by frame."""

    def __init__(self, model: str, licence: str) -> None:
        self.frames: dict[str, dict[int, dict[str, float]]] = {}
        self._terms = {"model": model, "licence": licence}
        self._began = time.perf_counter()

    def add(self, name: str, found: Carried, true: NDArray[Any] | None) -> None:
        """true: the frame's true labels, where they are known."""
        from covis.dense.masks import fits

        objects = {label: {"sureness": sure} for label, sure in found.sureness.items()}
        if true is not None:
            for label, (j, f) in fits(found.labels, true, objects).items():
                objects[label] |= {"J": j, "F": f}
        self.frames[name] = objects

    def told(self) -> dict[str, Any]:
        """All of it, ready for JSON. J and F are means over objects, of each over the frames
        between that in which it is first given and the last one."""
        import numpy as np

        rate = len(self.frames) / (time.perf_counter() - self._began)
        told: dict[str, Any] = {"masks": list(self.frames), "frames_a_second": rate}
        by_object: dict[int, list[tuple[float, float]]] = {}
        for objects in list(self.frames.values())[:-1]:
            for label, scores in objects.items():
                if "J" in scores:
                    by_object.setdefault(label, []).append((scores["J"], scores["F"]))
        means = [np.mean(found[1:], axis=0) for found in by_object.values() if len(found) > 1]
        if means:
            j, f = np.mean(means, axis=0).tolist()
            told |= {"J": j, "F": f, "J&F": (j + f) / 2}
        return told | {"frames": self.frames} | self._terms


def _say_scores(out: Path, told: dict[str, Any]) -> None:
    masks = counted(len(told["masks"]), "mask")
    typer.echo(f"{masks} in {out}, {told['frames_a_second']:.1f} frames a second.")
    if "J" in told:
        typer.echo(
            f"J {100 * told['J']:.1f}, F {100 * told['F']:.1f}, J&F {100 * told['J&F']:.1f}, "
            "without the first and the last frame."
        )
    for label in dict.fromkeys(label for objects in told["frames"].values() for label in objects):
        lost = [
            name
            for name, objects in told["frames"].items()
            if label in objects and not objects[label]["sureness"]
        ]
        if lost:
            frames = counted(len(lost), "frame")
            typer.echo(f"Object {label} is not seen in {frames}, first in {lost[0]}.")
    typer.echo(f"Model: {told['model']}; licence: {told['licence']}.")


def _write_list(out: Path, told: dict[str, Any]) -> None:
    """Say in DIR what was written, and remove what an earlier run wrote of frames that this one
    has not, as that run listed it."""
    from covis.files.atomic import replacing

    listed = out / WRITTEN
    try:
        before = json.loads(listed.read_text("utf-8"))["masks"]
        stale = {name for name in before if Path(name).name == name} - set(told["masks"])
    except (OSError, ValueError, KeyError, TypeError):
        stale = set()
    for name in stale:
        for path in (out / f"{name}.png", out / "drawings" / f"{name}.jpg"):
            path.unlink(missing_ok=True)
    with replacing(listed) as file:
        file.write(json.dumps(told).encode())


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
