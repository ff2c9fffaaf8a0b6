"""What extractors, matchers and the runtime take: options that check themselves, and each default.

`None` means the same in all of them: left to covis, which takes the default of the place. Sizes
of 0 mean full size. Nothing heavy is imported here, for the command line's help shows these.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from covis.errors import ArgumentError

T = TypeVar("T")

GeometryKind = Literal["homography", "fundamental", "essential", "none"]
Rotate = Literal["none", "auto"]
Effort = Literal["fast", "auto", "thorough"]
WarpKind = Literal["auto", "homography", "smooth"]
Device = Literal["auto", "cpu", "cuda", "coreml", "directml", "openvino"]

DEFAULT_FEATURES = "xfeat"
DEFAULT_MATCHER = "auto"
DEFAULT_GEOMETRY: GeometryKind = "fundamental"
DEFAULT_ROTATE: Rotate = "none"
DEFAULT_EFFORT: Effort = "auto"
SEARCH_BUDGETS: dict[Effort, float | None] = {"fast": 0.5, "auto": 5.0, "thorough": None}
"""Seconds of a search, by its effort: a photo that is looked at once more takes seconds."""
DEFAULT_SEED = 0
DEFAULT_DEVICE: Device = "auto"
DEFAULT_MAX_KEYPOINTS = 4096
DEFAULT_MAX_SIZE = 960
"""Longest side images are shrunk to, in pixels. A 12-megapixel photo (4000 or 4032 pixels
wide) is just above four times that, so its JPEG decodes at a quarter of its size."""

INDEX_MAX_KEYPOINTS = 1000
"""Features an image in a store to be searched."""

EngineKind = Literal["local", "ray"]
"""Where work on many photos is done: in this process, or on a Ray cluster."""

MAP_MATCHER = "nearest"
MAP_MAX_SIZE = 1600
"""Of a map's photos: larger ones place its points more accurately."""
MAP_NEIGHBOURS = 20
MAP_OVERLAP = 10
MAP_DISTANCE = 100.0
MAP_CAMERA_MODEL = "SIMPLE_RADIAL"
MAP_VIDEO_FRAMES = 200
"""See `covis.sfm.MapOptions`."""

LOCATE_NEIGHBOURS = 10
"""Photos of the map that a query is matched with."""
SEARCH_CANDIDATES = 100
"""Pictures of a store that are checked closely at most."""

DEFAULT_DENSE = "lift-xfeat-covis"
FINE_DENSE = "lift-xfeat-covis-fine"
"""Sharper features, for outlines; the other ones tell parts of alike things apart better."""
AUTO_DENSE = "auto"
"""The best model for a task that is installed."""
VIT_MAX_SIZE = 448
"""The longest side of pictures for a ViT's dense features, which take longer by its square."""
DISCOVERY_TAU = 0.2
"""Cells with a cosine above it belong together: the paper's, for the keys of DINO's ViTs."""
TOKEN_TAU = 0.4
"""The same for the tokens of dinov2-small, of objects after the first."""
TOKEN_TAUS = 0.3, 0.4, 0.5, 0.6
"""For the first one: what stands out most of all these is the object."""
DISCOVERED = 3
"""Objects that are looked for in a picture at most."""

LARGEST = 2**31 - 1
"""What whole numbers may be at most: OpenCV takes no larger ones."""

UNKNOWN_LICENCE = "unknown: ask whoever gave you the file"
"""Of weights of which nobody has said."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all options have in common: fields that are checked, and set anew, at the beginning."""

    def __post_init__(self) -> None:
        for name, value in self.checked().items():
            object.__setattr__(self, name, value)

    def checked(self) -> dict[str, Any]:
        """The fields to set anew, once checked. Raises ArgumentError on a wrong type or range."""
        return {}

    def over(self, other: Self) -> Self:
        """These, and where they leave something to covis (None), what `other` says."""
        missing = [each.name for each in fields(self) if getattr(self, each.name) is None]
        return replace(self, **{name: getattr(other, name) for name in missing})


