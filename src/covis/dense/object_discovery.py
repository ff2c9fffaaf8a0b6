"""The object of a picture without any labels: TokenCut (CVPR 2022, arXiv 2202.11539)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.dense.features import DenseFeatures
from covis.errors import ArgumentError
from covis.options import DISCOVERY_TAU
from covis.types import BoolArray, FloatArray, Image

FLOOR = 1e-5
"""The affinity of cells that do not belong together."""
NOTHING = 1e-3
"""Eigenvalues below it are rounding errors: all cells are alike."""
PLAIN = 2.0
"""Of 255 levels: the deviation below which a channel shows nothing."""
MAX_CELLS = 25_000
"""Larger maps would take minutes."""
CHUNK = 1 << 22
"""Affinities held as numbers at a time; all of them are held as bits."""


@dataclass(frozen=True, eq=False)
class Discovery:
    """The object found in a picture.

    box: (left, top, right, bottom) in full-size pixels, to the outer edges of its cells.
    cells: (h, w), those of the object. eigenvector: (h, w), what they were split by; larger
    inside the object.
    """

    box: tuple[float, float, float, float]
    cells: BoolArray
    eigenvector: FloatArray


def is_plain(image: Image) -> bool:
    """Whether a picture is of one colour, but for faint noise, so that nothing can stand out."""
    return float(image.pixels.std(axis=(0, 1)).max()) < PLAIN


def discover(features: DenseFeatures, tau: float = DISCOVERY_TAU) -> Discovery:
    """Find the object that stands out: a normalised cut of the graph of all cells.

    tau: two cells belong together when their cosine is above it.

    XFeat's features are made to tell corners apart, not objects. On the 80 images with boxes of
    COCO128 (CorLoc, standard error 5 points) they find 23.8, 26.2 and 26.2 % at 120, 240 and
    480 px, with tau 0 26.2, 26.2 and 27.5 %. The middle 70 % of each side, whatever the picture,
    find 36.2 %.

    The second smallest eigenvector of (D - W) y = lambda D y is split at its mean; the object is
    the connected part with the largest absolute value. Where all cells are alike it is the whole
    picture.

    Raises ArgumentError for more than MAX_CELLS cells.
    """
    rows, columns, channels = features.descriptors.shape
    if rows * columns > MAX_CELLS:
        raise ArgumentError(
            f"{features.width}x{features.height} gives {rows * columns:,} descriptors, more than "
            f"the {MAX_CELLS:,} that can be cut: lift less often, or shrink the picture first."
        )
    values = features.descriptors.reshape(-1, channels)
    y = _second_eigenvector(_alike(values, tau), len(values)).reshape(rows, columns)
    seed = np.unravel_index(np.abs(y).argmax(), y.shape)
    if y[seed] < y.mean():
        y = -y
    split = (y > y.mean()).astype(np.uint8)
    _, parts = cv2.connectedComponents(split, connectivity=4)
    cells = parts == parts[seed]
    down, across = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    (left, right), (top, bottom) = (
        (float(found[0] * step), float(min((found[-1] + 1) * step, side)))
        for found, step, side in (
            (across, features.step[0], features.width),
            (down, features.step[1], features.height),
        )
    )
    return Discovery((left, top, right, bottom), cells, y)


def _alike(values: FloatArray, tau: float) -> NDArray[np.uint8]:
    """Which rows of (N, D) belong together: (N, N / 8) uint8, a bit a pair."""
    count = max(CHUNK // len(values), 1)
    packed = [
        np.packbits(values[begin : begin + count] @ values.T > tau, axis=1)
        for begin in range(0, len(values), count)
    ]
    return np.concatenate(packed)


def _second_eigenvector(alike: NDArray[np.uint8], size: int) -> FloatArray:
    """(N,): of the graph with weight 1 where cells are alike, FLOOR elsewhere."""
    if size == 1:
        return np.ones(size, np.float32)
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    count = max(CHUNK // size, 1)

    def times(vector: NDArray[Any]) -> NDArray[Any]:
        """W v."""
        sums = [
            np.unpackbits(alike[begin : begin + count], axis=1, count=size).astype(np.float32)
            @ vector
            for begin in range(0, size, count)
        ]
        return FLOOR * vector.sum() + (1 - FLOOR) * np.concatenate(sums)

    roots = np.sqrt(times(np.ones(size, np.float32)))
    trivial = roots / np.linalg.norm(roots)

    # With z = D^(1/2) y the smallest eigenvalues of the problem are the largest of
    # D^(-1/2) W D^(-1/2), whose first eigenvector is known, and is taken out.
    def reduced(vector: NDArray[Any]) -> NDArray[Any]:
        z = vector.ravel().astype(np.float32)
        return times(z / roots) / roots - trivial * (trivial @ z)

    operator = LinearOperator((size, size), matvec=reduced, dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=1e-3)
    except ArpackError:  # Of a matrix of zeros.
        return np.ones(size, np.float32)
    if values[0] < NOTHING:
        return np.ones(size, np.float32)
    return (vectors[:, 0] / roots).astype(np.float32)
