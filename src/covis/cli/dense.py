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
from covis.options import (
    AUTO_DENSE,
    DEFAULT_MAX_SIZE,
    DISCOVERED,
    DISCOVERY_TAU,
    TOKEN_TAUS,
    VIT_MAX_SIZE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from covis.dense import Carried, FoundObject
    from covis.dense.features import Task

app = App(no_args_is_help=True, rich_markup_mode=None)

DISCOVER_CELLS = 30
MOST_OF = 0.9
"""A video with fewer of the frames that it promises was cut."""
WRITTEN = "masks.json"
"""Beside masks: the frames that they are of, and how sure they are."""

Model = Annotated[
    str,
    options.name(
        "A model for dense features; auto takes the best one installed and says which: "
        "dinov2-small, of 'covis weights get', tells things apart; lift-xfeat-covis does it less "
        "well, and ten times as fast; lift-xfeat-covis-fine follows outlines.",
    ),
]
MaxSize = Annotated[int | None, options.max_size(f"{DEFAULT_MAX_SIZE}, of a ViT {VIT_MAX_SIZE}")]
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
    model: Model = AUTO_DENSE,
    max_size: MaxSize = None,
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

    model, better = _chosen(model, "match")
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
        typer.echo(json.dumps(found.to_dict() | better))
        return
    rows = zip(found.points0, found.points1, found.cosines, strict=True)
    for number, ((x0, y0), (x1, y1), cosine) in enumerate(rows, 1):
        typer.echo(f"{number:3}  {x0:7.1f},{y0:.1f}  ->  {x1:7.1f},{y1:.1f}  cosine {cosine:.3f}")
    _say_model({"model": found.model, "licence": found.licence} | better)
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
    model: Model = AUTO_DENSE,
    max_size: MaxSize = None,
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

    model, better = _chosen(model, "propagate")
    describe = DenseExtractor(model, lifts=lifts, max_size=max_size, threads=threads, device=device)
    clip = Frames.open(frames, describe.max_size)
    if out.resolve() == frames.resolve():
        raise ArgumentError(f"{out}: the frames are there; give another folder for the masks.")
    given, palette = read_given(mask, clip)
    check_output(out, truth, mask.parent)
    if mask.is_dir() and out.resolve() == mask.resolve():
        raise ArgumentError(f"{out}: the given masks are there; give another folder.")
    followed = carry_through(clip, given[0], describe, later=given, threads=threads)
    scores = _Scores({"model": describe.model, "licence": describe.licence} | better)
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

    def __init__(self, terms: dict[str, str]) -> None:
        self.frames: dict[str, dict[int, dict[str, float]]] = {}
        self._terms = terms
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
    _say_model(told)


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
    output: Annotated[Path | None, options.drawing("the objects")] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write their masks, as large as the picture: a PNG with 1 for the first object, 2 "
            "for the second, 0 for none.",
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
    most: Annotated[int, options.number("Objects at most.")] = DISCOVERED,
    tau: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE",
            help="Cells with a cosine above it belong together.",
            show_default=f"{DISCOVERY_TAU}; of dinov2-small the best of {TOKEN_TAUS}",
        ),
    ] = None,
    lifts: Annotated[int, typer.Option(min=0, max=2, metavar="N", help=LIFTS)] = 0,
    model: Model = AUTO_DENSE,
    max_size: Annotated[
        int | None,
        options.max_size(f"{DISCOVER_CELLS} of the backbone's cells, of XFeat's 240 pixels"),
    ] = None,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Find the objects of a picture, without knowing what they are: those that stand out.

    Boxes are left, top, right, bottom in pixels. Get dinov2-small for it: XFeat's features tell
    corners and textures apart, not objects. Exits with 1 where there is no object.
    """
    check_drawing(output, image)
    if masks is not None:
        check_output(masks, image)
    from covis.dense import DenseExtractor, discover_objects
    from covis.draw.canvas import save_picture
    from covis.draw.dense import draw_objects
    from covis.images.decode import load_image
    from covis.types import DRAWN_SIZE

    model, better = _chosen(model, "discover")
    describe = DenseExtractor(model, lifts=lifts, max_size=0, threads=threads, device=device)
    side = DISCOVER_CELLS * describe.stride if max_size is None else max_size
    shown = load_image(image, max_size=DRAWN_SIZE)
    features = describe(load_image(image, max_size=side))
    found = discover_objects(shown, features, tau, most)
    if found and masks is not None:
        _write_objects(masks, found, (shown.width, shown.height))
    if found and output is not None:
        save_picture(draw_objects(shown, found), output)
    told = {
        "box": found[0].box if found else None,
        "share": float(found[0].cells.mean()) if found else 0.0,
        "objects": [
            {"box": each.box, "share": float(each.mask.mean()), "likeness": each.likeness}
            for each in found
        ],
        "model": describe.model,
        "licence": describe.licence,
    } | better
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _say_objects(told)
        for path in (output, masks) if found else ():
            if path is not None:
                typer.echo(f"{'Drawn in' if path is output else 'Masks in'} {path}.")
    if not found:
        raise typer.Exit(NOT_SO)


def _say_objects(told: dict[str, Any]) -> None:
    for number, each in enumerate(told["objects"], 1):
        words = ", ".join(f"{side:.0f}" for side in each["box"])
        typer.echo(f"Object {number}: box {words}; {100 * each['share']:.0f} % of the picture.")
    if not told["objects"]:
        typer.echo("No object: nothing stands out.")
    _say_model(told)


def _write_objects(path: Path, found: list[FoundObject], size: tuple[int, int]) -> None:
    """Masks as labels, the first object's above those of the others."""
    import cv2
    import numpy as np

    from covis.dense import write_mask

    labels = np.zeros((size[1], size[0]), np.uint8)
    for number, each in reversed(list(enumerate(found, 1))):
        mask = cv2.resize(each.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        labels[mask > 0] = number
    write_mask(path, labels)


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
    model: Model = AUTO_DENSE,
    max_size: MaxSize = None,
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

    model, better = _chosen(model, "show")

    def describing(times: int | None) -> DenseExtractor:
        return DenseExtractor(model, lifts=times, max_size=max_size, threads=threads, device=device)

    describe = describing(lifts)
    loaded = load_image(image, max_size=describe.max_size)
    place = None
    if point is not None:
        (place,) = within([read_point(point)], loaded.width, loaded.height, loaded.name)
    if compare:
        small, lifted = describing(0)(loaded), describing(lifts or None)(loaded)
        maps = [small, enlarge(small, lifted.doublings or 1)]
        captions = ["backbone", "bilinear"]
        if lifted.doublings:
            maps.append(lifted)
            captions.append("lifted once" if lifted.doublings == 1 else "lifted twice")
    else:
        maps = [describe(loaded)]
        captions = [f"a descriptor every {maps[0].step[0]:g} pixels"]
    pictures = [
        draw_colours(loaded, colours, features.step)
        if place is None
        else draw_heat(loaded, likeness(features, place), features.step, place)
        for features, colours in zip(maps, pca_colours(maps), strict=True)
    ]
    save_picture(beside([loaded.pixels, *pictures], [image.name, *captions]), output)
    typer.echo(f"Drawn in {output}.")
    _say_model({"model": describe.model, "licence": describe.licence} | better)


def _chosen(model: str, task: Task) -> tuple[str, dict[str, str]]:
    """The model that is meant, and, of auto, what would be better, as JSON has it."""
    if model != AUTO_DENSE:
        return model, {}
    from covis.dense import choose_model

    model, better = choose_model(task)
    return model, ({"better": better} if better else {})


def _say_model(told: dict[str, Any]) -> None:
    typer.echo(f"Model: {told['model']}; licence: {told['licence']}.")
    if "better" in told:
        typer.echo(f"Better: {told['better']}")


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
