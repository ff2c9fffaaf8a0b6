"""Are two pictures, laid over each other by their homography, the same picture?

Local matches tell that two pictures share points. Pages on one template share the template's, two
views of a place those of its walls; what differs between them shows only in the pixels. So one is
warped onto the other, at the resolution of the coarser, and small cells are correlated. A cell that
has contrast in both and does not correlate contradicts; one that has it in one alone may be text
that was written over the other, where that is always the same one of the two.

Numbers are shares of all contrast. Measured at 960 pixels on 27 photographs and on 8 kinds of
rendered documents, 20 kinds of copies of each: copies agree in 0.937 and more and fail in 0.009 at
most (documents cropped by a seventh 0.014); different pages on one template fail in 0.011 and
more, neighbouring views from the air in 0.35. With large letters over a photo 0.2 and more agree,
and the rest contradicts 0.25 times as much as is written over; on others 0.6 times and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.types import BoolArray, FloatArray, Image, Matrix

COMPARED_SIDE = 960
"""Longer side at which pictures are compared at most, in pixels: letters must be legible."""
CELL = 8
MARGIN = 3
"""Pixels at the edges of both pictures that are not compared: the warp's are not exact."""
SMOOTHING = 1.0
"""Standard deviation in pixels, for what the homography is inexact by."""
MIN_CONTRAST, MAX_CONTRAST = 8.0, 64.0
"""Standard deviation of a cell, of 255, from which on it counts, and by which it does at most."""
AGREES, DISAGREES = 0.5, 0.2
"""Correlations of cells."""
ONE_SIDED = 2.0
"""A cell with so many times the contrast of the other's may be written over it."""
MIN_CELLS = 12
MIN_FILLED = 0.05
"""An empty wall is like another one. The emptiest of the photographs has 0.06."""
MIN_AGREED, MAX_FAILED = 0.93, 0.01
MIN_CELLS_OVERLAID, MIN_AGREED_OVERLAID, MIN_EXPLAINED = 200, 0.15, 0.75
MAX_CONTRADICTED_OVERLAID = 0.35
"""Of what is written over: contradictions beside it, where the letters meet other contrast."""
MAX_BLANK_OVERLAID = 0.4
"""With more paper, what is written is all there is."""
PAPER_SIDE = 480
"""Longer side at which a picture is looked at for paper, in pixels."""
FLAT = 1.5
"""Standard deviation of a cell of paper at most, and half of what greys of one paper differ by."""
MAX_DIVERGENCE = 0.03
"""Of the middles of the diagonals, see `is_near_similar`; copies of half the size have 0.025."""
MAX_COSINE = 0.15
"""Of the angle between the sides."""


@dataclass(frozen=True, eq=False)
class View:
    """A picture to be laid over another. grey: (h, w) uint8. size: (width, height), full-size."""

    grey: NDArray[np.uint8]
    size: tuple[int, int]

    @classmethod
    def of(cls, image: Image) -> Self:
        grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
        return cls(np.asarray(grey, np.uint8), (image.width, image.height))

    @property
    def scale(self) -> float:
        """Pixels for each full-size one."""
        return self.grey.shape[1] / self.size[0]

    def at(self, scale: float) -> View:
        """With so many pixels for each full-size one, if it has more."""
        if scale >= self.scale:
            return self
        width, height = (max(1, round(scale * side)) for side in self.size)
        small = cv2.resize(self.grey, (width, height), interpolation=cv2.INTER_AREA)
        return View(np.asarray(small, np.uint8), self.size)

    @property
    def full_from_pixels(self) -> Matrix:
        """From pixels as OpenCV counts them, the first one's centre at 0, to full-size ones."""
        across, down = self.size[0] / self.grey.shape[1], self.size[1] / self.grey.shape[0]
        return np.array([[across, 0, across / 2], [0, down, down / 2], [0, 0, 1]])


@dataclass(frozen=True)
class Agreement:
    """How two pictures agree where both have something; shares of their contrast, 0..1.

    cells: how many have contrast in either. filled: which share of all. agreed: in cells that
    correlate. contradicted: in cells that do not. overlaid: in cells that do not and have contrast
    in one picture alone, the one that has more of them. blank: of all cells, those that in either
    are of the one commonest grey.
    """

    cells: int
    filled: float
    agreed: float
    contradicted: float
    overlaid: float
    blank: float

    @property
    def copies(self) -> bool:
        """Whether this is one picture twice, or one with something written over it."""
        if self.filled < MIN_FILLED:
            return False
        failed = self.contradicted + self.overlaid
        if self.cells >= MIN_CELLS and self.agreed >= MIN_AGREED and failed <= MAX_FAILED:
            return True
        return (
            self.cells >= MIN_CELLS_OVERLAID
            and self.blank <= MAX_BLANK_OVERLAID
            and self.agreed >= MIN_AGREED_OVERLAID
            and self.agreed + self.overlaid >= MIN_EXPLAINED
            and self.contradicted <= MAX_CONTRADICTED_OVERLAID * self.overlaid
        )


