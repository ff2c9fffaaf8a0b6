"""What may be true of the camera that took a query."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from covis.errors import ArgumentError, ImageError
from covis.geometry.absolute_pose import DISTORTION_DEVIATION, EXIF_DEVIATION
from covis.geometry.camera import BENDING, FOCAL_PER_SIDE, CalibratedCamera
from covis.geometry.pose_fit import CameraPrior
from covis.images.exif import PhotoInfo, plausible_focal, read_photo_info
from covis.sfm.map import Map
from covis.sfm.photo_cameras import as_in_map, map_from_upright
from covis.types import Image, Source

ALIKE_DEVIATION = 0.01
"""How far off the map's camera may be for a query of its size of which EXIF tells no body or focal
length: its focal length as a share, and its distortion; a tenth of it for the principal point."""
CROPPED_DEVIATION = 0.25
"""Of a cropped photo, how far the principal point may be from the middle, in longer sides."""


class Guess(NamedTuple):
    """source: where it came from, see `Localisation.focal_source`."""

    source: str
    prior: CameraPrior


def given_or_guessed(
    image: Image, camera: CalibratedCamera | None, focal: float | None
) -> list[Guess]:
    """What is given of a query's camera, or else what EXIF and the size say, the likeliest first.

    Raises ArgumentError for a camera of another size, both of them, or no focal length.
    """
    size = size_in_map(image)
    if camera is not None and focal is not None:
        raise ArgumentError("give a query's whole camera or its focal length, not both.")
    if camera is not None:
        if (camera.width, camera.height) != size:
            raise ArgumentError(
                f"{image.name} is {size[0]}x{size[1]}, but the camera given for it takes "
                f"{camera.width}x{camera.height}."
            )
        return [Guess("given", CameraPrior(camera))]
    if focal is not None:
        if not plausible_focal(focal, size):
            raise ArgumentError(
                f"a focal length must be a positive number of pixels, 0.1 to 10 times the longer "
                f"side ({max(size)}), not {focal:g}."
            )
        return [Guess("given", _lens(size, focal, 0.0))]
    guesses = []
    if image.focal_length is not None:
        guesses.append(Guess("EXIF", _lens(size, image.focal_length, EXIF_DEVIATION)))
    if size[0] == 2 * size[1]:
        params = tuple(map(float, size))
        panorama = CalibratedCamera("EQUIRECTANGULAR", *size, params)
        guesses.append(Guess("panorama", CameraPrior(panorama)))
    unknown = _lens(size, FOCAL_PER_SIDE * max(size), math.inf)
    side = max(size) / 2
    fisheye = CalibratedCamera(
        "OPENCV_FISHEYE", *size, (side, side, size[0] / 2, size[1] / 2, 0, 0, 0, 0)
    )
    return [
        *guesses,
        Guess("estimated", unknown),
        Guess("fisheye", CameraPrior(fisheye, math.inf, DISTORTION_DEVIATION)),
        Guess("cropped", replace(unknown, centre_deviation=CROPPED_DEVIATION)),
    ]


def camera_in_map(query: Source, image: Image, model: Map, names: Sequence[str]) -> list[Guess]:
    """The camera of photos of the map that the query seems to be taken with, if there is one.

    Body, size and focal length must be those of the query; where EXIF tells of no body, all of the
    photos that it is silent of, and are of that size, must have the same camera.

    names: the photos of the map to look at, the likeliest first.
    """
    mine = _info(query, image)
    alike: dict[int, None] = {}
    for name in names:
        number = model.reconstruction.image(model.names[name]).camera_id
        camera = model.reconstruction.camera(number)
        if number in alike or (camera.width, camera.height) != mine.size:
            continue
        try:
            path = os.path.join(model.settings.photos, name)
            theirs = as_in_map(read_photo_info(path, model.photos.focal_lengths[name]))
        except ImageError:
            continue
        if _of_one_camera(mine, theirs):
            alike[number] = None
    if not alike or (not mine.body and len(alike) > 1):
        return []
    camera = model.camera(next(iter(alike)))
    if mine.body and mine.focal is not None:
        return [Guess("map", CameraPrior(camera))]
    bends = ALIKE_DEVIATION if camera.model in BENDING else 0.0
    focal = 0.0 if camera.model == "EQUIRECTANGULAR" else ALIKE_DEVIATION
    return [Guess("map", CameraPrior(camera, focal, bends, ALIKE_DEVIATION / 10))]


def size_in_map(image: Image) -> tuple[int, int]:
    """(width, height) of a query's pixels as COLMAP has them."""
    return map_from_upright(image.orientation).of_size((image.width, image.height))


def _of_one_camera(mine: PhotoInfo, theirs: PhotoInfo) -> bool:
    same_focal = mine.focal == theirs.focal or (
        mine.focal is not None
        and theirs.focal is not None
        and math.isclose(mine.focal, theirs.focal, rel_tol=1e-4)
    )
    return mine.body == theirs.body and mine.size == theirs.size and same_focal


def _info(query: Source, image: Image) -> PhotoInfo:
    """What is known of a query, with the size that a map has it in."""
    if isinstance(query, (str, os.PathLike)):
        return as_in_map(read_photo_info(query, image.focal_length))
    return PhotoInfo(size_in_map(image), focal=image.focal_length)


def _lens(size: tuple[int, int], focal: float, deviation: float) -> CameraPrior:
    camera = CalibratedCamera("SIMPLE_PINHOLE", *size, (focal, size[0] / 2, size[1] / 2))
    return CameraPrior(camera, deviation, DISTORTION_DEVIATION)
