"""Cameras as COLMAP has them, and points in the pixel frame that it sees.

COLMAP takes a photo's pixels as the file has them, covis turns them upright after EXIF; both put
the centre of the top-left pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
from numpy.typing import ArrayLike
from PIL.ExifTags import GPS, IFD, Base

from covis.errors import ArgumentError, ImageError
from covis.geometry.camera import FOCAL_PER_SIDE
from covis.types import BoolArray, Matrix

Sharing = Literal["auto", "shared", "per-image"]

# EXIF orientation: how the upright picture's pixel (x, y) lies in the file: t swaps x and y,
# then x and y mirror.
_TURNS = {2: "x", 3: "xy", 4: "y", 5: "t", 6: "ty", 7: "txy", 8: "tx"}


@dataclass(frozen=True)
class PhotoInfo:
    """What a photo's file says of how it was taken.

    size: (width, height) of the file's pixels. body: make, model and lens; empty where EXIF does
    not tell. focal: in pixels, None where it does not tell. place: latitude and longitude in
    degrees, altitude in metres.
    """

    size: tuple[int, int]
    body: str = ""
    focal: float | None = None
    place: tuple[float, float, float] | None = None


def read_photo_info(path: Path, focal: float | None) -> PhotoInfo:
    """Read a photo's header. focal: as `load_image` found it. Raises ImageError."""
    try:
        with PIL.Image.open(path) as picture:
            size, exif = picture.size, picture.getexif()
            tags, gps = exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read ({error}); was it moved?") from None
    named = (exif.get(Base.Make), exif.get(Base.Model), tags.get(Base.LensModel))
    body = " ".join(str(name).strip("\0 ") for name in named if name)
    return PhotoInfo(size, body, focal, _place(gps))


def share_cameras(shots: Sequence[PhotoInfo], sharing: Sharing) -> list[int]:
    """For each photo which camera took it, counted from 0 in the order they occur.

    "shared": one for each size. "per-image": one for each photo. "auto": one for each body, size
    and focal length; photos whose EXIF tells nothing share one if all of these are of one size,
    as those of a video are, and have one each if not.
    """
    silent = {shot.size for shot in shots if not shot.body}
    cameras: dict[Any, int] = {}

    def key(place: int, shot: PhotoInfo) -> Any:
        if sharing == "shared":
            return shot.size
        if sharing == "per-image" or (not shot.body and len(silent) > 1):
            return place
        return shot.body, shot.size, shot.focal and round(shot.focal, 3)

    return [cameras.setdefault(key(*each), len(cameras)) for each in enumerate(shots)]


def make_camera(colmap: Any, shot: PhotoInfo, model: str, params: Sequence[float] | None) -> Any:
    """A `pycolmap.Camera` for a photo.

    model: COLMAP's name. params: in COLMAP's order; None for EXIF's focal length or, without
    one, 1.2 longer sides, the principal point in the middle and no distortion.

    Raises ArgumentError for an unknown model, or params that it does not have.
    """
    width, height = shot.size
    if model not in colmap.CameraModelId.__members__ or model == "INVALID":
        known = ", ".join(name for name in colmap.CameraModelId.__members__ if name != "INVALID")
        raise ArgumentError(f"no camera model '{model}'; there are: {known}.")
    focal = shot.focal or FOCAL_PER_SIDE * max(width, height)
    camera = colmap.Camera.create_from_model_name(0, model, focal, width, height)
    camera.has_prior_focal_length = shot.focal is not None or params is not None
    if params is not None:
        if len(params) != len(camera.params) or not all(math.isfinite(value) for value in params):
            raise ArgumentError(
                f"the camera model {model} has {len(camera.params)} parameters "
                f"({camera.params_info}), not {len(params)}."
            )
        camera.params = list(params)
    return camera


def read_mask(path: Path, keypoints: Matrix, size: tuple[int, int]) -> BoolArray:
    """(N,) bool: which keypoints COLMAP's mask lets through: it is black where to ignore.

    keypoints: (N, 2), in the file's frame. size: (width, height) of the photo; the mask may have
    another, of the same aspect. Raises ImageError for a file that is no picture.
    """
    try:
        with PIL.Image.open(path) as picture:
            mask = np.asarray(picture.convert("L"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ImageError(f"{path} is no mask covis can read ({error}).") from None
    scale = np.array([mask.shape[1] / size[0], mask.shape[0] / size[1]])
    at = np.floor(keypoints * scale).astype(int)
    columns, rows = (np.clip(at[:, i], 0, mask.shape[1 - i] - 1) for i in (0, 1))
    return mask[rows, columns] > 0


def file_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of the file's pixels, from the upright picture's."""
    return size[::-1] if orientation >= 5 else size


def to_file(points: ArrayLike, size: tuple[int, int], orientation: int) -> Matrix:
    """Points of the upright picture in the pixels as the file has them, (N, 2) float64.

    size: (width, height) of the upright picture. orientation: EXIF's, 1 for nothing to do.
    """
    turned = np.array(points, np.float64).reshape(-1, 2)
    turns = _TURNS.get(orientation, "")
    if "t" in turns:
        turned = turned[:, ::-1].copy()
    for axis, letter in enumerate("xy"):
        if letter in turns:
            turned[:, axis] = file_size(size, orientation)[axis] - turned[:, axis]
    return turned


def _place(gps: Mapping[int, Any]) -> tuple[float, float, float] | None:
    try:
        angles = []
        for value, side, negative in (
            (GPS.GPSLatitude, GPS.GPSLatitudeRef, "S"),
            (GPS.GPSLongitude, GPS.GPSLongitudeRef, "W"),
        ):
            degrees, minutes, seconds = (float(part) for part in gps[value])
            angle = degrees + minutes / 60 + seconds / 3600
            angles.append(-angle if str(gps.get(side, "")).strip("\0 ") == negative else angle)
        below = gps.get(GPS.GPSAltitudeRef) in (1, b"\x01")
        altitude = float(gps.get(GPS.GPSAltitude, 0)) * (-1 if below else 1)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    found = angles[0], angles[1], altitude
    return found if all(math.isfinite(value) for value in found) else None
