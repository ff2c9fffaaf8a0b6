"""`covis map`: a folder of photos becomes a map, or a map takes up more photos.

Every stage writes what it found as it goes, into the map's folder (see `covis.sfm.map`). A run
that was killed goes on where it was, one on a folder that has more photos does only what is new.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from covis.errors import ArgumentError, CovisError
from covis.match_many import locked
from covis.messages import counted, differences, not_there
from covis.search.index import Index
from covis.search.ingest import pictures
from covis.sfm import pairs as pairing
from covis.sfm.cameras import PhotoInfo, Sharing, make_camera, read_photo_info, share_cameras
from covis.sfm.database import MIN_INLIERS, Database
from covis.sfm.map import Photos, Settings, need_pycolmap
from covis.sfm.mapper import MapperName, Mapping, run_mapper, triangulate, write_models
from covis.sfm.matching import (
    Pair,
    SemiDense,
    Task,
    Worker,
    file_keypoints,
    match_here,
    match_on_ray,
)
from covis.sfm.refine_keypoints import align_keypoints
from covis.sfm.tracks import RADIUS, cluster, one_to_one
from covis.sfm.two_view_verification import Verified

DEFAULT_MATCHER = "nearest"
DEFAULT_KEYPOINTS = 4096
DEFAULT_MAX_SIZE = 1600
EXHAUSTIVE_UP_TO = 60
"""Photos; with more, only those that retrieval proposes are matched."""
COMMITTED = 64
"""Pairs that are written together."""

PairsName = Literal["auto", "exhaustive", "sequential", "retrieval", "gps"]
Report = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and of how much (None: not known)."""


@dataclass(frozen=True)
class Options:
    """How a map is made.

    features, max_keypoints, max_size (0 for full size), matcher, masks: see `Settings`; None for
        what the map was made with, for a new one "xfeat", 4096, 1600, "nearest" and none.
    pairs: "exhaustive"; "sequential", each photo with the `overlap` next ones by name, and loop
        closures by retrieval; "retrieval", each with its `neighbours` most similar ones; "gps",
        each with its `neighbours` nearest ones within `distance` metres; "auto", exhaustive for
        few photos and retrieval for many; or a file that lists them.
    sharing: see `share_cameras`. camera_model, camera_params: see `make_camera`; with params all
        photos share that camera. refine: whether the mapper adjusts cameras; None for yes unless
        there are params.
    mapper: pycolmap's incremental or global one. align: whether keypoints are then moved to where
        photos show the same spot, see `covis.sfm.refine_keypoints`. afresh: map from the matches
        anew, though there is a model already.
    database, model: an existing COLMAP database or model to start a new map from: of the first
        cameras and names are kept, of the second poses, too; features and points are made anew.
    engine: "local", or "ray" to find features and matches on the cluster at `address`.
    """

    features: str | None = None
    max_keypoints: int | None = None
    max_size: int | None = None
    matcher: str | None = None
    masks: Path | None = None
    pairs: PairsName | Path = "auto"
    neighbours: int = 20
    overlap: int = 10
    distance: float = 100.0
    sharing: Sharing = "auto"
    camera_model: str = "SIMPLE_RADIAL"
    camera_params: Sequence[float] | None = None
    refine: bool | None = None
    mapper: MapperName = "incremental"
    align: bool = True
    afresh: bool = False
    database: Path | None = None
    model: Path | None = None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    seed: int = 0
    threads: int | None = None


