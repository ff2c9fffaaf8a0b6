"""Sets of image pairs with known geometry, read from a folder with a `pairs.json`.

`pairs.json` is a list of {"image0", "image1", "kind"} with "H_1from0" (3 x 3) for the kind
"homography" or "K0", "K1" (3 x 3) and "T_1from0" (4 x 4, camera 1 from camera 0) for "pose".
Its pixel coordinates put the centre of the top-left pixel at (0, 0); what is read here puts it
at (0.5, 0.5), as everywhere in covis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image

from covis.errors import ArgumentError
from covis.geometry import Camera
from covis.types import Matrix

HALF_PIXEL = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], np.float64)
"""From pixels with the top-left one's centre at (0, 0) to covis' at (0.5, 0.5)."""


@dataclass(frozen=True, eq=False)
class HomographyPair:
    """Two images of a plane, or from one place. homography_1from0: (3, 3), in covis' pixels.

    size0, size1: (width, height) in pixels.
    """

    path0: Path
    path1: Path
    size0: tuple[int, int]
    size1: tuple[int, int]
    homography_1from0: Matrix


@dataclass(frozen=True, eq=False)
class PosePair:
    """Two images by known cameras.

    rotation_1from0: (3, 3). translation_1from0: (3,), in the data set's unit, not normalised.
    size0, size1: (width, height) in pixels.
    """

    path0: Path
    path1: Path
    size0: tuple[int, int]
    size1: tuple[int, int]
    camera0: Camera
    camera1: Camera
    rotation_1from0: Matrix
    translation_1from0: Matrix


Pair = HomographyPair | PosePair


@dataclass(frozen=True, eq=False)
class PairSet:
    """The pairs of one folder, all of one kind. name: the folder's."""

    name: str
    kind: Literal["homography", "pose"]
    pairs: tuple[Pair, ...]


def read_pairs(folder: str | Path) -> PairSet:
    """The pairs of a folder with a `pairs.json`.

    Raises ArgumentError that names the file, and the pair in it, when the folder, the list or an
    image is missing, a field is missing or malformed, or the kinds are mixed.
    """
    folder = Path(folder)
    path = folder / "pairs.json"
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ArgumentError(f"{path}: no list of pairs to read ({error.strerror}).") from error
    except ValueError as error:
        raise ArgumentError(f"{path}: not JSON ({error}).") from error
    if not isinstance(entries, list) or not entries:
        raise ArgumentError(f"{path}: holds no list of pairs.")
    pairs = tuple(_read_pair(entry, folder, f"{path}, pair {i}") for i, entry in enumerate(entries))
    if len({type(pair) for pair in pairs}) > 1:
        raise ArgumentError(f"{path}: mixes homographies and poses; a set is of one kind.")
    kind: Literal["homography", "pose"] = "pose" if isinstance(pairs[0], PosePair) else "homography"
    return PairSet(folder.name, kind, pairs)


def scaled(pair: Pair, side0: int, side1: int) -> Pair:
    """The pair with its pictures shrunk to longer sides of so many pixels; they never grow."""
    scale0 = min(1, side0 / max(pair.size0))
    scale1 = min(1, side1 / max(pair.size1))
    size0, size1 = _times(pair.size0, scale0), _times(pair.size1, scale1)
    if isinstance(pair, PosePair):
        return replace(
            pair,
            size0=size0,
            size1=size1,
            camera0=pair.camera0.scaled(scale0),
            camera1=pair.camera1.scaled(scale1),
        )
    shrink0, shrink1 = np.diag([scale0, scale0, 1]), np.diag([scale1, scale1, 1])
    matrix = shrink1 @ pair.homography_1from0 @ np.linalg.inv(shrink0)
    return replace(pair, size0=size0, size1=size1, homography_1from0=matrix)


def _times(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return round(size[0] * scale), round(size[1] * scale)


def _read_pair(entry: Any, folder: Path, where: str) -> Pair:
    if not isinstance(entry, dict):
        raise ArgumentError(f"{where}: not an object with fields.")
    path0, path1 = (folder / _text(entry, field, where) for field in ("image0", "image1"))
    size0, size1 = (image_size(path, where) for path in (path0, path1))
    kind = _text(entry, "kind", where)
    if kind == "homography":
        truth = _matrix(entry, "H_1from0", 3, where)
        shifted = HALF_PIXEL @ truth @ np.linalg.inv(HALF_PIXEL)
        return HomographyPair(path0, path1, size0, size1, shifted)
    if kind == "pose":
        try:
            camera0, camera1 = (
                Camera.from_matrix(HALF_PIXEL @ _matrix(entry, field, 3, where))
                for field in ("K0", "K1")
            )
        except ArgumentError as error:
            raise ArgumentError(f"{where}: {error}") from error
        pose = _matrix(entry, "T_1from0", 4, where)
        return PosePair(path0, path1, size0, size1, camera0, camera1, pose[:3, :3], pose[:3, 3])
    raise ArgumentError(f'{where}: kind is {kind!r}, not "homography" or "pose".')


def _field(entry: dict[str, Any], field: str, where: str) -> Any:
    if field not in entry:
        raise ArgumentError(f"{where}: the field {field!r} is missing.")
    return entry[field]


def _text(entry: dict[str, Any], field: str, where: str) -> str:
    value = _field(entry, field, where)
    if not isinstance(value, str):
        raise ArgumentError(f"{where}: the field {field!r} must be text, not {value!r}.")
    return value


def _matrix(entry: dict[str, Any], field: str, side: int, where: str) -> Matrix:
    value = _field(entry, field, where)
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (side, side) or not np.isfinite(matrix).all():
        raise ArgumentError(
            f"{where}: the field {field!r} must be a {side} x {side} matrix of finite numbers."
        )
    return matrix


def image_size(path: Path, where: str) -> tuple[int, int]:
    """(width, height). Raises ArgumentError, which begins with `where`, when it cannot be read."""
    try:
        with PIL.Image.open(path) as image:
            return image.size
    except OSError as error:
        raise ArgumentError(f"{where}: the image {path} cannot be read ({error}).") from error
