"""Options that several commands share. Nothing heavy is imported here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from covis.options import DEFAULT_DEVICE as DEFAULT_DEVICE
from covis.options import DEFAULT_EFFORT as DEFAULT_EFFORT
from covis.options import DEFAULT_FEATURES as DEFAULT_FEATURES
from covis.options import DEFAULT_GEOMETRY as DEFAULT_GEOMETRY
from covis.options import DEFAULT_MATCHER as DEFAULT_MATCHER
from covis.options import DEFAULT_MAX_KEYPOINTS as DEFAULT_MAX_KEYPOINTS
from covis.options import DEFAULT_MAX_SIZE as DEFAULT_MAX_SIZE
from covis.options import DEFAULT_ROTATE as DEFAULT_ROTATE
from covis.options import DEFAULT_SEED as DEFAULT_SEED
from covis.options import UNKNOWN_LICENCE as UNKNOWN_LICENCE
from covis.options import Device as DeviceName
from covis.options import Effort as EffortKind
from covis.options import EngineKind, GeometryKind
from covis.options import Rotate as RotateKind

FacetChoice = Literal["key", "query", "value", "token"]


def name(words: str, default: str | bool = True) -> Any:
    """An option that names something. words: its help. default: what help says it is by default,
    where that is not the value in the command's signature; False for nothing."""
    return typer.Option(metavar="NAME", help=words, show_default=default)


def number(words: str, default: str | bool = True, least: int = 1) -> Any:
    """An option for a whole number; see `name`."""
    return typer.Option(min=least, metavar="N", help=words, show_default=default)


def file(words: str, default: str | bool = True) -> Any:
    """An option for a file that is read; see `name`."""
    return typer.Option(metavar="FILE", help=words, show_default=default)


def folder(words: str, default: str | bool = True) -> Any:
    """An option for a folder; see `name`."""
    return typer.Option(metavar="DIR", help=words, show_default=default)


def flag(written: str, words: str) -> Any:
    """A switch, written so: "--force"."""
    return typer.Option(written, help=words)


def output(metavar: str, words: str) -> Any:
    """The option for what a command writes."""
    return typer.Option("--output", "-o", "--out", metavar=metavar, help=words)


def drawing(of: str) -> Any:
    """The option for the picture that `of` is drawn into."""
    return output("FILE", f"Draw {of} into this picture.")


def drawings(of: str) -> Any:
    """The switch that draws each `of` into the folder of the output, too."""
    return typer.Option("--drawings", "--draw", help=f"Draw each {of} as well, into drawings/.")


def intrinsics(of: str) -> Any:
    """The option for a pinhole camera's intrinsics."""
    return typer.Option(
        metavar="f|fx,fy,cx,cy",
        help=f"Intrinsics of {of} in pixels, for --geometry essential.",
        show_default="focal length from EXIF, or 1.2 longer sides",
    )


def max_keypoints(default: str | bool = True) -> Any:
    """The option of that name; see `name`."""
    return number("Features an image at most.", default)


def max_size(default: str | bool = True) -> Any:
    """The option of that name; see `name`."""
    return typer.Option(
        min=0,
        metavar="PX",
        help="Shrink larger images to this longest side; 0 for full size.",
        show_default=default,
    )


Features = Annotated[str, name("xfeat, sift, or another model: see 'covis weights list'.")]
PairFeatures = Annotated[
    str | None,
    name(
        "xfeat, sift, or another model: see 'covis weights list'.",
        "what --effort takes; xfeat with a --matcher",
    ),
]
PairMatcher = Annotated[
    str,
    name(
        "nearest, semi-dense, lightglue, or the name or folder of LightGlue weights: that one "
        "alone; auto leaves it to --effort."
    ),
]


def effort(fast: str, auto: str, thorough: str) -> Any:
    """The option for how much is tried; what each of its values means."""
    return typer.Option(help=f"fast: {fast}; auto: {auto}; thorough: {thorough}.")


Effort = Annotated[
    EffortKind,
    effort(
        "one cheap attempt",
        "others where that is not sure, with SIFT, LightGlue, turned, zoomed and drawn anew",
        "the best imported weights, too",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="Of a pair: begin no new attempt after that.",
        show_default="no end",
    ),
]
Matcher = Annotated[
    str,
    name(
        "nearest is fast; semi-dense finds more points, with less texture; lightglue matches "
        "hard pairs, with the weights for the features or, by name or folder, with others; auto "
        "is lightglue where there are weights for the features, else nearest."
    ),
]
FullDepth = Annotated[
    bool, flag("--full-depth", "Where LightGlue matches, run all its layers on all points: slower.")
]
Rotate = Annotated[
    RotateKind,
    typer.Option(
        help="auto: unless the pictures show the same as they are, try image 1 turned by "
        "90, 180 and 270 degrees as well."
    ),
]
Geometry = Annotated[
    GeometryKind,
    typer.Option(
        help="What matches must agree with. homography: a plane, or a camera that only turns; "
        "fundamental: any scene; essential: any scene, gives the relative pose."
    ),
]
MaxKeypoints = Annotated[int, max_keypoints()]
MaxSize = Annotated[int, max_size()]
Seed = Annotated[int, number("Seed of the robust estimation.", least=0)]
Threads = Annotated[int | None, number("Processor threads.", "all")]
Device = Annotated[
    DeviceName,
    typer.Option(
        help="Where networks run; another than cpu needs its build of ONNX Runtime, see 'covis "
        "doctor'. auto: an NVIDIA GPU, or one by DirectML, where there is one, else cpu."
    ),
]
Licence = Annotated[str, typer.Option(metavar="TERMS", help="The terms the weights come under.")]
MadeFor = Annotated[
    str,
    name(
        "LightGlue: the features that it matches: xfeat (any weights of it), xfeat-covis, "
        "sift, ... Without it, only the size of descriptors is checked.",
        False,
    ),
]
Layer = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Of the ViT, from 0; from its end below.", show_default="the last"
    ),
]
Facet = Annotated[FacetChoice | None, typer.Option(help="Of the ViT's layer.", show_default="key")]
Engine = Annotated[
    EngineKind, typer.Option(help="Where the work is done: here, or on a Ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The Ray cluster.", show_default="this machine"),
]
AsJson = Annotated[bool, flag("--json", "Print one JSON object and nothing else.")]
AsJsonLines = Annotated[
    bool, flag("--json", "Print one JSON object a query, a line each, and nothing else.")
]

_STORE = "A store of photos: a folder, or an address such as s3://bucket/folder."
Store = Annotated[str, typer.Argument(metavar="STORE", help=_STORE)]


def _store(preposition: str, words: str = _STORE) -> Any:
    """The option for a store, which all commands take under each of its names."""
    others = [name for name in ("--to", "--in", "--from", "--store") if name != preposition]
    return typer.Option(preposition, *others, metavar="STORE", help=words)


To = Annotated[str, _store("--to")]
From = Annotated[str, _store("--from")]
InSeveral = Annotated[
    list[str], _store("--in", f"{_STORE} Given again, several are searched as one.")
]