def compare(view0: View, view1: View, h_1from0: Matrix) -> Agreement:
    """How two pictures agree under the homography of their full-size pixels."""
    scale = magnification(h_1from0, np.array(view0.size) / 2)
    if scale > 1:
        view0, view1, scale = view1, view0, 1 / scale
        h_1from0 = np.asarray(np.linalg.inv(h_1from0), np.float64)
    # Picture 1 is the coarser one now; each has as many pixels for what they show as the other.
    scale1 = min(view1.scale, view0.scale / scale)
    view0, view1 = view0.at(scale1 * scale), view1.at(scale1)
    warp = np.linalg.inv(view1.full_from_pixels) @ h_1from0 @ view0.full_from_pixels
    height, width = view1.grey.shape
    laid = cv2.warpPerspective(view0.grey, warp, (width, height), flags=cv2.INTER_LINEAR)
    inside = np.zeros(view0.grey.shape, np.uint8)
    inside[MARGIN:-MARGIN, MARGIN:-MARGIN] = 255
    shown = cv2.warpPerspective(inside, warp, (width, height)) == 255
    shown[:MARGIN], shown[-MARGIN:], shown[:, :MARGIN], shown[:, -MARGIN:] = (
        False,
        False,
        False,
        False,
    )
    return _agreement(_cells(laid), _cells(view1.grey), _whole(shown))


def _agreement(cells0: FloatArray, cells1: FloatArray, shown: BoolArray) -> Agreement:
    """cells0, cells1: (N, CELL * CELL), those of two pictures at the same places."""
    both = np.stack([cells0[shown], cells1[shown]])
    levels = both.mean(axis=2, keepdims=True)
    both -= levels
    contrasts = np.sqrt(np.einsum("pnc,pnc->pn", both, both) / CELL**2)
    more, less = contrasts.max(axis=0), contrasts.min(axis=0)
    correlation = np.einsum("nc,nc->n", *both) / CELL**2 / np.maximum(contrasts.prod(axis=0), 1e-3)
    weights = np.where(more > MIN_CONTRAST, np.minimum(more, MAX_CONTRAST), 0)
    total = max(float(weights.sum()), 1e-6)

    def share(cells: BoolArray) -> float:
        return float(weights[cells].sum()) / total

    fails = correlation < DISAGREES
    one_sided = fails & (more >= ONE_SIDED * less)
    over = [
        share(one_sided & which)
        for which in (contrasts[0] > contrasts[1], contrasts[1] >= contrasts[0])
    ]
    calmer = np.where(contrasts[0] < contrasts[1], levels[0, :, 0], levels[1, :, 0])[less < FLAT]
    return Agreement(
        cells=int((weights > 0).sum()),
        filled=float((weights > 0).mean()) if len(weights) else 0.0,
        agreed=share(correlation > AGREES),
        contradicted=share(fails & ~one_sided) + 2 * min(over),
        overlaid=max(over),
        blank=_commonest(calmer) / max(len(more), 1),
    )


def _commonest(levels: FloatArray) -> int:
    """How many of some greys, 0..255, are near the one that is nearest to most."""
    counts = np.bincount(np.rint(levels).astype(np.int64), minlength=256)
    return int(np.convolve(counts, np.ones(1 + 2 * round(FLAT), np.int64)).max())


def _cells(grey: NDArray[Any]) -> FloatArray:
    """(h, w) -> (N, CELL * CELL) float32, smoothed; what is left over at the ends is left out."""
    smooth = cv2.GaussianBlur(grey, (0, 0), SMOOTHING)
    return squares(smooth, CELL).astype(np.float32)


def _whole(shown: BoolArray) -> BoolArray:
    """(h, w) -> (N,): whether all of a cell is shown."""
    return np.asarray(squares(shown, CELL).all(axis=1), bool)


def squares(picture: NDArray[Any], side: int) -> NDArray[Any]:
    """(h, w) -> (N, side * side): square cells, row by row; what is left over is left out."""
    down, across = picture.shape[0] // side, picture.shape[1] // side
    cut = picture[: down * side, : across * side].reshape(down, side, across, side)
    return cut.transpose(0, 2, 1, 3).reshape(-1, side * side)


def magnification(h_1from0: Matrix, place: FloatArray | Matrix) -> float:
    """How many times as large as in picture 0 things are in picture 1, at a place (x, y) of 0."""
    depth = h_1from0[2] @ [*place, 1]
    return float(np.sqrt(abs(np.linalg.det(h_1from0) / depth**3)))


def is_paper(view: View) -> bool:
    """Whether a picture is a page or a screen: much of it is of one grey."""
    small = view.at(PAPER_SIDE / max(view.size))
    cells = _cells(small.grey)
    flat = cells.std(axis=1) < FLAT
    return _commonest(cells.mean(axis=1)[flat]) >= MAX_BLANK_OVERLAID * max(len(cells), 1)


def is_near_similar(h_1from0: Matrix, size0: tuple[int, int]) -> bool:
    """Whether a homography turns, mirrors, moves and stretches a picture, and does little else.

    Seen from the side a picture's diagonals no longer meet in the middle of both, or its sides no
    longer at right angles: the first distance is at most MAX_DIVERGENCE of a diagonal for a copy,
    0.02 and more for most views of a place.
    """
    width, height = size0
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    depths = corners @ h_1from0[2, :2] + h_1from0[2, 2]
    if not (depths * np.sign(depths[0]) > 0).all():
        return False
    seen = cv2.perspectiveTransform(corners[:, None], h_1from0)[:, 0]
    diagonals = seen[2] - seen[0], seen[3] - seen[1]
    middles = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
    length = sum(np.linalg.norm(each) for each in diagonals) / 2
    across, down = (
        (seen[1] + seen[2] - seen[0] - seen[3]) / 2,
        (seen[3] + seen[2] - seen[0] - seen[1]) / 2,
    )
    lengths = np.linalg.norm(across) * np.linalg.norm(down)
    apart = np.linalg.norm(middles[0] - middles[1])
    return bool(apart <= MAX_DIVERGENCE * length and abs(across @ down) <= MAX_COSINE * lengths)
