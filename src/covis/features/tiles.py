"""Large pictures seen piece by piece, so that memory does not grow with them.

A tile reaches over the part that is its own by a margin: as far as the network sees around a
keypoint and its descriptor. Keypoints are taken from a tile's own part, positions are computed in
the whole picture, and the best of all tiles stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, isqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from covis.images.decode import to_grey
from covis.types import BoolArray, FloatArray, Image

LARGE = 4_000_000
"""Pixels up to which a picture is seen as a whole."""
MULTIPLE = 32
"""Tiles begin at multiples of this, so that coarse maps of a tile have the cells of the whole's."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture, as (top, left, bottom, right) in its pixels.

    seen: what the network sees. own: inside it, where keypoints are taken from. whole: (height,
    width) of the picture.
    """

    seen: tuple[int, int, int, int]
    own: tuple[int, int, int, int]
    whole: tuple[int, int]

    @property
    def origin(self) -> NDArray[np.intp]:
        """(x, y) of the pixel of the whole that is the tile's first."""
        return np.array([self.seen[1], self.seen[0]])

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what is seen."""
        top, left, bottom, right = self.seen
        return bottom - top, right - left

    def in_cells(self, size: int) -> Tile:
        """The same counted in cells of `size` pixels, of which all its sides are multiples."""
        (a, b, c, d), (e, f, g, h), (rows, columns) = self.seen, self.own, self.whole
        return Tile(
            (a // size, b // size, c // size, d // size),
            (e // size, f // size, g // size, h // size),
            (rows // size, columns // size),
        )

    def leave_out(self, found: BoolArray, border: int = 0) -> None:
        """Set a map of what is seen to False where it is another tile's, or fewer than `border`
        pixels inside the picture."""
        for axis in (0, 1):
            begin = max(self.own[axis], border) - self.seen[axis]
            end = min(self.own[axis + 2], self.whole[axis] - border) - self.seen[axis]
            along = np.moveaxis(found, axis, 0)
            along[: max(begin, 0)] = False
            along[max(end, 0) :] = False

    def of(self, mask: BoolArray | None) -> BoolArray | None:
        """What is seen of a mask of the whole."""
        if mask is None:
            return None
        top, left, bottom, right = self.seen
        return mask[top:bottom, left:right]


def whole(shape: Sequence[int]) -> Tile:
    """The one tile of a picture (height, width) that is seen as a whole."""
    box = (0, 0, shape[0], shape[1])
    return Tile(box, box, (shape[0], shape[1]))


def tiles(shape: Sequence[int], margin: int, pixels: int) -> list[Tile]:
    """Tiles that cover a picture (height, width), row by row, with about `pixels` each at most."""
    side = isqrt(pixels) // MULTIPLE * MULTIPLE
    rows, columns = (_spans(length, margin, side) for length in shape)
    return [
        Tile((top, left, bottom, right), (above, before, below, behind), (shape[0], shape[1]))
        for top, bottom, above, below in rows
        for left, right, before, behind in columns
    ]


def _spans(length: int, margin: int, side: int) -> list[tuple[int, int, int, int]]:
    """Along one axis: where a tile is seen from and to, and where it has its own."""
    side = max(side, 2 * margin + MULTIPLE)
    if length <= side:
        return [(0, length, 0, length)]
    count = ceil((length - 2 * margin) / (side - 2 * margin))
    step = ceil((length - 2 * margin) / count / MULTIPLE) * MULTIPLE
    count = ceil((length - 2 * margin) / step)
    begins = [step * number for number in range(count)]
    ends = [min(begin + step + 2 * margin, length) for begin in begins]
    inner = [end - margin for end in ends[:-1]]
    return list(zip(begins, ends, [0, *inner], [*inner, length], strict=True))


class Best:
    """The best keypoints of several tiles, in the order of a whole picture: larger scores first,
    equal ones from the top row to the bottom one, then from the left."""

    def __init__(self, count: int) -> None:
        """count: how many stay at most."""
        self.count = count
        self.xy: NDArray[Any] = np.empty((0, 2), np.float32)
        self.scores = np.empty(0, np.float32)
        self.more: tuple[NDArray[Any], ...] = ()

    def promising(self, scores: FloatArray) -> NDArray[np.intp]:
        """Indices of those of a tile's (N,) that are not sure to go: the others need no more."""
        least = self.scores[-1] if 0 < self.count <= len(self.scores) else -np.inf
        return np.flatnonzero(scores >= least)

    def add(self, xy: NDArray[Any], scores: FloatArray, *more: NDArray[Any]) -> None:
        """Take in what one tile has, best first: (N, 2) in pixels of the whole, (N,), and further
        arrays (N, ...), such as descriptors."""
        if self.more:
            xy = np.concatenate([self.xy, xy])
            scores = np.concatenate([self.scores, scores])
            order = np.lexsort([xy[:, 0], xy[:, 1], -scores])[: self.count]
            more = tuple(np.concatenate(both)[order] for both in zip(self.more, more, strict=True))
            xy, scores = xy[order], scores[order]
        self.xy, self.scores, self.more = xy, scores, more


