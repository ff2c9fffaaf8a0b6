"""How a map is made, and what became of its photos."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from covis.errors import ArgumentError
from covis.files.atomic import replacing
from covis.messages import counted
from covis.options import (
    DEFAULT_DEVICE,
    DEFAULT_EFFORT,
    MAP_CAMERA_MODEL,
    MAP_DISTANCE,
    MAP_NEIGHBOURS,
    MAP_OVERLAP,
    MAP_VIDEO_FRAMES,
    Device,
    Effort,
    EngineKind,
    Options,
    choice,
    flag,
    number,
    optional,
    text,
    whole_number,
)
from covis.sfm.mapper import MapperName
from covis.sfm.photo_cameras import Sharing

PairsName = Literal["auto", "exhaustive", "sequential", "retrieval", "gps"]


@dataclass(frozen=True, kw_only=True)
class MapOptions(Options):
    """How a map is made. None leaves a value to covis.

    features, max_keypoints, matcher: see `Extractor` and `Matcher`. max_size: photos are shrunk
        to this longest side, in pixels; 0 for never. masks: a folder of masks as COLMAP has them.
        None, for each of these: what the map was made with; for a new one "xfeat", 4,096,
        "nearest", 1,600 and no masks.
    pairs: "exhaustive"; "sequential", each photo with the `overlap` next ones by name, and loop
        closures by retrieval; "retrieval", each with its `neighbours` most similar ones; "gps",
        each with its `neighbours` nearest ones within `distance` metres; "auto", exhaustive for
        few photos and retrieval for many, where of the less similar half of the neighbours only
        those are matched that other photos do not tie together; or a file that lists them.
    sharing: which photos have a camera in common: "shared", all of one size; "per-folder", those
        of one folder and size; "per-image", none; "auto", those of one body, size and focal
        length, without EXIF of one folder and size.
    camera_model, camera_params: COLMAP's name, and its parameters in COLMAP's order, in pixels of
        the file; with these all photos share that camera.
    refine_cameras: whether the mapper adjusts cameras; None for yes unless there are params.
    refine_keypoints: whether keypoints are moved to where photos show the same spot, see
        `covis.sfm.refine_keypoints`.
    gps: whether a new model is turned, scaled and moved to the GPS positions in EXIF: its axes are
        then metres to the east, to the north and up.
    video_frames: of each video at most, sharp ones, taken whenever the picture has moved by a
        twentieth of its longer side. video_rate: taken so many a second instead.
    effort: "fast" for the matcher alone; "auto" to try more where it leaves photos apart: photos
        turned, and LightGlue, on the likeliest pairs, see `covis.sfm.joining`; "thorough" for all
        of these, and LightGlue on all pairs that the matcher does not verify.
    mapper: pycolmap's incremental or global one. afresh: map from the matches anew, though there
        is a model already.
    database, model: an existing COLMAP database or model to start a new map from: of the first
        cameras and names are kept, of the second poses, too; features and points are made anew.
    engine: "local", or "ray" to find features and matches on the cluster at `address` (None for
        this machine).
    seed: of the robust estimations. threads: processor threads; None for all. device: where
    networks run, see `RuntimeOptions`.

    Raises ArgumentError for a value out of range.
    """

    features: str | None = None
    max_keypoints: int | None = None
    max_size: int | None = None
    matcher: str | None = None
    masks: str | os.PathLike[str] | None = None
    pairs: PairsName | Path = "auto"
    neighbours: int = MAP_NEIGHBOURS
    overlap: int = MAP_OVERLAP
    distance: float = MAP_DISTANCE
    sharing: Sharing = "auto"
    camera_model: str = MAP_CAMERA_MODEL
    camera_params: Sequence[float] | None = None
    refine_cameras: bool | None = None
    refine_keypoints: bool = True
    gps: bool = True
    video_frames: int = MAP_VIDEO_FRAMES
    video_rate: float | None = None
    effort: Effort = DEFAULT_EFFORT
    mapper: MapperName = "incremental"
    afresh: bool = False
    database: str | os.PathLike[str] | None = None
    model: str | os.PathLike[str] | None = None
    engine: EngineKind = "local"
    address: str | None = None
    seed: int = 0
    threads: int | None = None
    device: Device = DEFAULT_DEVICE

    def checked(self) -> dict[str, Any]:
        pairs = self.pairs
        if not isinstance(pairs, Path):
            pairs = choice("pairs", pairs, get_args(PairsName))
        if self.video_rate is not None and not number("video_rate", self.video_rate) > 0:
            raise ArgumentError(f"video_rate must be positive, but is {self.video_rate}.")
        if number("distance", self.distance) < 0:
            raise ArgumentError(f"distance must not be negative, but is {self.distance} m.")
        return {
            "features": optional(text, "features", self.features),
            "max_keypoints": optional(whole_number, "max_keypoints", self.max_keypoints, 1),
            "max_size": optional(whole_number, "max_size", self.max_size, 0),
            "matcher": optional(text, "matcher", self.matcher),
            "masks": _folder("masks", self.masks),
            "pairs": pairs,
            "neighbours": whole_number("neighbours", self.neighbours, 1),
            "overlap": whole_number("overlap", self.overlap, 1),
            "distance": float(self.distance),
            "sharing": choice("sharing", self.sharing, get_args(Sharing)),
            "camera_model": text("camera_model", self.camera_model),
            "camera_params": self.camera_params
            and tuple(number("camera_params", each) for each in self.camera_params),
            "refine_cameras": optional(flag, "refine_cameras", self.refine_cameras),
            "refine_keypoints": flag("refine_keypoints", self.refine_keypoints),
            "gps": flag("gps", self.gps),
            "video_frames": whole_number("video_frames", self.video_frames, 1),
            "video_rate": optional(number, "video_rate", self.video_rate),
            "effort": choice("effort", self.effort, get_args(Effort)),
            "mapper": choice("mapper", self.mapper, get_args(MapperName)),
            "afresh": flag("afresh", self.afresh),
            "database": _folder("database", self.database),
            "model": _folder("model", self.model),
            "engine": choice("engine", self.engine, get_args(EngineKind)),
            "seed": whole_number("seed", self.seed, 0),
            "threads": optional(whole_number, "threads", self.threads, 1),
            "device": choice("device", self.device, get_args(Device)),
        }


def _folder(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(text(name, path))


@dataclass(frozen=True)
class PairsTried:
    """One way in which pairs of a map's photos were tried.

    method: the matcher. view: how the photos were seen, in words. pairs, verified: counts.
    """

    method: str
    view: str
    pairs: int
    verified: int


@dataclass
class MapSummary:
    """What became of the photos.

    photos: in the map. registered: with a pose in the largest model. models: how many photos
    each model has. points, error, track_length: of the largest model; the error is the mean
    reprojection error in pixels. pairs, verified: matched, and those that agree with a geometry.
    new_pairs: matched in this run. tried: in which ways. turned: photos that fit the others when
    they are turned, and by how many degrees clockwise. remade: whether those of before were matched
    again, and mapped anew, as semi-dense ones must be. failed: files that cannot be used, and why.
    alone: photos that no verified pair has. unplaced: those that have one, but a pose in no model.
    masks: how many photos have one. loose_masks: pictures in the folder of masks that are of none.
    shared: photos that several models have. flat: where photos are unplaced, how many verified
    pairs show one plane or were taken from one spot. untried: options that may place more, where
    not all are placed.
    gone: photos of before whose files are no longer there; they were dropped. changed: those whose
    files show something else now; they were made anew. renamed: new names by former ones.
    left_out: photos of the database or model to start from that are not in the folder.
    fisheye_unknown: whether the cameras are fisheyes of which nothing is known. no_panoramas:
    photos that were taken for panoramas all around, but are not twice as wide as high.
    focal_ignored: photos with a focal length in EXIF that cannot be used, and why.
    videos: how many frames were taken of each.
    origin: where the model's axes begin, in metres to the east, north and up from there: latitude,
    longitude, altitude; None where they are COLMAP's own. gps: photos whose GPS positions say so;
    gps_error: their median distance from these, in metres. gps_note: why there is no origin,
    though photos have GPS positions.
    seconds: by stage.
    """

    photos: int = 0
    registered: int = 0
    models: list[int] = field(default_factory=list)
    points: int = 0
    error: float = 0.0
    track_length: float = 0.0
    pairs: int = 0
    verified: int = 0
    new_pairs: int = 0
    tried: list[PairsTried] = field(default_factory=list)
    turned: dict[str, int] = field(default_factory=dict)
    remade: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    masks: int = 0
    loose_masks: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    flat: int = 0
    untried: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    focal_ignored: dict[str, str] = field(default_factory=dict)
    fisheye_unknown: bool = False
    no_panoramas: list[str] = field(default_factory=list)
    videos: dict[str, int] = field(default_factory=dict)
    origin: tuple[float, float, float] | None = None
    gps: int = 0
    gps_error: float = 0.0
    gps_note: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def count_tried(self, method: str, view: str, pairs: int, verified: int) -> None:
        """Add pairs to those that were tried in a way."""
        for at, each in enumerate(self.tried):
            if (each.method, each.view) == (method, view):
                sums = each.pairs + pairs, each.verified + verified
                self.tried[at] = PairsTried(method, view, *sums)
                return
        self.tried.append(PairsTried(method, view, pairs, verified))

    def save(self, folder: Path) -> None:
        """Write it to a map's folder. Raises CovisError when that cannot be."""
        with replacing(folder / "summary.json") as file:
            file.write((json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """What `save` wrote; None where nothing is, or not of this covis: it only tells why."""
        try:
            values = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            origin = values.pop("origin", None)
            tried = [PairsTried(**each) for each in values.pop("tried", [])]
            return cls(**values, tried=tried, origin=tuple(origin) if origin else None)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    def frame(self) -> str:
        """What the model's axes are, a line; "" where they are COLMAP's own."""
        if self.origin is None:
            return self.gps_note and f"Axes and scale are arbitrary: {self.gps_note}."
        latitude, longitude, altitude = self.origin
        return (
            f"In metres to the east, north and up from {latitude:.6f}, {longitude:.6f}, "
            f"{altitude:.1f} m; GPS of {counted(self.gps, 'photo')}, {self.gps_error:.2g} m off."
        )

    def changes(self) -> list[str]:
        """What became of videos, of photos of before, and of masks, a line each."""
        lines = [f"{name}: {counted(n, 'frame')} taken." for name, n in self.videos.items()]
        if self.gone:
            lines.append(f"{counted(len(self.gone), 'photo')} gone, dropped: {some(self.gone)}.")
        if self.changed:
            lines.append(
                f"{counted(len(self.changed), 'photo')} changed, made anew: {some(self.changed)}."
            )
        if self.renamed:
            pairs = [f"{old} is {new}" for old, new in self.renamed.items()]
            lines.append(f"{counted(len(pairs), 'photo')} renamed: {some(pairs)}.")
        if self.turned:
            turns = [f"{name} by {turn} degrees" for name, turn in self.turned.items()]
            lines.append(f"{counted(len(turns), 'photo')} turned to fit the others: {some(turns)}.")
        if self.masks or self.loose_masks:
            some_loose = f"; of no photo: {some(self.loose_masks)}" if self.loose_masks else ""
            lines.append(
                f"{self.masks} of {counted(self.photos, 'photo')} have a mask{some_loose}."
            )
        if self.left_out:
            lines.append(
                f"{counted(len(self.left_out), 'photo')} of the database or model not in the "
                f"folder, left out: {some(self.left_out)}."
            )
        if self.focal_ignored:
            name, why = next(iter(self.focal_ignored.items()))
            lines.append(
                f"{counted(len(self.focal_ignored), 'photo')} with a focal length in EXIF that is "
                f"not used, such as {name}: {why}."
            )
        return lines

    def advice(self) -> list[str]:
        """What to try where photos have no pose, or are taken for what they are not; else empty."""
        lines = []
        tries = ", or ".join(self.untried)
        if self.fisheye_unknown and self.registered < self.photos:
            lines.append(
                "a fisheye needs to be known roughly beforehand: give its focal length and "
                "distortion as --camera-params, with --refine-cameras to have them adjusted."
            )
        if self.no_panoramas:
            lines.append(
                f"{counted(len(self.no_panoramas), 'photo')} of {self.photos} can be no panorama "
                "all around, which is twice as wide as high: leave out --camera-model "
                "EQUIRECTANGULAR (a new folder)."
            )
            if 2 * len(self.no_panoramas) > self.photos:
                return lines
        if self.alone:
            more = f"; or try {tries}" if tries else ""
            lines.append(
                f"{counted(len(self.alone), 'photo')} with no partner: {some(self.alone)}. Take "
                f"more photos between them and the others{more}."
            )
        if self.unplaced:
            why = "Too few matches with the others"
            remedy = f"try {tries}" if tries else "take more photos between them and the others"
            if 2 * self.flat > self.verified:
                why = (
                    f"{self.flat} of {counted(self.verified, 'verified pair')} were taken from one "
                    "spot, or show one plane: nothing tells depth"
                )
                remedy = "take photos from places further apart"
            lines.append(
                f"{counted(len(self.unplaced), 'photo')} matched but not placed: "
                f"{some(self.unplaced)}. {why}; {remedy}."
            )
        if len(self.models) > 1:
            sizes = ", ".join(map(str, self.models[1:]))
            joins = "nothing joins them; photos in between would"
            if self.shared:
                joins = (
                    f"they share {counted(len(self.shared), 'photo')} ({some(self.shared)}), too "
                    "little to join them; more photos around these would"
                )
            lines.append(
                f"the photos fall into {len(self.models)} models (others of {sizes} photos): "
                f"{joins}."
            )
        return lines


def some(names: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    listed = ", ".join(names[:8])
    return listed if len(names) <= 8 else f"{listed} and {len(names) - 8} more"
