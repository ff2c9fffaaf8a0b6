"""Cameras as COLMAP has them, and points in the pixel frame that it sees.

COLMAP takes a photo's pixels as the file has them, covis turns them upright after EXIF; both put
the centre of the top-left pixel at (0.5, 0.5). Where EXIF says that the file is mirrored, no camera
sees its pixels as they are: a map has those photos upright.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from covis.errors import ArgumentError
from covis.geometry.camera import FOCAL_PER_SIDE
from covis.images.exif import PhotoInfo
from covis.images.orientation import UPRIGHT, Orientation
from covis.sfm.map import need_pycolmap

if TYPE_CHECKING:
    import pycolmap

Sharing = Literal["auto", "shared", "per-folder", "per-image"]


def map_from_upright(orientation: int) -> Orientation:
    """What a photo's upright pixels go through to be those of a map.

    orientation: EXIF's, of the photo's file.
    """
    upright_from_file = Orientation.from_exif(orientation)
    return UPRIGHT if upright_from_file.mirrored else upright_from_file.inverse


def as_in_map(shot: PhotoInfo) -> PhotoInfo:
    """What is known of a photo, with the size of its pixels in a map."""
    upright = shot.orientation.of_size(shot.size)
    return replace(shot, size=map_from_upright(shot.orientation.exif).of_size(upright))


def share_cameras(photos: Sequence[PhotoInfo], names: Sequence[str], sharing: Sharing) -> list[int]:
    """For each photo which camera took it, counted from 0 in the order they occur.

    names: of the photos, with slashes between folders.
    "shared": one for each size. "per-folder": one for each folder and size. "per-image": one for
    each photo. "auto": one for each body, size and focal length; photos whose EXIF names no body
    share one where folder, size and focal length are the same.
    """
    cameras: dict[Any, int] = {}

    def key(photo: PhotoInfo, name: str) -> Any:
        folder = name.rpartition("/")[0]
        if sharing == "shared":
            return photo.size
        if sharing == "per-folder":
            return folder, photo.size
        if sharing == "per-image":
            return name
        focal = photo.focal and round(photo.focal, 3)
        return photo.body, "" if photo.body else folder, photo.size, focal

    keys = [key(photo, name) for photo, name in zip(photos, names, strict=True)]
    return [cameras.setdefault(each, len(cameras)) for each in keys]


def make_camera(photo: PhotoInfo, model: str, params: Sequence[float] | None) -> pycolmap.Camera:
    """The camera of a photo.

    model: COLMAP's name. params: in COLMAP's order; None for EXIF's focal length or, without
    one, 1.2 longer sides, the principal point in the middle and no distortion.

    Raises ArgumentError as `check_camera` does.
    """
    check_camera(model, params)
    width, height = photo.size
    focal = photo.focal or FOCAL_PER_SIDE * max(width, height)
    camera = need_pycolmap().Camera.create_from_model_name(0, model, focal, width, height)
    camera.has_prior_focal_length = photo.focal is not None or params is not None
    if params is not None:
        camera.params = list(params)
    return camera


def check_camera(model: str, params: Sequence[float] | None) -> None:
    """Raise ArgumentError for an unknown model, or params (None for unknown) that it has not."""
    colmap = need_pycolmap()
    known = [name for name in colmap.CameraModelId.__members__ if name != "INVALID"]
    if model not in known:
        raise ArgumentError(f"no camera model '{model}'; there are: {', '.join(known)}.")
    camera = colmap.Camera.create_from_model_name(0, model, 1.0, 2, 2)
    if params is not None and (
        len(params) != len(camera.params) or not all(math.isfinite(value) for value in params)
    ):
        raise ArgumentError(
            f"the camera model {model} has {len(camera.params)} parameters "
            f"({camera.params_info}), not {len(params)}."
        )
