"""Maps as the page shows them: points and cameras in a unit of their own, and their photos.

The scene's axes: x to the right, y up, z towards who looks, from where most photos were taken; its
middle is where cameras and most points lie around, its unit half their extent. Numbers of 32 bits
then do for maps in metres from far away.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, CovisError, ImageError
from covis.types import FloatArray, Matrix
from covis.web.access import Picture
from covis.web.sources import Source, Sources

if TYPE_CHECKING:
    import pycolmap

    from covis.geometry.camera import CalibratedCamera
    from covis.geometry.pose import Pose
    from covis.sfm.localise import Locator
    from covis.sfm.options import MapSummary

POINTS = 200_000
"""Of a map at most; of more, so many evenly by their ids."""
OPEN = 2
"""Maps that are held at a time."""


class Maps:
    """Those of one server that are open."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Any, ...], OpenMap] = OrderedDict()

    def open(self, source: Source, number: int) -> OpenMap:
        """A model of a map, read anew where its files are others than before.

        number: which of its models. Raises ArgumentError where there is none, CovisError where
        pycolmap is missing.
        """
        folders = models(source.uri)
        if not 0 <= number < len(folders):
            raise ArgumentError(f"{source.uri} has no model yet: {_remake(source.uri)}")
        stamps = [os.stat(path) for path in _files(folders[number])]
        key = (source.id, number, *((each.st_mtime_ns, each.st_size) for each in stamps))
        with self._lock:
            if key not in self._open:
                while len(self._open) >= OPEN:
                    self._open.popitem(last=False)
                self._open[key] = OpenMap(source, folders[number], self._sources)
            self._open.move_to_end(key)
            return self._open[key]


def models(folder: str) -> list[Path]:
    """The folders of a map's models, the one with the most photos first."""
    from covis.sfm.mapper import model_folders

    path = Path(folder)
    found = [each for each in model_folders(path / "sparse") if _files(each)]
    return found or [each for each in (path / "sparse", path) if _files(each)]


def _files(model: Path) -> list[Path]:
    names = ("images", "points3D", "cameras", "frames", "rigs")
    paths = [model / f"{name}.{kind}" for name in names for kind in ("bin", "txt")]
    return [path for path in paths if path.is_file()]


def _remake(folder: str) -> str:
    from covis.sfm.map import Settings

    settings = Settings.find(Path(folder))
    photos = settings.photos if settings else "PHOTOS"
    return f"run covis map {photos} -o {folder} again."


@dataclass(frozen=True, eq=False)
class Scene:
    """The frame of a scene.

    axes: (3, 3), rows: right, up and towards who looks, in the map's. middle: (3,), radius: in the
    map's units.
    """

    axes: Matrix
    middle: Matrix
    radius: float

    @classmethod
    def around(cls, rotations: Matrix, centres: Matrix, points: Matrix) -> Scene:
        """Of cameras with (N, 3, 3) rotations and (N, 3) centres, and of (M, 3) points."""
        from covis.draw.map import view_axes

        axes = np.diag([1.0, -1.0, -1.0]) @ view_axes(rotations, 0.0)
        low, high = (centres @ axes.T).min(axis=0), (centres @ axes.T).max(axis=0)
        if len(points):
            near, far = np.percentile(points @ axes.T, (5, 95), axis=0)
            low, high = np.minimum(low, near), np.maximum(high, far)
        radius = max(float(np.linalg.norm(high - low)) / 2, 1e-9)
        return cls(axes, axes.T @ ((low + high) / 2), radius)

    def place(self, points: Matrix) -> Matrix:
        """(N, 3) of the map -> (N, 3) of the scene."""
        placed: Matrix = (points - self.middle) @ self.axes.T / self.radius
        return placed

    def camera(self, pose: Pose, camera: CalibratedCamera, exif: int) -> dict[str, Any]:
        """Where a camera stands, and what is from there to the corners of its picture at a distance
        of one, the upright picture's top left one first and clockwise. exif: see
        `map_from_upright`."""
        from covis.draw.canvas import WIDEST
        from covis.sfm.photo_cameras import map_from_upright

        turned = map_from_upright(exif)
        width, height = turned.inverse.of_size((camera.width, camera.height))
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
        pixels = turned.of_points(corners, (width, height))
        sides = (pixels - np.array([camera.width, camera.height]) / 2) / camera.focal
        sides = np.clip(sides, -WIDEST, WIDEST)
        rays = np.column_stack([sides, np.ones(4)]) @ pose.rotation @ self.axes.T
        return {
            "eye": rounded(self.place(pose.position[None])[0]),
            "corners": rounded(rays.ravel()),
        }


