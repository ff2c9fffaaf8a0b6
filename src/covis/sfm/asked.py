"""What a run of `covis map` is asked for: which photos, by which settings, from which poses.

All of it is checked before the work, against the map that is there and the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covis.errors import ArgumentError, CovisError, ImageError
from covis.features import Extractor
from covis.files.atomic import PARTIAL
from covis.files.run_folder import differences
from covis.images.exif import read_photo_info
from covis.images.picture_files import walk_pictures
from covis.matching import Matcher
from covis.options import DEFAULT_FEATURES, DEFAULT_MAX_KEYPOINTS, MAP_MATCHER, MAP_MAX_SIZE
from covis.search.ingest import file_content
from covis.search.store import Store
from covis.sfm.database import Database, copy_database
from covis.sfm.map import COLMAP_ERRORS, Settings, first_line, read_model
from covis.sfm.masks import find_masks
from covis.sfm.options import MapOptions, MapSummary
from covis.sfm.photo_cameras import as_in_map, check_camera
from covis.sfm.photo_changes import PhotoRecord
from covis.sfm.video_frames import FRAMES, drop_frames, find_videos, take_frames

if TYPE_CHECKING:
    import pycolmap

Report = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and of how much (None: not known)."""


class Asked:
    """The photos, settings, masks and poses of one run.

    given: the folder of photos. settings: the map's, from `files` on. known: the model to start
    from, masks: by the photos' names, both from `check` on. unread: videos, and why.
    """

    settings: Settings

    def __init__(
        self, photos: Path, folder: Path, options: MapOptions, report: Report, summary: MapSummary
    ) -> None:
        """photos: a folder, or a video. summary: is told what was found."""
        self.folder, self.options = folder, options
        self._frames = folder / FRAMES
        self._source = photos
        self.given = self._frames if photos.is_file() else photos
        self._report, self._summary = report, summary
        self.record = PhotoRecord.read(folder)
        self.known: pycolmap.Reconstruction | None = None
        self.masks: dict[str, Path] = {}
        self.unread: dict[str, str] = {}

    def files(self) -> list[str]:
        """The pictures, and with them the settings. Raises ArgumentError as `build_map` does."""
        check_camera(self.options.camera_model, self.options.camera_params)
        settings = self._same_settings()
        files = self._find_files()
        self.settings = self._moved(settings, files)
        return files

    def check(self, files: Sequence[str]) -> dict[str, str]:
        """The files by their names in the map, after masks and poses were found to be of them; the
        settings are saved. Raises ArgumentError as `build_map` does."""
        names = {os.path.relpath(path, self.root).replace(os.sep, "/"): path for path in files}
        self._check_given(names)
        self.masks = self._find_masks(names)
        self.settings.save(self.folder)
        return names

    @property
    def database(self) -> Path:
        return self.folder / "database.db"

    @property
    def root(self) -> Path:
        """The folder that the photos' names are relative to."""
        return Path(self.settings.photos)

    def _find_files(self) -> list[str]:
        """The pictures in the given folder, without those of masks and of the map itself."""
        before, masks = Settings.find(self.folder), self.options.masks
        apart = [self.folder, *([masks.resolve()] if isinstance(masks, Path) else [])]
        if before is not None and before.masks:
            apart.append(Path(before.masks))
        videos = find_videos(self._source, apart)
        files = [*self._pictures(apart, bool(videos)), *self._video_frames(videos)]
        if not files:
            raise ArgumentError(f"{self._source}: no pictures in it.")
        return files

    def _pictures(self, apart: Sequence[Path], may_be_none: bool) -> list[str]:
        """Those in the given folder that lie in none of others."""
        if not self._source.is_dir():
            return []
        try:
            found = walk_pictures([self._source])
        except ArgumentError:
            if may_be_none:
                return []
            raise
        return [path for path in found if not any(Path(path).is_relative_to(o) for o in apart)]

    def _video_frames(self, videos: Sequence[Path]) -> list[str]:
        """Pictures of videos, made where they are not there; those of videos that are gone go."""
        drop_frames(self._frames)
        options, files = self.options, []
        for video in videos:
            try:
                taken = take_frames(
                    video,
                    self._frames,
                    options.video_frames,
                    options.video_rate,
                    lambda done, total: self._report("frames", done, total),
                )
            except ImageError as error:
                self.unread[str(video)] = str(error)
                continue
            self._summary.videos[video.name] = len(taken)
            files += [str(path) for path in taken]
        return files

    def _same_settings(self) -> Settings:
        """Those of the map, made if there are none. Raises ArgumentError for other ones."""
        options, before = self.options, Settings.find(self.folder)
        asked: dict[str, Any] = {
            "features": options.features,
            "max_keypoints": options.max_keypoints,
            "max_size": options.max_size,
            "matcher": options.matcher,
        }
        asked = {name: value for name, value in asked.items() if value is not None}
        if options.masks is not None:
            asked["masks"] = str(Path(options.masks).resolve())
        if "max_size" in asked:
            asked["max_size"] = asked["max_size"] or None
        if before is None:
            mine = (path.name == FRAMES or PARTIAL in path.name for path in self.folder.iterdir())
            if not all(mine):
                raise ArgumentError(f"{self.folder} holds other things; name a new folder.")
            settings = replace(
                Settings(
                    str(self.given),
                    DEFAULT_FEATURES,
                    DEFAULT_MAX_KEYPOINTS,
                    MAP_MAX_SIZE,
                    MAP_MATCHER,
                ),
                **asked,
            )
            # To be saved before the work, so they have to be right.
            Extractor(settings.features, threads=options.threads, device=options.device)
            Matcher(
                settings.matcher,
                features=settings.features,
                threads=options.threads,
                device=options.device,
            )
            return settings
        found = differences({name: getattr(before, name) for name in asked}, asked, {})
        if found:
            raise ArgumentError(
                f"{self.folder} was made with other settings ({'; '.join(found)}). Name "
                "another folder, or leave them out."
            )
        return before

    def _moved(self, settings: Settings, files: Sequence[str]) -> Settings:
        """The settings, with the given folder as the photos' where none is left in the former one.

        Raises ArgumentError where none of the map's photos is in it either.
        """
        store = Store.find(self.folder / "features.covis")
        if store is None or not self.record.contents:
            return settings
        there = any(os.path.isfile(path) for path in store.column(store.files, "path"))
        if there and os.path.isdir(settings.photos):
            return settings
        known = set(self.record.contents.values())
        if not there and not any(file_content(path) in known for path in files):
            raise ArgumentError(
                f"{self.given}: none of the {len(known)} photos that {self.folder} was made of "
                f"is there, nor in {settings.photos} any more; name a new folder for a new map."
            )
        return replace(settings, photos=str(self.given))

    def _check_given(self, files: dict[str, str]) -> None:
        """Read the given model, if there is one, and check it or the database. files: by name."""
        options = self.options
        if options.model is not None:
            self.known = read_model(Path(options.model))
            cameras = {image.name: image.camera for image in self.known.images.values()}
            sizes = {name: (camera.width, camera.height) for name, camera in cameras.items()}
            self._check_fits(Path(options.model), sizes, files)
        elif options.database is not None and not self.database.exists():
            given, partial = Path(options.database), self.database.with_suffix(PARTIAL)
            self._check_fits(given, copy_database(given, partial), files)

    def _find_masks(self, files: dict[str, str]) -> dict[str, Path]:
        """The masks of the photos by name. files: by name."""
        if not self.settings.masks:
            return {}
        photos = {name: Path(path) for name, path in files.items()}
        found, loose = find_masks(Path(self.settings.masks), photos)
        self._summary.masks, self._summary.loose_masks = len(found), loose
        return found

    def take_over(self, files: dict[str, str]) -> None:
        """Take over the copy of the given database, where there is none yet. files: by name."""
        given = self.options.database
        if given is None or self.database.exists():
            return
        partial = self.database.with_suffix(PARTIAL)
        try:
            with Database(partial) as copied:
                copied.clear_features()
                copied.add_missing_rigs()
                copied.update([name for name in copied.images if name not in files], {})
                copied.check_priors()
        except (*COLMAP_ERRORS, CovisError) as error:
            raise ArgumentError(
                f"{given}: a damaged COLMAP database ({first_line(error)}); take it from a copy, "
                "or map without it."
            ) from None
        partial.rename(self.database)

    def _check_fits(
        self, source: Path, sizes: dict[str, tuple[int, int]], files: dict[str, str]
    ) -> None:
        """Whether a database or a model, the sizes of its photos by name, is of these files."""
        mine = [name for name in sorted(sizes) if name in files]
        if not mine:
            some_name = f", such as {min(sizes)}" if sizes else ""
            raise ArgumentError(
                f"{source} has none of the photos in {self.given}: its names{some_name}, must be "
                f"paths from there, such as {min(files)}."
            )
        for name in mine:
            with suppress(ImageError):
                size = as_in_map(read_photo_info(Path(files[name]), None)).size
                if size != sizes[name]:
                    raise ArgumentError(
                        f"{source}: the camera of {name} has {'x'.join(map(str, sizes[name]))} "
                        f"pixels, the photo {'x'.join(map(str, size))}; use the photos that it "
                        "was made of."
                    )
        self._summary.left_out = [name for name in sorted(sizes) if name not in files]
