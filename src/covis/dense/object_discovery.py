"""The objects of a picture without any labels: TokenCut (CVPR 2022, arXiv 2202.11539), and, for
more than one, MaskCut (CutLER, CVPR 2023, arXiv 2301.11320): the cut is repeated without the cells
of the objects before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.dense.features import DenseFeatures
from covis.errors import ArgumentError
from covis.images.decode import load_image
from covis.options import DISCOVERED, DISCOVERY_TAU, TOKEN_TAU, TOKEN_TAUS
from covis.types import BoolArray, FloatArray, Image

FLOOR = 1e-5
"""The affinity of cells that do not belong together."""
NOTHING = 1e-3
"""Eigenvalues below it are rounding errors: all cells are alike."""
PLAIN = 2.0
"""Of 255 levels: the deviation below which a channel shows nothing."""
MAX_CELLS = 25_000
"""Larger maps would take minutes."""
LEAST = 0.01
"""Of a picture: what is smaller is no object."""
CORNERS = 2
"""Of the picture's four: what covers so many is ground or sky, where it is not the first cut."""
REFINED_AT = 480
"""Pixels of the longest side at which masks are drawn to the picture's edges."""
ROUNDS = 3
"""Of GrabCut."""
KEPT, GREW = 0.4, 2.0
"""A mask that edges leave less of, or more, has gone astray, and stays as the cells have it."""
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


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object of a picture.

    box: (left, top, right, bottom) in full-size pixels, around the cells. mask: (H, W), of the size
    of the picture's pixels, drawn to its edges. cells: (h, w) of the features. likeness: the mean
    cosine of its cells with all others; the lower the more it stands out.
    """

    box: tuple[float, float, float, float]
    mask: BoolArray
    cells: BoolArray
    likeness: float


def is_plain(image: Image) -> bool:
    """Whether a picture is of one colour, but for faint noise, so that nothing can stand out."""
    return float(image.pixels.std(axis=(0, 1)).max()) < PLAIN


def discover(features: DenseFeatures, tau: float | None = None) -> Discovery:
    """Find the object that stands out: a normalised cut of the graph of all cells.

    tau: two cells belong together when their cosine is above it; by default 0.2, and for features
        that have a part in common, as a ViT's, each of 0.3, 0.4, 0.5 and 0.6: the object is then
        the one whose cells are more alike than they are like all others, by the mean cosines.

    The second smallest eigenvector of (D - W) y = lambda D y is split at its mean; the object is
    the connected part with the largest absolute value. Where all cells are alike it is the whole
    picture. `discover_objects` finds several, or none.

    Raises ArgumentError for more than MAX_CELLS cells.
    """
    rows, columns, channels = features.descriptors.shape
    if rows * columns > MAX_CELLS:
        raise ArgumentError(
            f"{features.width}x{features.height} gives {rows * columns:,} descriptors, more than "
            f"the {MAX_CELLS:,} that can be cut: lift less often, or shrink the picture first."
        )
    values = features.descriptors.reshape(-1, channels)
    several = tau is None and features.common
    found = []
    for each in TOKEN_TAUS if several else (_tau(features, tau),):
        y = _second_eigenvector(_alike(values, each), len(values))
        found.append(_object(y.reshape(rows, columns), np.ones((rows, columns), np.bool_)))
    cells, y = max(found, key=lambda cut: _apart(features.descriptors, cut[0]))
    return Discovery(_box(cells, features), cells, y)


def discover_objects(
    image: Image, features: DenseFeatures, tau: float | None = None, most: int = DISCOVERED
) -> list[FoundObject]:
    """The objects of a picture, those that stand out most first; none in one that shows nothing.

    image: what `features` are of. tau: see `discover`; of several, 0.4 where one is meant. most:
    how many at most.

    What is like the rest of the picture, by a mean cosine above tau, is no object, nor is what
    covers less than a hundredth of it; and of what is found after the first, ground and sky, which
    cover two of its corners.

    Raises ArgumentError as `discover` does.
    """
    if is_plain(image):
        return []
    asked, tau = tau, _tau(features, tau)
    values = features.descriptors
    free = np.ones(values.shape[:2], np.bool_)
    found: list[FoundObject] = []
    while len(found) < most and np.count_nonzero(free) > 1:
        if found:
            y = np.zeros(free.shape, np.float32)
            inside = np.ascontiguousarray(values[free])
            y[free] = _second_eigenvector(_alike(inside, tau), len(inside))
            cells, _ = _object(y, free)
        else:
            cells = discover(features, asked).cells
        if cells.mean() < LEAST or cells.all():
            break
        likeness = float(values[cells].mean(axis=0) @ values[~cells].mean(axis=0))
        corners = np.count_nonzero(cells[[0, 0, -1, -1], [0, -1, 0, -1]])
        if likeness > tau or (found and corners >= CORNERS):
            break
        mask = refined(image, cells, features.step)
        found.append(FoundObject(_box(cells, features), mask, cells, likeness))
        free &= ~cells
    return found


def refined(image: Image, cells: BoolArray, step: tuple[float, float]) -> BoolArray:
    """The mask (H, W), of the size of `image.pixels`, that an object's cells (h, w) become when it
    is drawn to the picture's edges: GrabCut (SIGGRAPH 2004) by the colours in and around them.

    step: (x, y), full-size pixels from a cell to the next. Beyond two cells around the object
    nothing belongs to it.
    """
    small = load_image(image, max_size=REFINED_AT)
    height, width = small.pixels.shape[:2]
    near = cv2.dilate(cells.astype(np.uint8), np.ones((3, 3), np.uint8))
    near = cv2.dilate(near, np.ones((3, 3), np.uint8))
    scale = step[0] * width / image.width, step[1] * height / image.height
    # A pixel's centre is at a half: OpenCV's own pixels have theirs at whole numbers.
    places = np.array([[scale[0], 0, scale[0] / 2 - 0.5], [0, scale[1], scale[1] / 2 - 0.5]])
    rough, near = (
        cv2.warpAffine(
            each.astype(np.uint8), places, (width, height), flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for each in (cells, near)
    )  # fmt: skip
    marks = np.where(rough, cv2.GC_PR_FGD, np.where(near, cv2.GC_PR_BGD, cv2.GC_BGD))
    marks = marks.astype(np.uint8)
    if rough.any() and not rough.all():
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        bgr = np.ascontiguousarray(small.pixels[:, :, ::-1])
        cv2.grabCut(bgr, marks, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    drawn = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if not KEPT * rough.sum() <= drawn.sum() <= GREW * rough.sum():
        drawn = rough > 0
    size = image.pixels.shape[1::-1]
    return cv2.resize(drawn.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _apart(values: FloatArray, cells: BoolArray) -> float:
    """By how much the mean cosine of an object's cells (h, w) is above that with the others; below
    any of these for no object: too small, or the whole picture."""
    if cells.mean() < LEAST or cells.all():
        return -np.inf
    inside, outside = values[cells].mean(axis=0), values[~cells].mean(axis=0)
    return float(inside @ (inside - outside))


def _tau(features: DenseFeatures, tau: float | None) -> float:
    return tau if tau is not None else TOKEN_TAU if features.common else DISCOVERY_TAU


def _object(y: FloatArray, free: BoolArray) -> tuple[BoolArray, FloatArray]:
    """The part of the free cells (h, w) that an eigenvector tells from the others, and the
    eigenvector, larger there."""
    mean = y[free].mean()
    seed = np.unravel_index(np.where(free, np.abs(y), -1).argmax(), y.shape)
    if y[seed] < mean:
        y, mean = -y, -mean
    _, parts = cv2.connectedComponents(((y > mean) & free).astype(np.uint8), connectivity=4)
    return (parts == parts[seed]) & free, y


def _box(cells: BoolArray, features: DenseFeatures) -> tuple[float, float, float, float]:
    """To the outer edges of cells (h, w), within the picture, in full-size pixels."""
    down, across = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    (left, right), (top, bottom) = (
        (float(found[0] * step), float(min((found[-1] + 1) * step, side)))
        for found, step, side in (
            (across, features.step[0], features.width),
            (down, features.step[1], features.height),
        )
    )
    return left, top, right, bottom


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
