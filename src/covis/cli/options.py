"""Options that several commands share. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from covis.errors import CovisError
from covis.messages import extra

RotateChoice = Literal["none", "auto"]
GeometryChoice = Literal["homography", "fundamental", "essential", "none"]
FacetChoice = Literal["key", "query", "value", "token"]

Features = Annotated[
    str,
    typer.Option(metavar="NAME", help="xfeat, sift, or another model: see 'covis weights list'."),
]
Matcher = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="nearest is fast; semi-dense finds more points, with less texture; lightglue matches "
        "hard pairs, with the weights for the features or, by name or folder, with others; auto "
        "is lightglue where there are weights for the features, else nearest.",
    ),
]
FullDepth = Annotated[
    bool,
    typer.Option("--full-depth", help="Let LightGlue run all its layers on all points: slower."),
]
Rotate = Annotated[
    RotateChoice,
    typer.Option(
        help="auto: unless the pictures show the same as they are, try the second one turned by "
        "90, 180 and 270 degrees as well."
    ),
]
Geometry = Annotated[
    GeometryChoice,
    typer.Option(
        help="What matches must agree with. homography: a plane, or a camera that only turns; "
        "fundamental: any scene; essential: any scene, gives the relative pose."
    ),
]
MaxKeypoints = Annotated[int, typer.Option(min=1, metavar="N", help="Features an image at most.")]
MaxSize = Annotated[
    int,
    typer.Option(
        min=0, metavar="PX", help="Shrink larger images to this longest side; 0 for full size."
    ),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the robust estimation.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Processor threads.", show_default="all"),
]
Licence = Annotated[str, typer.Option(help="The terms the weights come under.")]
MadeFor = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="LightGlue: the features that it matches: xfeat (any weights of it), xfeat-covis, "
        "sift, ... Without it, only the size of descriptors is checked.",
        show_default=False,
    ),
]
Layer = Annotated[
    int | None,
    typer.Option(help="Of the ViT, from 0; from its end below.", show_default="the last"),
]
Facet = Annotated[FacetChoice | None, typer.Option(help="Of the ViT's layer.", show_default="key")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

_STORE = "A store of photos: a folder, or an address such as s3://bucket/folder."
Store = Annotated[str, typer.Argument(metavar="STORE", help=_STORE)]
To = Annotated[str, typer.Option("--to", metavar="STORE", help=_STORE)]
From = Annotated[str, typer.Option("--from", metavar="STORE", help=_STORE)]
In = Annotated[str, typer.Option("--in", metavar="STORE", help=_STORE)]

UNKNOWN_LICENCE = "unknown: ask whoever gave you the file"

DEFAULT_MATCHER = "auto"
DEFAULT_MAX_SIZE = 960
DEFAULT_MAX_KEYPOINTS = 4096


TRAIN_EXTRA = extra("train")
_TRAIN_MODULES = ("torch", "onnx", "onnxscript", "safetensors")


@contextmanager
def needing_train_extra() -> Iterator[None]:
    """Turn a missing module of the extra into one clear line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TRAIN_MODULES:
            raise
        raise CovisError(f"this needs {error.name}, which is missing: {TRAIN_EXTRA}") from None


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; gives the function that takes how many are done and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
