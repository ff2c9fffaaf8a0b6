"""`covis map`: a folder of photos becomes a map, or a map takes up more photos.

Every stage writes what it found as it goes, into the map's folder (see `covis.sfm.map`). A run
that was killed goes on where it was, one on a folder that has more photos does only what is new.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from covis.errors import ArgumentError, CovisError
from covis.files.atomic import PARTIAL
from covis.files.run_folder import locked
from covis.geometry.camera import FISHEYES
from covis.images.exif import PhotoInfo, read_photo_info
from covis.images.video import open_video
from covis.messages import counted, not_there
from covis.search.index import Index
from covis.search.store import Store
from covis.sfm.asked import Asked, Report
from covis.sfm.colours import colour_points
from covis.sfm.database import MIN_INLIERS, Database
from covis.sfm.georegistration import Origin, first_origin, register
from covis.sfm.joining import Joining
from covis.sfm.map import (
    Photos,
    need_pycolmap,
    read_model,
)
from covis.sfm.mapper import (
    LEAST_PHOTOS,
    Mapping,
    largest_first,
    model_folders,
    restore_models,
    run_mapper,
    triangulate,
    update_models,
    write_models,
)
from covis.sfm.matching import (
    Pair,
    SemiDense,
    Task,
    Worker,
    map_keypoints,
    match_here,
    match_on_ray,
)
from covis.sfm.options import MapOptions, MapSummary
from covis.sfm.pairs import choose_pairs, matched_first, untied
from covis.sfm.photo_cameras import as_in_map, make_camera, share_cameras
from covis.sfm.photo_changes import find_changes, inode_times, secretly_changed
from covis.sfm.refine_keypoints import refine_keypoints
from covis.sfm.tracks import RADIUS, shared_keypoints
from covis.sfm.two_view_verification import Verified
from covis.sfm.unplaced import count_flat, untried

if TYPE_CHECKING:
    import pycolmap

COMMITTED = 64
"""Pairs that are written together."""

ANEW = "anew"
"""What the file `unmapped` holds where the models have to be made anew."""


def build_map(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    options: MapOptions | None = None,
    report: Report | None = None,
) -> MapSummary:
    """Make the map in the folder `out`, or bring it up to date, from the photos in a folder.

    photos: at any depth; or a video file. Frames of videos are taken as `MapOptions` has it, and
    kept in `out`/frames. Photos that are not in the map yet are added to it; those of before whose
    files are gone are dropped, those whose files changed are made anew, renamed ones stay what
    they are. options: see `MapOptions`. report: called as each stage goes on.

    Raises ArgumentError where the map was made with other settings, is in use, has none of its
    photos left, or an option does not fit; CovisError where pycolmap is missing or files cannot
    be written.
    """
    need_pycolmap()
    options, photos, folder = options or MapOptions(), Path(photos), Path(out)
    if not photos.is_dir():
        if not photos.is_file():
            raise ArgumentError(not_there(photos, "folder of photos"))
        open_video(photos).release()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{folder}: cannot make this folder ({error.strerror}).") from None
    with locked(folder):
        return _Build(photos.resolve(), folder.resolve(), options, report).run()


class _Build:
    def __init__(
        self, photos: Path, folder: Path, options: MapOptions, report: Report | None
    ) -> None:
        self._folder, self._options = folder, options
        self._report = report or (lambda stage, done, total: None)
        self._summary = MapSummary()
        self._asked = Asked(photos, folder, options, self._report, self._summary)
        self._record = self._asked.record
        self._unmapped = folder / "unmapped"
        """A file that is there while matches wait to be mapped."""

    def run(self) -> MapSummary:
        files = self._asked.files()
        self._clear_up()
        names = self._asked.check(files)
        self._settings, self._root = self._asked.settings, self._asked.root
        with self._timed("features"):
            self._asked.take_over(names)
            photos = self._extract(files)
        with Database(self._asked.database) as database:
            with self._timed("cameras"):
                self._take_changes(database, photos)
                infos = self._add_photos(database, photos)
            with self._timed("pairs"):
                wanted = choose_pairs(
                    photos, infos, self._root, self._options, self._failed_names()
                )
            with self._timed("matches"):
                self._match_all(database, photos, wanted)
            effort = self._options.effort
            if effort == "thorough" or (effort == "auto" and self._unmapped.exists()):
                with self._timed("joins"):
                    photos = self._join(database, photos, infos, wanted)
            self._count(database, photos)
            models = self._map(database, photos)
            self._describe(database, models, photos)
        self._summary.save(self._folder)
        return self._summary

    def _clear_up(self) -> None:
        """After a killed run: what it had moved aside comes back, what it began goes."""
        restore_models(self._folder / "sparse")
        for left in [*self._folder.glob(f"*{PARTIAL}*"), *self._folder.glob(f"*/*/*{PARTIAL}")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def _failed_names(self) -> set[str]:
        paths = self._summary.failed
        return {os.path.relpath(path, self._root).replace(os.sep, "/") for path in paths}

    def _extract(self, files: list[str]) -> Photos:
        """Features of new and changed photos; those whose files are gone go from the store."""
        settings, options = self._settings, self._options
        path = self._folder / "features.covis"
        index = Index(
            path,
            features=settings.features,
            max_keypoints=settings.max_keypoints,
            max_size=settings.max_size or 0,
            threads=options.threads,
            device=options.device,
        )
        store, times = Store.find(path), inode_times(files)
        if store is not None and (stale := list(secretly_changed(store, self._record.times))):
            index.remove(stale)
        done = 0

        def tell(path: str, why: str) -> None:
            nonlocal done
            done += 1
            self._report("features", done, len(files))

        added = index.add(files, report=tell, engine=options.engine, address=options.address)
        self._summary.failed = {**added.failed, **self._asked.unread}
        index.remove(missing=True)
        kept = set(index.store.column(index.store.files, "path"))
        times = {**self._record.times, **times}
        self._record.times = {path: time for path, time in times.items() if path in kept}
        photos = Photos(index, settings.photos)
        if len(photos) < LEAST_PHOTOS and not model_folders(self._folder / "sparse"):
            raise ArgumentError(
                f"{self._asked.given}: {counted(len(photos), 'photo')} that can be used; a map "
                f"needs {LEAST_PHOTOS} or more."
            )
        self._summary.photos = len(photos)
        return photos

    def _take_changes(self, database: Database, photos: Photos) -> None:
        """Drop from the database and the models what is gone or changed; rename what is renamed."""
        contents: dict[str, str | None] = {
            name: self._record.contents.get(number, "" if database.has_keypoints(name) else None)
            for name, number in database.images.items()
        }
        changes = find_changes(contents, photos.contents)
        database.update([*changes.gone, *changes.changed], changes.renamed)
        if not self._options.afresh:  # Else they are made anew, and may be damaged.
            try:
                update_models(self._folder / "sparse", database.images)
            except ArgumentError as error:
                raise ArgumentError(f"{error} Or map anew: --afresh.") from None
        failed = self._failed_names()
        self._summary.gone = [name for name in changes.gone if name not in failed]
        self._summary.changed, self._summary.renamed = changes.changed, changes.renamed

    def _add_photos(self, database: Database, photos: Photos) -> list[PhotoInfo]:
        """Photos, cameras and keypoints that the database does not have; what the files say."""
        options = self._options
        root = self._root
        infos = [
            as_in_map(read_photo_info(root / name, photos.focal_lengths[name]))
            for name in photos.names
        ]
        self._summary.focal_ignored = {
            name: info.ignored
            for name, info in zip(photos.names, infos, strict=True)
            if info.ignored
        }
        self._places = {
            name: info.place for name, info in zip(photos.names, infos, strict=True) if info.place
        }
        self._summary.fisheye_unknown = (
            options.camera_params is None
            and options.camera_model in FISHEYES
            and not any(info.focal for info in infos)
        )
        if options.camera_model == "EQUIRECTANGULAR":
            self._summary.no_panoramas = [
                name
                for name, info in zip(photos.names, infos, strict=True)
                if abs(info.size[0] - 2 * info.size[1]) > 2
            ]
        sharing = "shared" if options.camera_params is not None else options.sharing
        groups = share_cameras(infos, photos.names, sharing)
        sizes = {info.size for info in infos}
        if options.camera_params is not None and len(sizes) > 1:
            raise ArgumentError(
                f"--camera-params is for one camera, but the photos have {len(sizes)} sizes; "
                "leave it out, or map those of one size."
            )
        with database.transaction():
            self._add_posed(database, photos)
            cameras = {
                group: database.camera_id(name)
                for group, name in zip(groups, photos.names, strict=True)
                if name in database.images
            }
            for group, name, info in zip(groups, photos.names, infos, strict=True):
                if group not in cameras:
                    camera = make_camera(info, options.camera_model, options.camera_params)
                    cameras[group] = database.add_camera(camera)
                if name not in database.images:
                    database.add_photo(name, cameras[group])
                    database.write_place(name, info.place)
                if not database.has_keypoints(name) and not self._settings.semi_dense:
                    (features,) = photos.features([name])
                    database.write_keypoints(name, map_keypoints(photos, name, features))
        self._record.contents = {
            database.images[name]: photos.contents[name] for name in photos.names
        }
        self._record.save(self._folder)
        return infos

    def _add_posed(self, database: Database, photos: Photos) -> None:
        """The photos and cameras of the model to start from, where the database lacks them."""
        model = self._asked.known
        if model is None:
            return
        ids: dict[int, int] = {}
        for image in model.images.values():
            if image.name in photos.contents and image.name not in database.images:
                if image.camera_id not in ids:
                    ids[image.camera_id] = database.add_camera(model.camera(image.camera_id))
                database.add_photo(image.name, ids[image.camera_id])

    def _task(self, database: Database) -> Task:
        camera_of = {name: database.camera_id(name) for name in database.images}
        return Task(
            self._folder,
            self._settings,
            database.cameras(),
            camera_of,
            MIN_INLIERS,
            self._options.seed,
            self._asked.masks,
            device=self._options.device,
        )

    def _match_all(self, database: Database, photos: Photos, wanted: Sequence[Pair]) -> None:
        """The chosen pairs, but those that others make needless, see `matched_first`."""
        if self._settings.semi_dense:
            self._match(database, photos, wanted)
            return
        self._match(database, photos, matched_first(photos, wanted, self._options))
        self._match(database, photos, untied(wanted, _verified_pairs(database)))

    def _match(self, database: Database, photos: Photos, wanted: Sequence[Pair]) -> None:
        known = set(database.inliers())
        ids = database.images
        new = [pair for pair in wanted if tuple(sorted(ids[name] for name in pair)) not in known]
        self._summary.new_pairs += len(new)
        if not new:
            return
        task, options = self._task(database), self._options
        self._unmapped.touch()
        self._report("matches", 0, len(new))
        if self._settings.semi_dense:
            # All keypoints change: what is mapped of them before goes with them.
            self._unmapped.write_text(ANEW)
            names = {number: name for name, number in ids.items()}
            before = [(names[first], names[second]) for first, second in known]
            self._summary.remade = bool(before)
            found = self._match_semi_dense(database, photos, task, sorted({*before, *wanted}))
        elif options.engine == "ray":
            found = match_on_ray(task, new, options.address)
        else:
            found = match_here(task, new, options.threads)
        waiting: list[tuple[str, str, Verified]] = []
        verified_pairs = 0
        try:
            for done, ((name0, name1), verified) in enumerate(found, 1):
                waiting.append((name0, name1, verified))
                if len(waiting) >= COMMITTED:
                    database.write_pairs(waiting)
                    waiting = []
                self._report("matches", done, len(new))
                verified_pairs += verified.matrix is not None
        finally:
            database.write_pairs(waiting)
        self._summary.count_tried(self._settings.matcher, "as they are", len(new), verified_pairs)

    def _join(
        self, database: Database, photos: Photos, infos: Sequence[PhotoInfo], wanted: Sequence[Pair]
    ) -> Photos:
        """Try more where photos are apart; returns the photos, some of them turned."""
        if self._settings.semi_dense:
            return photos

        def joining() -> Joining:
            verified = _verified_pairs(database)
            options, tried = self._options, self._summary.tried
            task = self._task(database)
            return Joining(task, photos, verified, tried, options.effort, options.threads)

        more = joining()
        self._summary.turned = turns = more.turned()
        if turns:
            photos = self._turn(database, photos, more, turns)
            wanted = choose_pairs(photos, infos, self._root, self._options, self._failed_names())
            self._match_all(database, photos, wanted)
            more = joining()
        for pair, found in more.by_lightglue(wanted):
            self._unmapped.touch()
            database.write_pairs([(*pair, found)])
        return photos

    def _turn(
        self, database: Database, photos: Photos, joining: Joining, turns: dict[str, int]
    ) -> Photos:
        """Find the features of photos anew, turned; the next run goes on where this is killed."""
        self._unmapped.touch()
        models = [read_model(path) for path in model_folders(self._folder / "sparse")]
        placed = {image.name for model in models for image in model.images.values()}
        if not placed.isdisjoint(turns):
            self._unmapped.write_text(ANEW)
        database.forget_features(turns)
        records = {
            photos.contents[name]: joining.turned_record(name, turn) for name, turn in turns.items()
        }
        photos.index.store.replace(list(records.values()))
        photos = Photos(photos.index, self._settings.photos)
        with database.transaction():
            for name in turns:
                (features,) = photos.features([name])
                database.write_keypoints(name, map_keypoints(photos, name, features))
        return photos

    def _match_semi_dense(
        self, database: Database, photos: Photos, task: Task, pairs: Sequence[Pair]
    ) -> Iterator[tuple[Pair, Verified]]:
        """All pairs, since each changes the keypoints of both photos."""
        options = self._options
        matches = []
        for pair, found in SemiDense(task, photos, options.threads)(pairs):
            matches.append((pair, found))
            self._report("semi-dense matches", len(matches), len(pairs))
        radii = {name: RADIUS * coarse for name, coarse in self._coarseness(database).items()}
        keypoints, indices = shared_keypoints(matches, radii)
        with database.transaction():
            database.clear_matches()
            for name, found_points in keypoints.items():
                database.write_keypoints(name, found_points)
        worker = Worker(replace(task, settings=replace(task.settings, matcher="nearest")))
        for (pair, _), rows in zip(matches, indices, strict=True):
            points0, points1 = (keypoints[name] for name in pair)
            yield pair, worker.verify_pair(pair, points0, points1, rows)

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

    def _map(self, database: Database, photos: Photos) -> list[pycolmap.Reconstruction]:
        options = self._options
        sparse = self._folder / "sparse"
        afresh = options.afresh or self._anew()
        before = [] if afresh else model_folders(sparse)
        if before and not self._unmapped.exists():
            return [read_model(path) for path in before]
        refine = options.refine_cameras
        if refine is None:
            refine = options.camera_params is None
        mapping = Mapping(
            options.mapper,
            refine,
            self._coarseness(database),
            options.seed,
            options.threads,
            MIN_INLIERS,
            frozenset() if before else self._posed_names(),
            rough=options.refine_keypoints,
        )
        with self._timed("map"):
            models = self._run_mapper(photos, mapping, before[0] if before else None)
            models = largest_first([*models, *(read_model(path) for path in before[1:])])
        if options.refine_keypoints:
            with self._timed("keypoints"):
                for model in models:
                    self._refine_keypoints(database, model, mapping)
            if not before:
                # Views from one spot are given points that better keypoints take away again.
                models = largest_first(models)
        with self._timed("colours"):
            for model in models:
                colour_points(
                    model, Path(self._settings.photos), self._settings.max_size, options.threads
                )
        self._register(models, new=not before)
        write_models(models, sparse)
        self._unmapped.unlink(missing_ok=True)
        return models

    def _register(self, models: Sequence[pycolmap.Reconstruction], *, new: bool) -> None:
        """Move models to GPS positions, those of before where they were so moved already."""
        before = None if new else Origin.find(self._folder)
        if not self._places or not self._options.gps or self._asked.known or not (new or before):
            if new:
                (self._folder / "gps.json").unlink(missing_ok=True)
            return
        found = [
            register(model, self._places, before or first_origin(self._places)) for model in models
        ]
        if found and isinstance(found[0], Origin):
            found[0].save(self._folder)
        elif new:
            (self._folder / "gps.json").unlink(missing_ok=True)
            self._summary.gps_note = str(found[0]) if found else ""

    def _anew(self) -> bool:
        """Whether matches wait to be mapped, and none of before are left."""
        return self._unmapped.exists() and self._unmapped.read_text() == ANEW

    def _posed_names(self) -> frozenset[str]:
        images = self._asked.known.images.values() if self._asked.known is not None else ()
        return frozenset(image.name for image in images if image.has_pose)

    def _run_mapper(
        self, photos: Photos, mapping: Mapping, extended: Path | None
    ) -> list[pycolmap.Reconstruction]:
        root, database = self._root, self._asked.database
        total = len(photos) - len(self._summary.alone)
        self._report("map", 0, total)
        work = self._folder / "mapping.partial"
        shutil.rmtree(work, ignore_errors=True)
        (work / "models").mkdir(parents=True)
        poses = self._options.model
        if extended is None and poses is not None:
            extended = work / "triangulated"
            extended.mkdir()
            triangulate(database, root, extended, Path(poses), mapping).write(str(extended))
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

    def _refine_keypoints(
        self, database: Database, model: pycolmap.Reconstruction, mapping: Mapping
    ) -> None:
        """Refine a model's keypoints, and move those of the database along."""
        moved = refine_keypoints(
            model,
            self._root,
            mapping,
            lambda done, total: self._report("keypoints", done, total),
        )
        with database.transaction():
            for name, (places, positions) in moved.items():
                keypoints = database.keypoints(name)
                if keypoints is not None:
                    keypoints[places] = positions
                    database.write_keypoints(name, keypoints)

    def _describe(
        self, database: Database, models: Sequence[pycolmap.Reconstruction], photos: Photos
    ) -> None:
        summary = self._summary
        summary.models = [model.num_reg_images() for model in models]
        placed = Counter(
            image.name for model in models for image in model.images.values() if image.has_pose
        )
        summary.shared = sorted(name for name, count in placed.items() if count > 1)
        summary.unplaced = [
            name for name in photos.names if name not in placed and name not in summary.alone
        ]
        if summary.unplaced:
            summary.flat = count_flat(database)
        if summary.unplaced or summary.alone:
            every_pair = summary.pairs >= math.comb(len(photos), 2)
            summary.untried = untried(self._settings, every_pair, self._options.effort)
        if models:
            origin = Origin.find(self._folder)
            if origin is not None:
                summary.origin = origin.latitude, origin.longitude, origin.altitude
                summary.gps, summary.gps_error = origin.photos, origin.error
            largest = models[0]
            summary.registered, summary.points = largest.num_reg_images(), largest.num_points3D()
            summary.error = largest.compute_mean_reprojection_error()
            summary.track_length = largest.compute_mean_track_length()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._summary.seconds[stage] = time.perf_counter() - began


def _verified_pairs(database: Database) -> list[Pair]:
    names = {number: name for name, number in database.images.items()}
    return [
        (names[first], names[second])
        for (first, second), count in database.inliers().items()
        if count >= MIN_INLIERS
    ]
