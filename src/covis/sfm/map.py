"""A map's folder: photos' features in a store, a COLMAP database and COLMAP models.

MODEL/
    covis.json        what the map was made with: `Settings`
    features.covis    the store of all photos, see `covis.Index`
    photos.json       the contents of the photos when they were last looked at
    summary.json      what became of the photos in the last run: `covis.sfm.MapSummary`
    unmapped          there while matches wait to be mapped
    semi_dense/       semi-dense features, where the matcher needs them
    database.db       COLMAP's database: cameras, keypoints, matches, two-view geometries
    sparse/0/ ...     COLMAP's models, binary, the one with the most photos first

A photo's name is its path from the folder `Settings.photos`, with slashes, as COLMAP has it.
COLMAP sees a photo's pixels as the file has them, before EXIF's orientation; keypoints in the
database and in the models are in that frame (but upright where the file is mirrored, see
`photo_cameras.map_from_upright`), those in the store upright.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, CovisError
from covis.files.atomic import replacing
from covis.geometry.camera import CalibratedCamera
from covis.messages import extra
from covis.search.index import Index
from covis.search.store import fixed, reported
from covis.sfm.model_files import check_binary_model
from covis.types import Features, FloatArray

if TYPE_CHECKING:
    import pycolmap

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What a map's features and matches depend on.

    photos: the folder that names are relative to, absolute. features: the model's name.
    max_keypoints, max_size: see `Extractor`. matcher: see `Matcher`; with "semi-dense" the
    keypoints of the database are not those of the store, else they are, in the same order.
    masks: the folder of masks, absolute; empty for none.
    """

    photos: str
    features: str
    max_keypoints: int
    max_size: int | None
    matcher: str
    masks: str = ""

    @property
    def semi_dense(self) -> bool:
        """Whether the database's keypoints come from semi-dense matches."""
        return self.matcher == "semi-dense"

    def coarseness(self, size: tuple[int, int]) -> float:
        """How many pixels of a photo one covers of the picture that features were found in.

        size: the photo's sides in pixels.
        """
        return 1.0 if self.max_size is None else max(1.0, max(size) / self.max_size)

    def save(self, folder: Path) -> None:
        """Write them to covis.json. Raises CovisError when that cannot be."""
        with replacing(folder / "covis.json") as file:
            file.write((json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode())

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """What `save` wrote, None where nothing is. Raises CovisError for anything else."""
        path = folder / "covis.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values.pop("format")
            if version == FORMAT:
                return cls(**values)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (
            OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            raise CovisError(f"{path} is damaged, or not covis' ({error}).") from None
        raise CovisError(f"{path} has format {version}, this covis reads {FORMAT}: update it.")


class Photos:
    """The photos of a map as the store has them, by name.

    names: sorted.
    """

    def __init__(self, index: Index, root: str) -> None:
        """index: a store that is there. root: the folder that names are relative to."""
        self.index, self._store = index, index.store
        store = index.store
        with reported(store.uri):
            store.refresh()
            columns = ["content", "orientation", "focal_length", "vector"]
            pictures = store.images.to_table(columns=columns, with_row_id=True)
            files = store.files.to_table(filter="content IS NOT NULL", columns=["path", "content"])
        places = {content: at for at, content in enumerate(pictures["content"].to_pylist())}
        named = {
            os.path.relpath(row["path"], root).replace(os.sep, "/"): places[row["content"]]
            for row in files.to_pylist()
            if row["content"] in places
        }
        self.names = sorted(named)
        self._row = {name: pictures["_rowid"][at].as_py() for name, at in named.items()}
        order = [named[name] for name in self.names]
        self.vectors: FloatArray = fixed(pictures["vector"], np.float32)[order]
        """(N, G), of unit length, in the order of `names`."""
        self.contents = dict(
            zip(self.names, pictures["content"].take(order).to_pylist(), strict=True)
        )
        self.orientations = dict(
            zip(self.names, pictures["orientation"].take(order).to_pylist(), strict=True)
        )
        """EXIF's, 1 where the file's pixels are upright."""
        self.focal_lengths = dict(
            zip(self.names, pictures["focal_length"].take(order).to_pylist(), strict=True)
        )
        """In pixels, from EXIF; None where it does not tell."""

    def __len__(self) -> int:
        return len(self.names)

    def features(self, names: Sequence[str]) -> list[Features]:
        """Those of several photos, in their order, upright. Raises ArgumentError for no photo."""
        missing = next((name for name in names if name not in self._row), None)
        if missing is not None:
            raise ArgumentError(f"{self._store.uri} has no photo '{missing}'.")
        return [found for _, found in self._store.features([self._row[name] for name in names])]


class Map:
    """A map that `covis map` made.

    >>> model = Map.open("MODEL")  # doctest: +SKIP
    >>> model.reconstruction.num_points3D()  # doctest: +SKIP

    folder: where it lies. settings: what it was made with. index: the store of all photos.
    reconstruction: the largest model, `pycolmap.Reconstruction`.
    names: the photos that have a pose in it, and their COLMAP ids.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        index: Index,
        reconstruction: pycolmap.Reconstruction,
    ) -> None:
        self.folder, self.settings, self.index = folder, settings, index
        self.reconstruction = reconstruction
        self.names: dict[str, int] = {
            image.name: image_id
            for image_id, image in reconstruction.images.items()
            if image.has_pose
        }

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a map's folder.

        Raises ArgumentError where there is none, or no model in it yet, CovisError where it
        cannot be read or pycolmap is missing.
        """
        folder = Path(folder)
        settings = Settings.find(folder)
        if settings is None:
            raise ArgumentError(_no_map(folder))
        need_pycolmap()
        model = folder / "sparse" / "0"
        if not model.is_dir():
            raise ArgumentError(
                f"{folder} has no model yet: run covis map {settings.photos} -o {folder} again."
            )
        reconstruction = read_model(model)
        return cls(folder, settings, Index(folder / "features.covis"), reconstruction)

    def camera(self, number: int) -> CalibratedCamera:
        """A camera of the model, by its id."""
        return calibrated(self.reconstruction.camera(number))

    @cached_property
    def photos(self) -> Photos:
        """All photos of the store, those without a pose as well."""
        return Photos(self.index, self.settings.photos)

    def features(self, name: str) -> Features:
        """A photo's features in the store, upright. Raises ArgumentError where it has none."""
        return self.photos.features([name])[0]

    def points(self, name: str) -> NDArray[np.int64]:
        """(N,) int64: the id of the 3D point that each of `features(name)` shows, -1 for none.

        In a semi-dense map, that of the nearest point of the model within NEAR pixels.

        Raises ArgumentError for a photo without a pose, CovisError where model and store do not
        belong together.
        """
        if name not in self.names:
            raise ArgumentError(f"{self.folder}: the photo '{name}' has no pose in the model.")
        seen = self.reconstruction.image(self.names[name]).points2D
        ids = np.array([p.point3D_id if p.has_point3D() else -1 for p in seen], np.int64)
        features = self.features(name)
        if self.settings.semi_dense:
            return self._nearest(name, features, ids)
        if len(ids) != len(features):
            raise CovisError(
                f"{self.folder}: the model has {len(ids)} keypoints in '{name}', the store "
                f"{len(features)}; run covis map into a new folder."
            )
        return ids

    def neighbours(self, vector: FloatArray, count: int) -> list[str]:
        """The photos with a pose most similar to a global vector, best first.

        vector: (G,) as `covis.search.pooling.global_vector` makes it.
        """
        return [name for name, _ in self.most_alike(vector, count)]

    def most_alike(self, vector: FloatArray, count: int) -> list[tuple[str, float]]:
        """`neighbours`, each with its cosine."""
        names, vectors = self._posed
        alike = vectors @ vector
        order = np.argsort(-alike, kind="stable")
        return [(names[at], float(alike[at])) for at in order[:count]]

    @cached_property
    def _posed(self) -> tuple[list[str], FloatArray]:
        kept = [at for at, name in enumerate(self.photos.names) if name in self.names]
        return [self.photos.names[at] for at in kept], self.photos.vectors[kept]

    def _nearest(self, name: str, features: Features, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        from covis.sfm.matching import map_keypoints

        found = np.full(len(features), -1, np.int64)
        shown = np.flatnonzero(ids >= 0)
        if not len(shown) or not len(features):
            return found
        seen = self.reconstruction.image(self.names[name]).points2D
        theirs = np.array([seen[int(at)].xy for at in shown])
        ours = map_keypoints(self.photos, name, features)
        for begin in range(0, len(ours), 256):
            block = ours[begin : begin + 256]
            distances = np.linalg.norm(block[:, None] - theirs[None], axis=2)
            nearest = distances.argmin(axis=1)
            near = distances[np.arange(len(block)), nearest] <= NEAR
            found[begin : begin + 256][near] = ids[shown[nearest[near]]]
        return found


NEAR = 2.0
"""Pixels between a keypoint and the point of a semi-dense map that it is taken for."""


COLMAP_ERRORS = (RuntimeError, ValueError, OSError, LookupError, MemoryError)
"""What pycolmap raises for files that are damaged or not its own."""


def _no_map(folder: Path) -> str:
    """What is said of a folder without a map, such as a model of COLMAP's or hloc's."""
    for model in (folder, folder / "sparse" / "0", folder / "sparse"):
        if any((model / f"images.{kind}").is_file() for kind in ("bin", "txt")):
            return (
                f"{folder} has a COLMAP model, but no features of covis to find places by; make "
                f"them, keeping its poses: covis map PHOTOS -o NEW --model {model}."
            )
    return f"{folder}: no map there; make one: covis map PHOTOS -o {folder}."


def calibrated(camera: pycolmap.Camera) -> CalibratedCamera:
    """A camera of a `pycolmap.Reconstruction` as covis has it."""
    params = tuple(map(float, camera.params))
    return CalibratedCamera(camera.model_name, camera.width, camera.height, params)


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """COLMAP's model in a folder, binary or text. Raises ArgumentError where there is none, or a
    damaged one."""
    colmap = need_pycolmap()
    try:
        check_binary_model(folder)
        model = colmap.Reconstruction(str(folder))
    except COLMAP_ERRORS as error:
        raise ArgumentError(
            f"{folder}: no COLMAP model, or a damaged one ({first_line(error)}); take it from a "
            "copy, or write it again."
        ) from None
    if not (folder / "images.bin").exists():
        for number, name in _names_in_text(folder / "images.txt"):
            if number in model.images:
                model.image(number).name = name
    return model


def _names_in_text(path: Path) -> Iterator[tuple[int, str]]:
    """Ids and names of the images in a text model: pycolmap 4 cuts names at the first space."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        lines = (line for line in file if not line.startswith("#"))
        for line in islice(lines, 0, None, 2):  # Every other line has an image's points.
            number, *_, name = line.rstrip("\n").split(" ", 9)
            yield int(number), name


def need_pycolmap() -> ModuleType:
    """The module. Raises CovisError where it is not installed."""
    try:
        import pycolmap
    except ModuleNotFoundError:
        raise CovisError(f"maps need pycolmap: {extra('map')}") from None
    return pycolmap


def first_line(error: Exception) -> str:
    """Of what pycolmap says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
