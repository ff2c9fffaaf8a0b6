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


def load_photos(folder: Path, max_side: int = 640, min_side: int = 128) -> Iterator[NDArray[Any]]:
    """Decode the pictures under `folder` to BGR (H, W, 3), longest side at most `max_side`.

    Pictures that do not decode, or with a side under `min_side`, are left out.

    Raises TrainingError when none is left.
    """
    found = 0
    for path in photo_paths(folder):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None:
            continue
        scale = max_side / max(photo.shape[:2])
        if scale < 1:
            photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if min(photo.shape[:2]) >= min_side:
            found += 1
            yield photo
    if not found:
        raise TrainingError(
            f"{folder}: no picture with sides of {min_side} pixels or more. "
            "Give a folder of photographs with --photos."
        )