@dataclass(frozen=True, kw_only=True)
class ExtractorOptions(Options):
    """What features are found in an image; see `Extractor`.

    features: the name or the folder of a model, or "sift"; by default "xfeat".
    max_keypoints: features an image at most, 4096 by default.
    max_size: larger images are shrunk to this longest side, in pixels, 960 by default; 0 for
        full size.
    semi_dense: XFeat*'s features, for the matcher "semi-dense".
    threshold: least score of a sparse keypoint; by default the published one of the network.
    """

    features: str | None = None
    max_keypoints: int | None = None
    max_size: int | None = None
    semi_dense: bool = False
    threshold: float | None = None

    def checked(self) -> dict[str, Any]:
        return {
            "features": optional(text, "features", self.features),
            "max_keypoints": optional(whole_number, "max_keypoints", self.max_keypoints, 1),
            "max_size": optional(whole_number, "max_size", self.max_size, 0),
            "semi_dense": flag("semi_dense", self.semi_dense),
            "threshold": optional(number, "threshold", self.threshold),
        }


@dataclass(frozen=True, kw_only=True)
class MatcherOptions(Options):
    """How features are matched; see `Matcher`.

    matcher: "auto" by default, "nearest", "semi-dense", "lightglue", or the name or the folder
        of LightGlue weights.
    features: the bundle that semi-dense features come from; by default that of their name.
    full_depth: let LightGlue run all its layers on all points.
    min_similarity, max_ratio: of "nearest", see `mutual_nearest`; none by default.
    """

    matcher: str | None = None
    features: str | None = None
    full_depth: bool = False
    min_similarity: float | None = None
    max_ratio: float | None = None

    def checked(self) -> dict[str, Any]:
        return {
            "matcher": optional(text, "matcher", self.matcher),
            "features": optional(text, "features", self.features),
            "full_depth": flag("full_depth", self.full_depth),
            "min_similarity": optional(number, "min_similarity", self.min_similarity),
            "max_ratio": optional(ratio, "max_ratio", self.max_ratio),
        }

    @property
    def thresholds(self) -> bool:
        """Whether one of those of "nearest" is given."""
        return (self.min_similarity, self.max_ratio) != (None, None)


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions(Options):
    """What the networks run on.

    threads: processor threads, never more than this process may use; all by default.
    device: "cpu"; "cuda", "coreml", "directml" or "openvino", where that build of ONNX Runtime is
        installed, else a RuntimeWarning says what to install and the processor is used; or by
        default "auto", a GPU by CUDA or DirectML where one works, else the processor.
    """

    threads: int | None = None
    device: Device = DEFAULT_DEVICE

    def checked(self) -> dict[str, Any]:
        return {
            "threads": optional(whole_number, "threads", self.threads, 1),
            "device": choice("device", self.device, get_args(Device)),
        }


@dataclass(frozen=True, kw_only=True)
class MatchOptions(Options):
    """What the matches of two images depend on; see `covis.match`.

    features, max_keypoints, max_size: see `ExtractorOptions`. matcher, full_depth: see
    `MatcherOptions`.
    geometry: "homography", "fundamental", "essential" or "none".
    rotate: "auto" to try image 1 turned as well. seed: of the robust estimation.
    effort: "fast", "auto" or "thorough"; it has a say where the matcher is left to covis.
    budget: seconds after which no new attempt begins; None for all the time they take.
    """

    features: str | None = None
    matcher: str | None = None
    geometry: GeometryKind = DEFAULT_GEOMETRY
    max_keypoints: int | None = None
    max_size: int | None = None
    rotate: Rotate = DEFAULT_ROTATE
    full_depth: bool = False
    seed: int = DEFAULT_SEED
    effort: Effort = DEFAULT_EFFORT
    budget: float | None = None

    def checked(self) -> dict[str, Any]:
        extractor, matching = self.extractor, self.matching
        return {
            "features": extractor.features,
            "matcher": matching.matcher,
            "geometry": choice("geometry", self.geometry, get_args(GeometryKind)),
            "max_keypoints": extractor.max_keypoints,
            "max_size": extractor.max_size,
            "rotate": choice("rotate", self.rotate, get_args(Rotate)),
            "full_depth": matching.full_depth,
            "seed": whole_number("seed", self.seed, 0),
            "effort": choice("effort", self.effort, get_args(Effort)),
            "budget": optional(positive, "budget", self.budget),
        }

    @property
    def escalates(self) -> bool:
        """Whether the ways to match are covis' to choose: no matcher was named."""
        return self.matcher in (None, DEFAULT_MATCHER)

    @property
    def extractor(self) -> ExtractorOptions:
        """The part that says which features are found, sparse ones."""
        return ExtractorOptions(
            features=self.features, max_keypoints=self.max_keypoints, max_size=self.max_size
        )

    @property
    def matching(self) -> MatcherOptions:
        """The part that says how they are matched."""
        return MatcherOptions(matcher=self.matcher, full_depth=self.full_depth)


