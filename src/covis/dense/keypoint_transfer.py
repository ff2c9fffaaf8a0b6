"""Which place of one image shows the same part as a place of another (LiFT, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.dense.features import DenseExtractor, DenseFeatures, distinct
from covis.errors import ArgumentError
from covis.images.decode import load_image, to_grey
from covis.options import AUTO_DENSE, DEFAULT_DEVICE, Device
from covis.types import FloatArray, Image, Source

CHUNK = 1 << 24
"""Similarities held at a time."""
PLACES = 24
"""Salient places of a picture, about."""
CORNER = 7
"""Pixels a salient place is wide, in a picture whose longest side is CORNERS_AT pixels."""
CORNERS_AT = 480
FAINTEST = 0.01
"""The faintest salient place, of the strongest."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """Places of image 0 and where they land in image 1: (N, 2) each, in full-size pixels of each,
    top-left pixel's centre (0.5, 0.5). cosines: (N,). model, licence: what found them."""

    points0: FloatArray
    points1: FloatArray
    cosines: FloatArray
    model: str
    licence: str

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and words, ready for JSON."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }


def match(
    image0: Source,
    image1: Source,
    points: FloatArray | Sequence[Sequence[float]] | None = None,
    *,
    model: str = AUTO_DENSE,
    lifts: int | None = None,
    max_size: int | None = None,
    threads: int | None = None,
    device: Device = DEFAULT_DEVICE,
) -> Transfer:
    """Where places of one image lie in another, see `transfer`; for the rest `DenseExtractor`.

    points: (N, 2), (x, y) in full-size pixels of image 0; those of `salient` by default.

    Raises ArgumentError for a point outside image 0.
    """
    describe = DenseExtractor(model, lifts=lifts, max_size=max_size, threads=threads, device=device)
    loaded = load_image(image0, max_size=describe.max_size)
    if points is None:
        found = salient(loaded)
    else:
        found = within(points, loaded.width, loaded.height, loaded.name)
    landed, cosines = transfer(describe(loaded), describe(image1), found)
    return Transfer(found, landed, cosines, describe.model, describe.licence)


def within(
    points: FloatArray | Sequence[Sequence[float]], width: int, height: int, name: str
) -> FloatArray:
    """The points as (N, 2) float32. Raises ArgumentError when one is outside of `name`."""
    checked = np.asarray(points, np.float32).reshape(-1, 2)
    outside = ~((checked >= 0) & (checked <= (width, height))).all(axis=1)
    if outside.any():
        x, y = checked[outside][0].tolist()
        raise ArgumentError(
            f"the point {x:g},{y:g} lies outside {name}, which is {width}x{height}."
        )
    return checked


def salient(image: Image, count: int = PLACES) -> FloatArray:
    """Places of an image that are easy to tell from those around them: (N, 2), full-size pixels.

    The strongest corner (Shi and Tomasi's) of each of about `count` equal parts of the image,
    by rows, half a part apart; parts without one are left out. Of an image without any its middle.
    """
    small = load_image(image, max_size=CORNERS_AT)
    strength: NDArray[Any] = cv2.cornerMinEigenVal(to_grey(small), CORNER)
    border = np.zeros_like(strength)
    border[CORNER:-CORNER, CORNER:-CORNER] = 1
    strength *= border
    height, width = strength.shape
    down = max(round((count * height / width) ** 0.5), 1)
    across = max(round(count / down), 1)
    scale = np.array([image.width / width, image.height / height])
    least = FAINTEST * float(strength.max())
    found = []
    for rows in np.array_split(np.arange(height), down):
        for columns in np.array_split(np.arange(width), across):
            if not (rows.size and columns.size):
                continue
            part = strength[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            y, x = np.unravel_index(part.argmax(), part.shape)
            if part[y, x] > least:
                place = int(columns[0] + x), int(rows[0] + y)
                found.append((place[0] + 0.5, place[1] + 0.5) * scale)
                cv2.circle(strength, place, min(rows.size, columns.size) // 2, 0.0, -1)
    return np.array(found or [(image.width / 2, image.height / 2)], np.float32)


def transfer(
    source: DenseFeatures, target: DenseFeatures, points: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Carry places (N, 2) of one image to another, in full-size pixels of each.

    Each goes to the cell whose descriptor is most alike, by the cosine: (N, 2) and the cosines
    (N,), of what is `distinct` of each. Of cells equally alike it is the uppermost, then the
    leftmost.
    """
    source, target = distinct(source), distinct(target)
    descriptors = source.at(points)
    cells = target.descriptors.reshape(-1, target.descriptors.shape[2])
    best = np.empty(len(descriptors), np.intp)
    cosines = np.empty(len(descriptors), np.float32)
    rows = max(CHUNK // len(cells), 1)
    for begin in range(0, len(descriptors), rows):
        block = slice(begin, begin + rows)
        alike = descriptors[block] @ cells.T
        best[block] = alike.argmax(axis=1)
        cosines[block] = alike[np.arange(len(alike)), best[block]]
    # The middle of a cell that the image only begins may lie beyond it.
    places = np.minimum(target.points.reshape(-1, 2)[best], (target.width, target.height))
    return places.astype(np.float32), cosines


def pck(found: FloatArray, truth: FloatArray, side: float, alpha: float = 0.1) -> float:
    """The share of places (N, 2) within alpha * side of where they belong, in 0..1.

    side: the longer one of the target's box, in pixels.
    """
    errors = np.linalg.norm(np.asarray(found, np.float64) - truth, axis=1)
    return float((errors <= alpha * side).mean())