class Pixels(Protocol):
    """Pixels (h, w) float32 of a picture that are made where they are asked for."""

    shape: tuple[int, int]

    def crop(self, top: int, left: int, bottom: int, right: int) -> FloatArray:
        """Those of a box."""


class Grey:
    """`to_grey` of an image."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self.shape = (image.pixels.shape[0], image.pixels.shape[1])

    def crop(self, top: int, left: int, bottom: int, right: int) -> FloatArray:
        """See `Pixels`."""
        return to_grey(replace(self._image, pixels=self._image.pixels[top:bottom, left:right]))


class Resized:
    """Others resized as OpenCV's INTER_LINEAR does it."""

    def __init__(self, source: Pixels, shape: tuple[int, int], scale: float | None = None) -> None:
        """shape: (height, width) to have. scale: of a pixel, by both axes; by default what makes
        the borders of both fall together."""
        self._source, self.shape = source, shape
        self._steps = [
            old / new if scale is None else 1 / scale
            for old, new in zip(source.shape, shape, strict=True)
        ]

    def crop(self, top: int, left: int, bottom: int, right: int) -> FloatArray:
        """See `Pixels`."""
        (row0, row1), down = self._taps(0, top, bottom)
        (column0, column1), across = self._taps(1, left, right)
        part = self._source.crop(row0[0], column0[0], row1[-1] + 1, column1[-1] + 1)
        column0, column1 = column0 - column0[0], column1 - column0[0]
        wide = part[:, column0] * (1 - across) + part[:, column1] * across
        row0, row1 = row0 - row0[0], row1 - row0[0]
        tall = wide[row0] * (1 - down[:, None]) + wide[row1] * down[:, None]
        return np.asarray(tall, np.float32)

    def _taps(
        self, axis: int, begin: int, end: int
    ) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], FloatArray]:
        """The two pixels that each one lies between, and how far it is on the way to the second."""
        places = (np.arange(begin, end) + 0.5) * self._steps[axis] - 0.5
        last = self._source.shape[axis] - 1
        places = np.clip(places, 0, last)
        first = np.floor(places).astype(np.intp)
        return (first, np.minimum(first + 1, last)), (places - first).astype(np.float32)


def statistics(pixels: Pixels) -> tuple[float, float]:
    """Mean and variance of a picture's pixels, which are never all at hand."""
    total = squares = 0.0
    for top, bottom in _bands(pixels.shape):
        band = pixels.crop(top, 0, bottom, pixels.shape[1])
        total += float(band.sum(dtype=np.float64))
        squares += float(np.square(band, dtype=np.float64).sum())
    count = pixels.shape[0] * pixels.shape[1]
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0)


def _bands(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    step = max(LARGE // 4 // shape[1], 1)
    for top in range(0, shape[0], step):
        yield top, min(top + step, shape[0])