def cpu_threads() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that this process may still take, by the machine and its own limit (cgroup 2); None
    where the system does not tell."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        for line in open("/proc/meminfo", encoding="ascii"):  # noqa: SIM115
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError):
        limit, used = (
            int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current")
        )
        found.append(max(limit - used, 0))
    return min(found, default=None)


def thread_count(threads: int | None) -> int:
    """How many threads to use: all processors for None, and never more than those."""
    return min(threads or cpu_threads(), cpu_threads())


def size_limit(max_size: int | None, default: int = DEFAULT_MAX_SIZE) -> int:
    """The longest side to shrink to, in pixels: the default for None, 0 for full size.

    Raises ArgumentError on anything but a whole number of 0 or more.
    """
    return default if max_size is None else whole_number("max_size", max_size, 0)


def optional(check: Any, name: str, value: Any, *limits: Any) -> Any:
    """The value as `check` gives it; None stays None."""
    return None if value is None else check(name, value, *limits)


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """The value as an int. Raises ArgumentError where it is none, below `least` or too large."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ArgumentError(f"{name} must be a whole number, not {_said(value)}.")
    value = int(value)
    if least is not None and value < least:
        raise ArgumentError(f"{name} must be {least} or more, not {value}.")
    if value > LARGEST:
        raise ArgumentError(f"{name} must be {LARGEST:,} or less.")
    return value


def number(name: str, value: Any) -> float:
    """The value as a float. Raises ArgumentError where it is none, or not finite."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(converted := float(value)):
                return converted
    raise ArgumentError(f"{name} must be a finite number, not {_said(value)}.")


def positive(name: str, value: Any) -> float:
    """The value as a float. Raises ArgumentError where it is none, not finite, or not above 0."""
    if (found := number(name, value)) <= 0:
        raise ArgumentError(f"{name} must be above 0, not {_said(value)}.")
    return found


def ratio(name: str, value: Any) -> float:
    """The value as a float. Raises ArgumentError unless it lies in 0..1 and is above 0."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= 1:
        raise ArgumentError(f"{name} must lie in 0..1 and be above 0, not {_said(value)}.")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """The value. Raises ArgumentError unless it is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False, not {_said(value)}.")
    return value


def text(name: str, value: Any) -> str:
    """A name, or a path as one. Raises ArgumentError for anything else and for an empty one."""
    if not isinstance(value, (str, os.PathLike)) or not (said := str(os.fspath(value))):
        raise ArgumentError(f"{name} must be a name or a folder, not {_said(value)}.")
    return said


def choice(name: str, value: Any, choices: Iterable[T]) -> T:
    """The value. Raises ArgumentError unless it is one of those."""
    for each in choices:
        if isinstance(value, type(each)) and value == each:
            return each
    raise ArgumentError(f"no {name} {_said(value)}; there are: {', '.join(map(str, choices))}.")


def _said(value: Any) -> str:
    """A value in a message, in one short line."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
    return f"a {type(value).__name__}"
