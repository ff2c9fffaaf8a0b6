"""Photographs held in memory, decoded once, for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from covis.errors import ImageError
from covis.images.decode import load_image
from covis.images.opened import opened
from covis.images.picture_files import pictures_below
from covis.training.data.held_out import LEAST, check_enough
from covis.training.reporting import Report, paced


def photos_below(folder: Path, min_side: int = 128) -> list[Path]:
    """The pictures under `folder`, once it is sure that there are some to train with.

    Looks only at what files say of themselves, and only until there are enough. Raises
    TrainingError when too few have sides of `min_side` pixels or more.
    """
    paths = pictures_below(folder)
    enough = 0
    for path in paths:
        enough += _large_enough(path, min_side)
        if enough == LEAST:
            return paths
    check_enough(enough, folder=folder, what=f"with sides of {min_side} pixels or more")
    return paths


def _large_enough(path: Path, min_side: int) -> bool:
    try:
        with opened(path) as (_, picture):
            return min(picture.size) >= min_side
    except ImageError:
        return False


def read_photo(path: Path, max_side: int = 640, min_side: int = 128) -> NDArray[Any] | None:
    """Decode to BGR (H, W, 3), longest side at most `max_side`.

    None when it does not decode, or a side would be under `min_side`.
    """
    try:
        pixels = load_image(path, max_size=max_side).pixels
    except ImageError:
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if min(pixels.shape[:2]) >= min_side else None


def next_photo(
    paths: Sequence[Path], index: int, max_side: int, min_side: int
) -> NDArray[Any] | None:
    """The picture at `index`, or the next one after it that `read_photo` takes; None where it takes
    none."""
    for place in range(index, index + len(paths)):
        photo = read_photo(paths[place % len(paths)], max_side, min_side)
        if photo is not None:
            return photo
    return None


def load_photos(
    paths: Sequence[Path], report: Report = str, max_side: int = 640, min_side: int = 128
) -> list[NDArray[Any]]:
    """Those of the pictures that `read_photo` takes, decoded. report: hears how far it is."""
    tell = paced(report)
    photos = []
    for done, path in enumerate(paths, 1):
        photo = read_photo(path, max_side, min_side)
        if photo is not None:
            photos.append(photo)
        tell(f"read {done} of {len(paths)} photos")
    return photos
