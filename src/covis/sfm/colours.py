"""Colours of a model's points, from the photos as covis reads them.

COLMAP's own reader knows fewer formats than covis and takes the pixels of mirrored files as they
are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ImageError
from covis.images.decode import load_image
from covis.options import thread_count
from covis.sfm.photo_cameras import map_from_upright
from covis.types import FloatArray


def colour_points(
    model: Any, photos: Path, max_size: int | None = None, threads: int | None = None
) -> None:
    """Give each point of a `pycolmap.Reconstruction` the mean colour of where photos show it.

    photos: the folder that the photos' names are relative to; those that cannot be read have no
    say, and points that only they show stay as they are. max_size: see `load_image`.
    """
    numbers = np.array(sorted(model.points3D), np.int64)
    sums, counts = np.zeros((len(numbers), 3)), np.zeros(len(numbers))
    images = [model.image(i) for i in sorted(model.images) if model.image(i).has_pose]

    def seen(image: Any) -> tuple[NDArray[np.int64], FloatArray] | None:
        try:
            return _seen(image, photos / image.name, max_size)
        except ImageError:
            return None

    with ThreadPoolExecutor(thread_count(threads)) as pool:
        for found in pool.map(seen, images):
            if found is not None:
                at = np.searchsorted(numbers, found[0])
                np.add.at(sums, at, found[1])
                np.add.at(counts, at, 1)
    for place in np.flatnonzero(counts):
        colour = np.rint(sums[place] / counts[place]).astype(np.uint8)
        model.point3D(int(numbers[place])).color = colour


def _seen(image: Any, path: Path, max_size: int | None) -> tuple[NDArray[np.int64], FloatArray]:
    """The numbers of the points that a photo shows (N,), and their colours there (N, 3)."""
    points = [point for point in image.points2D if point.has_point3D()]
    numbers = np.array([point.point3D_id for point in points], np.int64)
    at = np.array([point.xy for point in points], np.float64).reshape(-1, 2)
    loaded = load_image(path, max_size=max_size)
    pixels = map_from_upright(loaded.orientation).of_image(loaded.pixels)
    scale = np.array(pixels.shape[1::-1]) / (image.camera.width, image.camera.height)
    columns, rows = (at * scale - 0.5).astype(np.float32).T
    colours = np.empty((len(at), 3), np.float32)
    for begin in range(0, len(at), _ROWS):
        part = slice(begin, begin + _ROWS)
        colours[part] = cv2.remap(
            pixels,
            columns[part, None],
            rows[part, None],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[:, 0]
    return numbers, colours


_ROWS = 30_000
"""OpenCV's remap takes pictures of less than 32768 rows."""
