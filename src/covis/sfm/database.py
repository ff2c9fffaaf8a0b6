"""COLMAP's database: photos, cameras, keypoints, matches and two-view geometries, as pycolmap
writes them. What belongs together is written whole or not at all, also where it is killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, CovisError
from covis.images.exif import Place
from covis.messages import not_there
from covis.sfm.map import COLMAP_ERRORS, need_pycolmap
from covis.sfm.mapper import quiet
from covis.sfm.two_view_verification import Verified
from covis.types import FloatArray, Matrix

if TYPE_CHECKING:
    import pycolmap

MIN_INLIERS = 15
"""COLMAP's mappers do not use pairs with fewer."""


class Database:
    """The database at a path, to be used in a `with` block.

    images: the ids of its photos by name.
    """

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises CovisError where that cannot be."""
        self.path = path
        self._colmap = need_pycolmap()
        try:
            self._open()
        except COLMAP_ERRORS as error:
            reason = (str(error).splitlines() or ["unknown"])[0]
            raise CovisError(f"{path}: not a COLMAP database ({reason[:200]}).") from None

    def _open(self) -> None:
        with quiet(self._colmap):
            self._rows = self._colmap.Database.open(str(self.path))
        found = self._rows.read_all_images()
        self.images: dict[str, int] = {image.name: image.image_id for image in found}
        self._cameras: dict[str, int] = {image.name: image.camera_id for image in found}

    def _images_of(self, pair: int) -> tuple[int, int]:
        """The ids of a pair's photos, from the pair's."""
        first, second = self._colmap.pair_id_to_image_pair(pair)
        return first, second

    def _sqlite(self, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
        """SQLite's own connection, for what pycolmap has no words for."""
        return sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._rows.close()

    def transaction(self) -> AbstractContextManager[None]:
        """In a `with` block all is written, or nothing where the process is killed."""
        transaction: AbstractContextManager[None] = self._colmap.DatabaseTransaction(self._rows)
        return transaction

    def camera_id(self, name: str) -> int:
        """The id of the camera that took a photo."""
        return self._cameras[name]

    def cameras(self) -> dict[int, pycolmap.Camera]:
        """All cameras by id."""
        return {camera.camera_id: camera for camera in self._rows.read_all_cameras()}

    def add_camera(self, camera: pycolmap.Camera) -> int:
        """Add a camera, and COLMAP's rig that has only it; returns its id."""
        camera.camera_id = self._rows.write_camera(camera)
        self._add_rig(camera)
        return int(camera.camera_id)

    def _add_rig(self, camera: pycolmap.Camera) -> None:
        rig = self._colmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        self._rows.write_rig(rig)

    def add_photo(self, name: str, camera_id: int) -> None:
        """Add a photo, and COLMAP's frame that has only it."""
        image = self._colmap.Image(name=name, camera_id=camera_id)
        image.image_id = self._rows.write_image(image)
        self._add_frame(image)
        self.images[name], self._cameras[name] = image.image_id, camera_id

    def _add_frame(self, image: pycolmap.Image) -> None:
        sensor = self._colmap.sensor_t(self._colmap.SensorType.CAMERA, image.camera_id)
        frame = self._colmap.Frame()
        frame.rig_id = self._rows.read_rig_with_sensor(sensor).rig_id
        frame.add_data_id(image.data_id)
        self._rows.write_frame(frame)

    def add_missing_rigs(self) -> None:
        """A rig for each camera and a frame for each photo without, as before COLMAP 3.12."""
        camera_sensor = self._colmap.SensorType.CAMERA
        with self.transaction():
            rigs = self._rows.read_all_rigs()
            known = {rig.ref_sensor_id for rig in rigs}
            known |= {sensor for rig in rigs for sensor in rig.non_ref_sensors}
            for number, camera in self.cameras().items():
                if self._colmap.sensor_t(camera_sensor, number) not in known:
                    self._add_rig(camera)
            frames = self._rows.read_all_frames()
            framed = {data.id for frame in frames for data in frame.data_ids}
            for image in self._rows.read_all_images():
                if image.image_id not in framed:
                    self._add_frame(image)

    def check_priors(self) -> None:
        """Raise what pycolmap does where the priors of poses are damaged: mappers read them."""
        self._rows.read_all_pose_priors()

    def update(self, removed: Collection[str], renamed: Mapping[str, str]) -> None:
        """Remove photos with all that was made of them, then rename others; all or nothing.

        renamed: new names by former ones, which may be one another's. Cameras that no photo has
        any more go.
        """
        if not removed and not renamed:
            return
        gone = {self.images[name]: self._cameras[name] for name in removed}
        # Python's SQLite and pycolmap's are two; both at once would undo each other's locks.
        self._rows.close()
        with closing(self._sqlite("rw")) as rows, rows:
            _delete_images(rows, gone, int(self._colmap.SensorType.CAMERA))
            self._delete_pairs(rows, gone.keys())
            # Names are unique at every moment, so those that are exchanged pass through others.
            for name in (lambda new: f"/{new}"), (lambda new: new):
                rows.executemany(
                    "UPDATE images SET name = ? WHERE image_id = ?",
                    [(name(new), self.images[old]) for old, new in renamed.items()],
                )
        self._open()

    def forget_features(self, names: Iterable[str]) -> None:
        """Remove the keypoints of photos and all their matches; the photos stay."""
        changed = {self.images[name] for name in names}
        self._rows.close()
        with closing(self._sqlite("rw")) as rows, rows:
            for table in ("keypoints", "descriptors"):
                of_photo = f"DELETE FROM {table} WHERE image_id = ?"
                rows.executemany(of_photo, [(number,) for number in changed])
            self._delete_pairs(rows, changed)
        self._open()

    def _delete_pairs(self, rows: sqlite3.Connection, images: AbstractSet[int]) -> None:
        """Delete the matches and geometries of all pairs with one of these photos."""
        for table in ("matches", "two_view_geometries"):
            pairs = [pair for (pair,) in rows.execute(f"SELECT pair_id FROM {table}")]
            stale = [(pair,) for pair in pairs if not images.isdisjoint(self._images_of(pair))]
            rows.executemany(f"DELETE FROM {table} WHERE pair_id = ?", stale)

    def write_place(self, name: str, place: Place | None) -> None:
        """Where GPS says that a new photo was taken, as COLMAP's prior; only with an altitude."""
        if place is None or place[2] is None:
            return
        image, colmap = self._rows.read_image(self.images[name]), self._colmap
        system = colmap.PosePriorCoordinateSystem.WGS84
        prior = colmap.PosePrior(
            corr_data_id=image.data_id,
            position=np.array(place, np.float64),
            coordinate_system=system,
        )
        self._rows.write_pose_prior(prior)

    def has_keypoints(self, name: str) -> bool:
        """Whether any were written for a photo, were it none."""
        return bool(self._rows.exists_keypoints(self.images[name]))

    def keypoints(self, name: str) -> Matrix | None:
        """(N, 2), in the file's frame; None where none were written."""
        rows = self.keypoint_rows(name)
        return None if rows is None else rows[:, :2].astype(np.float64)

    def keypoint_rows(self, name: str) -> FloatArray | None:
        """(N, 2), (N, 4) or (N, 6), all that COLMAP has of keypoints; None where none are."""
        image = self.images[name]
        if not self._rows.exists_keypoints(image):
            return None
        return np.array(self._rows.read_keypoints(image), np.float32)

    def write_keypoints(self, name: str, keypoints: Matrix | FloatArray) -> None:
        """Rows as above, in the file's frame, in the place of those that are there."""
        image = self.images[name]
        write = self._rows.write_keypoints
        if self._rows.exists_keypoints(image):
            write = self._rows.update_keypoints
        write(image, np.ascontiguousarray(keypoints, np.float32))

    def descriptors(self, name: str) -> pycolmap.FeatureDescriptors | None:
        """None where none were written."""
        image = self.images[name]
        return self._rows.read_descriptors(image) if self._rows.exists_descriptors(image) else None

    def write_descriptors(self, name: str, descriptors: pycolmap.FeatureDescriptors) -> None:
        """Of a photo that has none: pycolmap replaces none."""
        self._rows.write_descriptors(self.images[name], descriptors)

    def matches(self) -> Iterator[tuple[tuple[str, str], NDArray[np.uint32]]]:
        """The photos of each pair and its matches (K, 2), before verification."""
        names = {image: name for name, image in self.images.items()}
        for pair, indices in zip(*self._rows.read_all_matches(), strict=True):
            image0, image1 = self._colmap.pair_id_to_image_pair(pair)
            yield (names[image0], names[image1]), np.array(indices)

    def verified_matches(self) -> Iterator[tuple[tuple[str, str], NDArray[np.uint32]]]:
        """The photos of each verified pair and its matches (K, 2) that agree with the geometry."""
        names = {image: name for name, image in self.images.items()}
        for pair, geometry in zip(*self._rows.read_two_view_geometries(), strict=True):
            if len(geometry.inlier_matches) >= MIN_INLIERS:
                image0, image1 = self._images_of(pair)
                yield (names[image0], names[image1]), np.array(geometry.inlier_matches)

    def write_matches(self, pair: tuple[str, str], indices: NDArray[np.int64]) -> None:
        """The matches of a pair (K, 2), in the place of those that are there and their geometry."""
        ids = self.images[pair[0]], self.images[pair[1]]
        if self._rows.exists_matches(*ids):
            self._rows.delete_matches(*ids)
        if self._rows.exists_two_view_geometry(*ids):
            self._rows.delete_two_view_geometry(*ids)
        if len(indices):
            self._rows.write_matches(*ids, np.ascontiguousarray(indices, np.uint32))

    def clear_features(self) -> None:
        """Remove all keypoints, descriptors, matches and two-view geometries."""
        self._rows.clear_two_view_geometries()
        self._rows.clear_matches()
        self._rows.clear_descriptors()
        self._rows.clear_keypoints()

    def clear_matches(self) -> None:
        """Remove all matches and two-view geometries."""
        self._rows.clear_two_view_geometries()
        self._rows.clear_matches()

    def write_pairs(self, pairs: Iterable[tuple[str, str, Verified]]) -> None:
        """Write the matches and the geometry of pairs of photos, all or none of them."""
        with self.transaction():
            for name0, name1, found in pairs:
                self.write_matches((name0, name1), found.indices)
                ids = self.images[name0], self.images[name1]
                self._rows.write_two_view_geometry(*ids, self._geometry(found))

    def inliers(self) -> dict[tuple[int, int], int]:
        """How many matches of each pair of image ids are verified; pairs without are there."""
        with closing(self._sqlite("ro")) as rows:
            found = rows.execute("SELECT pair_id, rows FROM two_view_geometries").fetchall()
        return {self._images_of(pair): count for pair, count in found}

    def _geometry(self, found: Verified) -> pycolmap.TwoViewGeometry:
        colmap = self._colmap
        geometry = colmap.TwoViewGeometry()
        if found.kind == "none" or found.matrix is None:
            geometry.config = int(colmap.TwoViewGeometryConfiguration.DEGENERATE)
            return geometry
        geometry.inlier_matches = np.ascontiguousarray(found.indices[found.inliers], np.uint32)
        if found.kind == "fundamental":
            geometry.config = int(colmap.TwoViewGeometryConfiguration.UNCALIBRATED)
            geometry.F = found.matrix
            return geometry
        geometry.config = int(colmap.TwoViewGeometryConfiguration.CALIBRATED)
        geometry.E = found.matrix
        rotation = colmap.Rotation3d(found.rotation_1from0)
        geometry.cam2_from_cam1 = colmap.Rigid3d(rotation, found.translation_1from0)
        return geometry


