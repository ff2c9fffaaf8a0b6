"""COLMAP's database: photos, cameras, keypoints, matches and two-view geometries, as pycolmap
writes them. What belongs together is written whole or not at all, also where it is killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Self

import numpy as np

from covis.errors import CovisError
from covis.sfm.map import need_pycolmap
from covis.sfm.two_view_verification import Verified
from covis.types import Matrix

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
            self._rows = self._colmap.Database.open(str(path))
            found = self._rows.read_all_images()
        except (RuntimeError, ValueError, OSError) as error:
            reason = (str(error).splitlines() or ["unknown"])[0]
            raise CovisError(f"{path}: not a COLMAP database ({reason[:200]}).") from None
        self.images: dict[str, int] = {image.name: image.image_id for image in found}
        self._cameras: dict[str, int] = {image.name: image.camera_id for image in found}

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

    def cameras(self) -> dict[int, Any]:
        """All cameras, `pycolmap.Camera`, by id."""
        return {camera.camera_id: camera for camera in self._rows.read_all_cameras()}

    def add_camera(self, camera: Any) -> int:
        """Add a camera, and COLMAP's rig that has only it; returns its id."""
        camera.camera_id = self._rows.write_camera(camera)
        rig = self._colmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        self._rows.write_rig(rig)
        return int(camera.camera_id)

    def add_photo(self, name: str, camera_id: int) -> None:
        """Add a photo, and COLMAP's frame that has only it."""
        image = self._colmap.Image(name=name, camera_id=camera_id)
        image.image_id = self._rows.write_image(image)
        sensor = self._colmap.sensor_t(self._colmap.SensorType.CAMERA, camera_id)
        frame = self._colmap.Frame()
        frame.rig_id = self._rows.read_rig_with_sensor(sensor).rig_id
        frame.add_data_id(image.data_id)
        self._rows.write_frame(frame)
        self.images[name], self._cameras[name] = image.image_id, camera_id

    def keypoints(self, name: str) -> Matrix | None:
        """(N, 2), in the file's frame; None where none were written."""
        image = self.images[name]
        if not self._rows.exists_keypoints(image):
            return None
        return np.array(self._rows.read_keypoints(image)[:, :2], np.float64)

    def write_keypoints(self, name: str, keypoints: Matrix) -> None:
        """(N, 2), in the file's frame, in the place of those that are there."""
        image = self.images[name]
        write = self._rows.write_keypoints
        if self._rows.exists_keypoints(image):
            write = self._rows.update_keypoints
        write(image, np.ascontiguousarray(keypoints, np.float32))

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
                ids = self.images[name0], self.images[name1]
                if self._rows.exists_matches(*ids):
                    self._rows.delete_matches(*ids)
                if self._rows.exists_two_view_geometry(*ids):
                    self._rows.delete_two_view_geometry(*ids)
                if len(found.indices):
                    self._rows.write_matches(*ids, np.ascontiguousarray(found.indices, np.uint32))
                self._rows.write_two_view_geometry(*ids, self._geometry(found))

    def inliers(self) -> dict[tuple[int, int], int]:
        """How many matches of each pair of image ids are verified; pairs without are there."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as rows:
            found = rows.execute("SELECT pair_id, rows FROM two_view_geometries").fetchall()
        return {tuple(self._colmap.pair_id_to_image_pair(pair)): count for pair, count in found}

    def _geometry(self, found: Verified) -> Any:
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