@dataclass
class Summary:
    """What became of the photos.

    photos: in the map. registered: with a pose in the largest model. models: how many photos
    each model has. points, error, track_length: of the largest model; the error is the mean
    reprojection error in pixels. pairs, verified: matched, and those that agree with a geometry.
    new_pairs: matched in this run. remade: whether those of before were matched again, and mapped
    anew, as semi-dense ones must be. failed: files that cannot be used, and why. alone: photos that
    no verified pair has. unplaced: those that have one, but a pose in no model. seconds: by stage.
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
    remade: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def advice(self) -> list[str]:
        """What to try where photos have no pose; empty where all have."""
        lines = []
        if self.alone:
            lines.append(
                f"{counted(len(self.alone), 'photo')} with no partner: {_some(self.alone)}. Take "
                "more photos between them and the others; or try --pairs exhaustive, "
                "--matcher lightglue (a new folder)."
            )
        if self.unplaced:
            lines.append(
                f"{counted(len(self.unplaced), 'photo')} matched but not placed: "
                f"{_some(self.unplaced)}. Too few matches, or views from one spot; try "
                "--matcher lightglue, "
                "--max-keypoints 8192 (a new folder)."
            )
        if len(self.models) > 1:
            sizes = ", ".join(map(str, self.models[1:]))
            lines.append(
                f"the photos fall into {len(self.models)} models (others of {sizes} photos): "
                "nothing joins them; photos in between would."
            )
        return lines


def build_map(
    photos: Path, folder: Path, options: Options | None = None, report: Report | None = None
) -> Summary:
    """Make the map in `folder`, or add to it, from the photos in a folder at any depth.

    Raises ArgumentError where the map was made with other settings, is in use, or an option does
    not fit; CovisError where pycolmap is missing or files cannot be written.
    """
    need_pycolmap()
    options = options or Options()
    if not photos.is_dir():
        raise ArgumentError(not_there(photos, "folder of photos"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{folder}: cannot make this folder ({error.strerror}).") from None
    with locked(folder):
        return _Build(photos.resolve(), folder.resolve(), options, report).run()


class _Build:
    def __init__(self, photos: Path, folder: Path, options: Options, report: Report | None) -> None:
        self._given, self._folder, self._options = photos, folder, options
        self._report = report or (lambda stage, done, total: None)
        self._summary = Summary()
        self._settings = self._same_settings()

    def run(self) -> Summary:
        with self._timed("features"):
            photos = self._extract()
        with Database(self._import()) as database:
            with self._timed("cameras"):
                shots = self._add_photos(database, photos)
            with self._timed("pairs"):
                wanted = self._pairs(photos, shots)
            with self._timed("matches"):
                self._match(database, photos, wanted)
            self._count(database, photos)
            models = self._map(database, photos)
        self._describe(models, photos)
        return self._summary

    def _same_settings(self) -> Settings:
        """Those of the map, made if there are none. Raises ArgumentError for other ones."""
        options, before = self._options, Settings.find(self._folder)
        asked: dict[str, Any] = {
            "features": options.features,
            "max_keypoints": options.max_keypoints,
            "max_size": options.max_size,
            "matcher": options.matcher,
            "masks": None if options.masks is None else str(options.masks.resolve()),
        }
        if options.masks is not None and not options.masks.is_dir():
            raise ArgumentError(not_there(options.masks, "folder of masks"))
        asked = {name: value for name, value in asked.items() if value is not None}
        if "max_size" in asked:
            asked["max_size"] = asked["max_size"] or None
        if before is None:
            if any(self._folder.iterdir()):
                raise ArgumentError(f"{self._folder} holds other things; name a new folder.")
            new = Settings(
                str(self._given), "xfeat", DEFAULT_KEYPOINTS, DEFAULT_MAX_SIZE, DEFAULT_MATCHER
            )
            return replace(new, **asked)
        found = differences({name: getattr(before, name) for name in asked}, asked, {})
        if found:
            raise ArgumentError(
                f"{self._folder} was made with other settings ({'; '.join(found)}). Name "
                "another folder, or leave them out."
            )
        return before

    def _extract(self) -> Photos:
        settings, options = self._settings, self._options
        index = Index(
            self._folder / "features.covis",
            features=settings.features,
            max_keypoints=settings.max_keypoints,
            max_size=settings.max_size or 0,
            threads=options.threads,
        )
        apart = [self._folder, *([Path(settings.masks)] if settings.masks else [])]
        files = [
            path
            for path in pictures([self._given])
            if not any(Path(path).is_relative_to(other) for other in apart)
        ]
        done = 0

        def tell(path: str, why: str) -> None:
            nonlocal done
            done += 1
            self._report("features", done, len(files))

        if not files:
            raise ArgumentError(f"{self._given}: no pictures in it.")
        added = index.add(files, report=tell, engine=options.engine, address=options.address)
        self._summary.failed = added.failed
        if not (self._folder / "covis.json").exists():
            settings.save(self._folder)
        photos = Photos(index, settings.photos)
        if len(photos) < 2:
            raise ArgumentError(f"{self._given}: one photo makes no map; add more.")
        self._summary.photos = len(photos)
        return photos

    def _import(self) -> Path:
        """The database's path; a copy of the given one where there is none yet."""
        path, given = self._folder / "database.db", self._options.database
        if given is not None and not path.exists():
            if not given.is_file():
                raise ArgumentError(not_there(given, "database"))
            partial = path.with_suffix(".partial")
            shutil.copyfile(given, partial)
            with Database(partial) as copied:
                copied.clear_features()
            partial.rename(path)
        return path

    def _add_photos(self, database: Database, photos: Photos) -> list[PhotoInfo]:
        """Photos, cameras and keypoints that the database does not have; what the files say."""
        options = self._options
        root = Path(self._settings.photos)
        shots = [read_photo_info(root / name, photos.focal_lengths[name]) for name in photos.names]
        sharing = "shared" if options.camera_params is not None else options.sharing
        groups = share_cameras(shots, sharing)
        sizes = {shot.size for shot in shots}
        if options.camera_params is not None and len(sizes) > 1:
            raise ArgumentError(
                f"--camera-params is for one camera, but the photos have {len(sizes)} sizes; "
                "leave it out, or map those of one size."
            )
        colmap = need_pycolmap()
        with database.transaction():
            self._add_posed(database)
            cameras = {
                group: database.camera_id(name)
                for group, name in zip(groups, photos.names, strict=True)
                if name in database.images
            }
            for group, name, shot in zip(groups, photos.names, shots, strict=True):
                if group not in cameras:
                    camera = make_camera(colmap, shot, options.camera_model, options.camera_params)
                    cameras[group] = database.add_camera(camera)
                if name not in database.images:
                    database.add_photo(name, cameras[group])
                if database.keypoints(name) is None and not self._settings.semi_dense:
                    (features,) = photos.features([name])
                    database.write_keypoints(name, file_keypoints(photos, name, features))
        return shots

    def _add_posed(self, database: Database) -> None:
        """The photos and cameras of the model to start from, where the database lacks them."""
        if self._options.model is None:
            return
        colmap = need_pycolmap()
        try:
            model = colmap.Reconstruction(str(self._options.model))
        except (ValueError, RuntimeError, OSError) as error:
            raise ArgumentError(f"{self._options.model}: not a COLMAP model ({error}).") from None
        ids: dict[int, int] = {}
        for image in model.images.values():
            if image.name not in database.images:
                if image.camera_id not in ids:
                    ids[image.camera_id] = database.add_camera(model.camera(image.camera_id))
                database.add_photo(image.name, ids[image.camera_id])

    def _pairs(self, photos: Photos, shots: Sequence[PhotoInfo]) -> list[Pair]:
        options, count = self._options, len(photos)
        kind = options.pairs
        if kind == "auto":
            kind = "exhaustive" if count <= EXHAUSTIVE_UP_TO else "retrieval"
        if isinstance(kind, Path):
            places = {name: place for place, name in enumerate(photos.names)}
            found = pairing.listed(kind, Path(self._settings.photos), places)
        elif kind == "exhaustive":
            found = pairing.exhaustive(count)
        elif kind == "retrieval":
            found = pairing.similar(photos.vectors, options.neighbours)
        elif kind == "sequential":
            loops = pairing.similar(
                photos.vectors, options.neighbours, every=5, apart=2 * options.overlap
            )
            found = pairing.unique([*pairing.sequential(count, options.overlap), *loops])
        else:
            positions = pairing.earth_centred([shot.place for shot in shots])
            found = pairing.near(positions, options.distance, options.neighbours)
            if not len(found):
                raise ArgumentError(
                    f"no two photos in {self._given} have GPS positions within "
                    f"{options.distance:g} m; use --pairs retrieval."
                )
        return [(photos.names[first], photos.names[second]) for first, second in found]

    def _task(self, database: Database) -> Task:
        camera_of = {name: database.camera_id(name) for name in database.images}
        return Task(
            self._folder,
            self._settings,
            database.cameras(),
            camera_of,
            MIN_INLIERS,
            self._options.seed,
        )

    def _match(self, database: Database, photos: Photos, wanted: Sequence[Pair]) -> None:
        known = set(database.inliers())
        ids = database.images
        new = [pair for pair in wanted if tuple(sorted(ids[name] for name in pair)) not in known]
        self._summary.new_pairs = len(new)
        if not new:
            return
        task, options = self._task(database), self._options
        self._report("matches", 0, len(new))
        if self._settings.semi_dense:
            names = {number: name for name, number in ids.items()}
            before = [(names[first], names[second]) for first, second in known]
            self._summary.remade = bool(before)
            found = self._match_semi_dense(database, photos, task, sorted({*before, *wanted}))
        elif options.engine == "ray":
            found = match_on_ray(task, new, options.address)
        else:
            found = match_here(task, new, options.threads)
        waiting: list[tuple[str, str, Verified]] = []
        try:
            for done, ((name0, name1), verified) in enumerate(found, 1):
                waiting.append((name0, name1, verified))
                if len(waiting) >= COMMITTED:
                    database.write_pairs(waiting)
                    waiting = []
                self._report("matches", done, len(new))
        finally:
            database.write_pairs(waiting)

    def _match_semi_dense(
        self, database: Database, photos: Photos, task: Task, pairs: Sequence[Pair]
    ) -> Iterator[tuple[Pair, Verified]]:
        """All pairs, since each changes the keypoints of both photos."""
        options = self._options
        matches = []
        for pair, found in SemiDense(task, photos, options.threads)(pairs):
            matches.append((pair, found))
            self._report("semi-dense matches", len(matches), len(pairs))
        seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, (pair, _) in enumerate(matches):
            for side in (0, 1):
                seen[pair[side]].append((number, side))
        coarseness = self._coarseness(database)
        places: list[list[Any]] = [[None, None] for _ in matches]
        keypoints = {}
        for name, sides in seen.items():
            sets = [(matches[n][1].points0, matches[n][1].points1)[side] for n, side in sides]
            scores = np.concatenate([matches[n][1].scores for n, _ in sides])
            radius = RADIUS * coarseness[name]
            keypoints[name], owner = cluster(np.concatenate(sets), scores, radius)
            ends = np.cumsum([len(points) for points in sets])
            for (n, side), part in zip(sides, np.split(owner, ends[:-1]), strict=True):
                places[n][side] = part
        with database.transaction():
            database.clear_matches()
            for name, found_points in keypoints.items():
                database.write_keypoints(name, found_points)
        shutil.rmtree(self._folder / "sparse", ignore_errors=True)
        worker = Worker(replace(task, settings=replace(task.settings, matcher="nearest")))
        for (pair, found), sides_of in zip(matches, places, strict=True):
            indices = one_to_one(np.column_stack(sides_of), found.scores)
            yield pair, worker.verify(pair, keypoints[pair[0]], keypoints[pair[1]], indices)

    def _coarseness(self, database: Database) -> dict[str, float]:
        """By photo, see `Settings.coarseness`."""
        cameras = database.cameras()
        of = {number: (camera.width, camera.height) for number, camera in cameras.items()}
        return {
            name: self._settings.coarseness(of[database.camera_id(name)])
            for name in database.images
        }

    def _count(self, database: Database, photos: Photos) -> None:
        inliers = database.inliers()
        verified = {pair for pair, count in inliers.items() if count >= MIN_INLIERS}
        paired = {image for pair in verified for image in pair}
        self._summary.pairs, self._summary.verified = len(inliers), len(verified)
        self._summary.alone = [name for name in photos.names if database.images[name] not in paired]

    def _map(self, database: Database, photos: Photos) -> list[Any]:
        colmap, options = need_pycolmap(), self._options
        sparse = self._folder / "sparse"
        before = [] if options.afresh else sorted(sparse.glob("[0-9]*"), key=lambda p: int(p.name))
        if before and not self._summary.new_pairs:
            return [colmap.Reconstruction(str(path)) for path in before]
        refine = options.camera_params is None if options.refine is None else options.refine
        mapping = Mapping(
            options.mapper,
            refine,
            self._coarseness(database),
            options.seed,
            options.threads,
            MIN_INLIERS,
            frozenset() if before or options.model is None else _posed_names(options.model),
        )
        with self._timed("map"):
            models = self._run_mapper(photos, mapping, before[0] if before else None)
            models += [colmap.Reconstruction(str(path)) for path in before[1:]]
        if options.align:
            with self._timed("align"):
                for model in models:
                    self._align(database, model, mapping)
        write_models(models, sparse)
        return models

    def _run_mapper(self, photos: Photos, mapping: Mapping, extended: Path | None) -> list[Any]:
        root, database = Path(self._settings.photos), self._folder / "database.db"
        total = len(photos) - len(self._summary.alone)
        self._report("map", 0, total)
        work = self._folder / "mapping.partial"
        shutil.rmtree(work, ignore_errors=True)
        (work / "models").mkdir(parents=True)
        poses = self._options.model
        if extended is None and poses is not None:
            extended = work / "triangulated"
            extended.mkdir()
            triangulate(database, root, extended, poses, mapping).write(str(extended))
        try:
            return run_mapper(
                database,
                root,
                work / "models",
                mapping,
                extended=extended,
                report=lambda count: self._report("map", count, total),
            )
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _align(self, database: Database, model: Any, mapping: Mapping) -> None:
        """Align a model's keypoints, and move those of the database along."""
        root = Path(self._settings.photos)
        moved = align_keypoints(
            model, root, mapping, lambda done, total: self._report("align", done, total)
        )
        with database.transaction():
            for name, (places, positions) in moved.items():
                keypoints = database.keypoints(name)
                assert keypoints is not None
                keypoints[places] = positions
                database.write_keypoints(name, keypoints)

    def _describe(self, models: Sequence[Any], photos: Photos) -> None:
        summary = self._summary
        summary.models = [model.num_reg_images() for model in models]
        if not models:
            summary.unplaced = [name for name in photos.names if name not in summary.alone]
            return
        largest = models[0]
        placed = {
            image.name for model in models for image in model.images.values() if image.has_pose
        }
        summary.registered, summary.points = largest.num_reg_images(), largest.num_points3D()
        summary.error = largest.compute_mean_reprojection_error()
        summary.track_length = largest.compute_mean_track_length()
        summary.unplaced = [
            name for name in photos.names if name not in placed and name not in summary.alone
        ]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._summary.seconds[stage] = time.perf_counter() - began


def _posed_names(model: Path) -> frozenset[str]:
    images = need_pycolmap().Reconstruction(str(model)).images.values()
    return frozenset(image.name for image in images if image.has_pose)


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(names[:8])
    return listed if len(names) <= 8 else f"{listed} and {len(names) - 8} more"
