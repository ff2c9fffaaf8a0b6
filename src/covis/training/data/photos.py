"""Photographs held in memory, decoded once, for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from covis.errors import ImageError, TrainingError
from covis.images.decode import load_image
from covis.images.picture_files import pictures_below


def read_photo(path: Path, max_side: int = 640, min_side: int = 128) -> NDArray[Any] | None:
    """Decode to BGR (H, W, 3), longest side at most `max_side`.

    None when it does not decode, or a side would be under `min_side`.
    """
    try:
        pixels = load_image(path, max_size=max_side).pixels
    except ImageError:
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if min(pixels.shape[:2]) >= min_side else None


def load_photos(folder: Path, max_side: int = 640, min_side: int = 128) -> Iterator[NDArray[Any]]:
    """The pictures under `folder` that `read_photo` takes, decoded.

    Raises TrainingError when there is none.
    """
    found = 0
    for path in pictures_below(folder):
        photo = read_photo(path, max_side, min_side)
        if photo is not None:
            found += 1
            yield photo
    if not found:
        raise TrainingError(
            f"{folder}: no picture with sides of {min_side} pixels or more. "
            "Give a folder of photographs with --photos."
        )
