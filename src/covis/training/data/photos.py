"""Photographs held in memory, decoded once, for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from covis.errors import TrainingError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def photo_paths(folder: Path) -> list[Path]:
    """Every picture under `folder`, in a fixed order."""
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)


def read_photo(path: Path, max_side: int = 640, min_side: int = 128) -> NDArray[Any] | None:
    """Decode to BGR (H, W, 3), longest side at most `max_side`.

    None when it does not decode, or a side would be under `min_side`.
    """
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None:
        return None
    scale = max_side / max(photo.shape[:2])
    if scale < 1:
        if min(photo.shape[:2]) * scale < min_side - 1:
            return None
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return photo if min(photo.shape[:2]) >= min_side else None


def load_photos(folder: Path, max_side: int = 640, min_side: int = 128) -> Iterator[NDArray[Any]]:
    """The pictures under `folder` that `read_photo` takes, decoded.

    Raises TrainingError when there is none.
    """
    found = 0
    for path in photo_paths(folder):
        photo = read_photo(path, max_side, min_side)
        if photo is not None:
            found += 1
            yield photo
    if not found:
        raise TrainingError(
            f"{folder}: no picture with sides of {min_side} pixels or more. "
            "Give a folder of photographs with --photos."
        )