_BESIDE = ("-wal",)
"""What SQLite keeps beside a database that is open, or whose program was killed."""


def copy_files(given: Path, copy: Path) -> None:
    """Copy a database with what lies beside it. Raises OSError."""
    for end in ("", *_BESIDE):
        if os.path.exists(f"{given}{end}"):
            shutil.copyfile(f"{given}{end}", copy.with_name(f"{copy.name}{end}"))


def copy_database(given: Path, copy: Path) -> dict[str, tuple[int, int]]:
    """Copy a database; returns (width, height) of its photos by name, as their cameras have it.

    With what COLMAP has written last, which lies beside it while it is open, or was killed.
    Nothing is written to the given one. Raises ArgumentError where there is no database, or
    photos and cameras in it are damaged.
    """
    if not given.is_file():
        raise ArgumentError(not_there(given, "database"))
    try:
        copy_files(given, copy)
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=rw", uri=True)) as rows:
            return _photo_sizes(rows)
    except (sqlite3.Error, OSError, ValueError) as error:
        for end in ("", *_BESIDE):
            copy.with_name(f"{copy.name}{end}").unlink(missing_ok=True)
        raise ArgumentError(f"{given}: no COLMAP database, or a damaged one ({error}).") from None


def _photo_sizes(rows: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """See `copy_database`. Raises ValueError, or sqlite3's errors."""
    import pycolmap as colmap

    sizes = {}
    for camera, kind, width, height, params in rows.execute(
        "SELECT camera_id, model, width, height, params FROM cameras"
    ):
        try:
            values = np.frombuffer(params, np.float64)
            made = colmap.Camera(
                model=colmap.CameraModelId(kind), width=width, height=height, params=values
            )
            whole = made.verify_params() and np.isfinite(values).all() and min(width, height) > 0
            if whole and made.model_name != "EQUIRECTANGULAR":
                whole = made.mean_focal_length() > 0
        except (TypeError, ValueError):
            whole = False
        if not whole:
            raise ValueError(f"its camera {camera} is damaged")
        sizes[camera] = (width, height)
    found = {}
    for name, camera in rows.execute("SELECT name, camera_id FROM images"):
        if not isinstance(name, str):
            raise ValueError(f"a name in it, {name!r}, is no text")
        if camera not in sizes:
            raise ValueError(f"its photo {name} has no camera")
        found[name] = sizes[camera]
    return found


def _delete_images(rows: sqlite3.Connection, gone: Mapping[int, int], sensor_type: int) -> None:
    """Delete images, given with their cameras' ids, their frames, and cameras of theirs alone."""
    frames = set()
    for number in gone:
        mine = "data_id = ? AND sensor_type = ?", (number, sensor_type)
        frames |= set(rows.execute(f"SELECT frame_id FROM frame_data WHERE {mine[0]}", mine[1]))
        rows.execute(f"DELETE FROM frame_data WHERE {mine[0]}", mine[1])
        rows.execute(
            "DELETE FROM pose_priors WHERE corr_data_id = ? AND corr_sensor_type = ?",
            (number, sensor_type),
        )
        for table in ("keypoints", "descriptors", "images"):
            rows.execute(f"DELETE FROM {table} WHERE image_id = ?", (number,))
    rows.executemany(
        "DELETE FROM frames WHERE frame_id = ? AND frame_id NOT IN "
        "(SELECT frame_id FROM frame_data)",
        frames,
    )
    for camera in set(gone.values()):
        (used,) = rows.execute(
            "SELECT count(*) FROM images WHERE camera_id = ?", (camera,)
        ).fetchone()
        if used:
            continue
        rows.execute(
            "DELETE FROM rigs WHERE ref_sensor_id = ? AND ref_sensor_type = ? AND rig_id NOT IN "
            "(SELECT rig_id FROM frames UNION SELECT rig_id FROM rig_sensors)",
            (camera, sensor_type),
        )
        rows.execute(
            "DELETE FROM cameras WHERE camera_id = ?1 AND camera_id NOT IN "
            "(SELECT ref_sensor_id FROM rigs WHERE ref_sensor_type = ?2 UNION "
            "SELECT sensor_id FROM rig_sensors WHERE sensor_type = ?2)",
            (camera, sensor_type),
        )