def rounded(values: Any) -> list[float]:
    """As JSON takes them."""
    found: list[float] = np.round(np.asarray(values, np.float64), 5).tolist()
    return found


class OpenMap:
    """One model of a map.

    folder: MODEL, as it was given. settings: None of a model that covis did not make.
    images: the photos with a pose, by COLMAP's id, in the order of their names.
    """

    def __init__(self, source: Source, model: Path, sources: Sources) -> None:
        from covis.sfm.map import Settings, read_model

        self.folder = Path(source.uri)
        self.settings = Settings.find(self.folder)
        self.reconstruction = read_model(model)
        self._sources = sources
        self._turns = threading.Lock()
        placed = [image for image in self.reconstruction.images.values() if image.has_pose]
        if not placed:
            raise ArgumentError(f"{model}: no photo has a place in this model.")
        placed.sort(key=lambda image: str(image.name))
        self.images: dict[int, pycolmap.Image] = {image.image_id: image for image in placed}

    def picture(self, name: str, size: tuple[int, int] | None = None) -> Picture | None:
        """A photo, where it lies in what covis web was given; else None.

        size: of its camera. A model that covis did not make does not say where its photos lie:
        a file of that name in a folder that was given, with as many pixels, is taken for one.
        """
        from covis.images.exif import read_photo_info

        if self.settings is not None:
            with suppress(ImageError):
                path = os.path.join(self.settings.photos, name)
                return self._sources.allowed(os.path.normpath(path))
            return None
        for source in self._sources.all:
            with suppress(ImageError):
                found = self._sources.allowed(os.path.normpath(os.path.join(source.uri, name)))
                if size in (None, read_photo_info(found.path, None).size):
                    return found
        return None

    def picture_of(self, number: int) -> Picture | None:
        """That of a photo by its id."""
        image = self.images[number]
        return self.picture(str(image.name), (int(image.camera.width), int(image.camera.height)))

    @cached_property
    def photos(self) -> Any:
        """The store of all photos, `covis.sfm.map.Photos`; None where there is none to read."""
        from covis.search import Index
        from covis.sfm.map import Photos

        if self.settings is None:
            return None
        with suppress(CovisError):
            return Photos(Index(self.folder / "features.covis"), self.settings.photos)
        return None

    @cached_property
    def summary(self) -> MapSummary | None:
        """What the last run said of the photos."""
        from covis.sfm.options import MapSummary

        return MapSummary.find(self.folder)

    @cached_property
    def locator(self) -> Locator:
        """Places photos in it. Raises ArgumentError where covis did not make the map."""
        from covis.search import Index
        from covis.sfm.localise import Locator
        from covis.sfm.map import Map

        device = self._sources.device
        if self.settings is None:
            return Locator(Map.open(self.folder), device=device)  # Which says what to do.
        index = Index(self.folder / "features.covis")
        opened = Map(self.folder, self.settings, index, self.reconstruction)
        return Locator(opened, device=device)

    def exif(self, name: str) -> int:
        """How a photo's file is turned."""
        from covis.images.exif import read_photo_info

        if self.photos is not None:
            return int(self.photos.orientations.get(name, 1))
        picture = self.picture(name)
        with suppress(ImageError):
            if picture is not None:
                return read_photo_info(picture.path, None).orientation.exif
        return 1

    def pose(self, number: int) -> Pose:
        """Of a photo by its id."""
        from covis.geometry.pose import Pose

        rigid = self.images[number].cam_from_world()
        return Pose(rigid.rotation.matrix(), np.array(rigid.translation))

    def camera(self, number: int) -> CalibratedCamera:
        """Of a photo by its id."""
        from covis.sfm.map import calibrated

        return calibrated(self.images[number].camera)

    @cached_property
    def points(self) -> tuple[Matrix, NDArray[np.uint8]]:
        """(N, 3) and RGB (N, 3) of `POINTS` points at most, in the map's frame."""
        ids = np.sort(np.fromiter(self.reconstruction.points3D.keys(), np.int64))
        if len(ids) > POINTS:
            ids = ids[np.linspace(0, len(ids) - 1, POINTS).astype(np.int64)]
        places = np.empty((len(ids), 3), np.float64)
        colours = np.empty((len(ids), 3), np.uint8)
        # One at a time: held together they would take ten times the memory.
        for row, number in enumerate(ids.tolist()):
            point = self.reconstruction.point3D(number)
            places[row], colours[row] = point.xyz, point.color
        return places, colours

    @cached_property
    def scene(self) -> Scene:
        """Around what there is."""
        poses = [self.pose(number) for number in self.images]
        rotations = np.array([pose.rotation for pose in poses])
        return Scene.around(rotations, np.array([p.position for p in poses]), self.points[0])

    def binary(self) -> bytes:
        """The points in the scene's frame: float32 x, y, z of each, then uint8 red, green, blue."""
        with self._turns:
            places, colours = self.points
            return self.scene.place(places).astype("<f4").tobytes() + colours.tobytes()

    def cameras(self) -> list[dict[str, Any]]:
        """All photos with a pose: for the page."""
        with self._turns:
            return [self._camera(number, image) for number, image in self.images.items()]

    def _camera(self, number: int, image: pycolmap.Image) -> dict[str, Any]:
        name = str(image.name)
        picture = self.picture_of(number)
        return {
            "photo": number,
            "name": name,
            "image": None if picture is None else picture.id,
            **self.scene.camera(self.pose(number), self.camera(number), self.exif(name)),
        }

    def partners(self, number: int) -> list[tuple[int, int]]:
        """Ids of the photos that see points of a photo, and how many; those with most first."""
        counts: Counter[int] = Counter()
        for point in {p.point3D_id for p in self.images[number].get_observation_points2D()}:
            track = self.reconstruction.point3D(point).track
            counts.update({element.image_id for element in track.elements})
        counts.pop(number, None)
        known = [(other, count) for other, count in counts.items() if other in self.images]
        return sorted(known, key=lambda each: (-each[1], each[0]))

    def shared(self, number0: int, number1: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The points that two photos see: (N, 2) upright pixels of each and (N,) mean reprojection
        errors in pixels, the least first."""
        seen = [self._seen(number) for number in (number0, number1)]
        both = sorted(seen[0].keys() & seen[1].keys())
        errors = np.array([self.reconstruction.point3D(each).error for each in both], np.float64)
        order = np.argsort(errors, kind="stable")
        ends = [
            self._upright(number, np.array([of[each] for each in both]).reshape(-1, 2)[order])
            for number, of in zip((number0, number1), seen, strict=True)
        ]
        return ends[0], ends[1], errors[order].astype(np.float32)

    def _seen(self, number: int) -> dict[int, Any]:
        points = self.images[number].get_observation_points2D()
        return {int(point.point3D_id): point.xy for point in reversed(points)}

    def _upright(self, number: int, points: Matrix) -> FloatArray:
        from covis.sfm.photo_cameras import map_from_upright

        camera = self.images[number].camera
        turned = map_from_upright(self.exif(str(self.images[number].name))).inverse
        return turned.of_points(points, (camera.width, camera.height)).astype(np.float32)

    def size(self, number: int) -> tuple[int, int]:
        """(width, height) of a photo's upright picture in pixels."""
        from covis.sfm.photo_cameras import map_from_upright

        camera = self.images[number].camera
        turned = map_from_upright(self.exif(str(self.images[number].name))).inverse
        return turned.of_size((int(camera.width), int(camera.height)))
