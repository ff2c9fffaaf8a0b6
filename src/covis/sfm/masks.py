"""A map's masks: black where a photo's keypoints do not count, as COLMAP has it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from covis.errors import ArgumentError, ImageError
from covis.images.decode import read_samples
from covis.images.exif import read_photo_info
from covis.images.picture_files import pictures_below
from covis.messages import counted, not_there
from covis.types import BoolArray, Matrix


def find_masks(folder: Path, photos: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The masks of photos by name, and the pictures in the folder that fit none.

    photos: files by name. The mask of a/b.jpg is a/b.jpg.png or, as COLMAP takes them, a/b.png;
    a/b.jpg is taken, too, and case does not matter.

    Raises ArgumentError where there is no such folder, no mask fits a photo, or one has another
    aspect than its photo's file, before EXIF turns it.
    """
    if not folder.is_dir():
        raise ArgumentError(not_there(folder, "folder of masks"))
    there = {path.relative_to(folder).as_posix(): path for path in pictures_below(folder)}
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in there:
        by_name[name.casefold()].append(name)
    stems = Counter(_stem(name) for name in photos)
    found, used = {}, set()
    for name in photos:
        wanted = [f"{name}.png", name]
        if stems[_stem(name)] == 1:
            wanted.insert(1, f"{_stem(name)}.png")
        fitting = [each for want in wanted for each in (want, *by_name[want.casefold()])]
        mask = next((each for each in fitting if each in there), None)
        if mask is not None:
            found[name] = there[mask]
            used.add(mask)
            _check_aspect(there[mask], photos[name])
    if not found:
        some_name = min(photos)
        raise ArgumentError(
            f"{folder}: none of its {counted(len(there), 'picture')} is the mask of a photo; that "
            f"of {some_name} would be {some_name}.png or {_stem(some_name)}.png."
        )
    return found, sorted(set(there) - used)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _check_aspect(mask: Path, photo: Path) -> None:
    try:
        width, height = read_photo_info(photo, None).size
    except ImageError:
        return  # Told of where the photo is read.
    columns, rows = read_photo_info(mask, None).size
    if abs(columns * height - rows * width) > (width + height) / 2:
        raise ArgumentError(
            f"{mask} is {columns}x{rows}, which does not fit {photo} of {width}x{height}; a mask "
            "must have the aspect of the photo's file, before EXIF turns it."
        )


def read_mask(path: Path, keypoints: Matrix, size: tuple[int, int]) -> BoolArray:
    """(N,) bool: which keypoints a mask lets through: it is black, or transparent, where to ignore.

    keypoints: (N, 2), in the file's frame. size: (width, height) of the photo; the mask may have
    another, of the same aspect. Raises ImageError for a file that is no picture.
    """
    try:
        samples = np.atleast_3d(read_samples(path))
    except ImageError as error:
        raise ImageError(f"{path} is no mask covis can read ({error})") from None
    mask: BoolArray = samples[:, :, :3].max(axis=2) > 0
    if samples.shape[2] == 4:
        opaque = samples[:, :, 3] > 0
        mask = mask & opaque if mask.any() else opaque
    scale = np.array([mask.shape[1] / size[0], mask.shape[0] / size[1]])
    at = np.floor(keypoints * scale).astype(int)
    columns, rows = (np.clip(at[:, i], 0, mask.shape[1 - i] - 1) for i in (0, 1))
    return mask[rows, columns]
