"""Look-alikes: pictures that share a frame, a cover or a template, and not what is in it.

Paintings in like frames match on the frames, and no count of inliers tells them apart. What is
between the inliers does: so one picture is laid over the other, by a homography and by what the
nearest inliers depart from it, and small cells are correlated. Light, blur and noise leave most
cells alike; each may lie a little beside where it should, as parts with depth do. Of negatives,
drawings and pictures by another sensor the greys are not alike, but the edges.

Measured on pairs rendered from photographs, of those that XFeat's matches call the same: of 433
that show the same, in other light, blurred, seen from the side or with depth, 12 in 1,000 are
doubted, of 88 with things in the way 9 in 100; of 72 pairs in like frames 65 in 100, of 74 on one
template 78. The mean over all cells leaves 50 and 28 in 100 of those; weighing cells by contrast or
by their distance from inliers, the worst part of the picture, and comparing with cells elsewhere
were no better, either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.geometry.agreement import View, magnification, squares
from covis.geometry.independent_places import coverage
from covis.geometry.page_verdict import doubt_pages
from covis.geometry.two_view import estimate_geometry
from covis.geometry.verdict import shipped
from covis.images.edges import edge_strength
from covis.types import BoolArray, FloatArray, Matches, Matrix, Verdict

SIDE = 200
"""Longer side of what the inliers span, as it is compared, in pixels."""
CELL = 12
SHIFT = 3
"""How far beside its place a cell is looked for, in pixels."""
SMOOTHING = 1.0
"""Standard deviation in pixels."""
MIN_CONTRAST = 1.5
"""Standard deviation of a cell, of 255, below which it is not compared."""
MIN_CELLS = 12
"""With fewer to compare nothing is said."""
NEAREST = 5
"""Inliers whose median tells how far a place departs from the homography."""
USED = 400
"""Inliers that are asked for it, at most."""
ON_PLANE = 0.03
"""How far inliers of another geometry may be from a homography, in longer sides."""
LOOKED_FROM = 0.5
"""The least probability of a pair whose pictures are looked at."""
MIN_LIKENESS = 0.3
"""1 in 100 pairs that show the same had less."""
SURE_LIKENESS, SURE_CELLS, SURE_COVERAGE = 0.6, 40, 0.1
"""Of 27 pairs that show the same and were unsure, 12 had the first two, of 37 look-alikes none. The
share of the pictures that inliers lie in is asked for because of logos and time stamps."""
EDGES_ALIKE, EDGES_CELLS, EDGES_COVERAGE = 0.4, 100, 0.2
"""Of 36 pairs that show the same, drawn, negative, in snow or by another sensor, whose greys are
not alike, the edges of 30 are; of 64 look-alikes that are doubted, half drawn so, of none."""
NOTE = "laid over each other, the pictures differ between the matches: perhaps look-alikes"


class Likeness(NamedTuple):
    """How two pictures correlate where their inliers lie and between them.

    worse_half: of the cells that have contrast in both, each taken as it correlates best within
        SHIFT, the mean of those that correlate less, -1..1: a frame is less than half. cells: how
        many there are.
    """

    worse_half: float
    cells: int


def judge_by_pictures(found: Matches, view0: View, view1: View) -> Matches:
    """Matches with their verdict once the pictures themselves were looked at.

    The "same" becomes "unsure", with a probability that is at most even, where they are two pages
    on one template or differ between the inliers, in greys and in edges; the geometry's note says
    why. "Unsure" becomes the "same", as likely as the least that is called so, where what is more
    likely than not lies over the other in a good part of both pictures.
    """
    verdict, geometry = found.verdict, found.geometry
    if verdict is None or geometry is None or verdict.probability < LOOKED_FROM:
        return found
    doubted = doubt_pages(found, view0, view1)
    if doubted is not found:
        return doubted
    alike = likeness(found, view0, view1)
    if alike is None:
        return found
    if verdict.label == "same" and alike.worse_half < MIN_LIKENESS:
        if _edges_alike(found, view0, view1):
            return found
        note = "; ".join(filter(None, [geometry.note, NOTE]))
        return replace(
            found,
            geometry=replace(geometry, note=note),
            verdict=Verdict("unsure", min(verdict.probability, 0.5)),
        )
    if (
        verdict.label == "unsure"
        and alike.worse_half >= SURE_LIKENESS
        and alike.cells >= SURE_CELLS
        and _covered(found, view0, view1) >= SURE_COVERAGE
    ):
        sure = replace(found, verdict=Verdict("same", shipped().same))
        return doubt_pages(sure, view0, view1)
    return found


def _covered(found: Matches, view0: View, view1: View) -> float:
    """The share of the pictures that inliers lie in, of that with less."""
    both = (found.points0, view0.size), (found.points1, view1.size)
    return min(coverage(points[found.inliers], size) for points, size in both)


def _edges_alike(found: Matches, view0: View, view1: View) -> bool:
    """Whether the edges lie over each other in a good part of both pictures, whatever the greys."""
    if _covered(found, view0, view1) < EDGES_COVERAGE:
        return False
    edges = (replace(view, grey=edge_strength(view.grey)) for view in (view0, view1))
    alike = likeness(found, *edges)
    return alike is not None and alike.worse_half >= EDGES_ALIKE and alike.cells >= EDGES_CELLS


def likeness(found: Matches, view0: View, view1: View) -> Likeness | None:
    """See `Likeness`; None where there is no geometry, or too little to compare."""
    points0, points1 = (
        np.asarray(points[found.inliers], np.float64) for points in (found.points0, found.points1)
    )
    plane, on_it = _plane(found, points0, points1, view0.size, view1.size)
    if plane is None:
        return None
    points0, points1 = points0[on_it], points1[on_it]
    magnified = magnification(plane, points0.mean(axis=0))
    if not 0 < magnified < np.inf:
        return None
    span = max(float(np.ptp(points1, axis=0).max()), 1.0)
    scale = min(SIDE / span, view1.scale, view0.scale / magnified)
    view0, view1 = view0.at(scale * magnified), view1.at(scale)
    pixels0, pixels1 = (
        _mapped(points, np.linalg.inv(view.full_from_pixels))
        for points, view in ((points0, view0), (points1, view1))
    )
    back: Matrix = np.linalg.inv(plane @ view0.full_from_pixels) @ view1.full_from_pixels
    left, top = np.maximum(np.floor(pixels1.min(axis=0)), 0).astype(int)
    right, bottom = np.ceil(pixels1.max(axis=0)).astype(int) + 1
    grey1 = view1.grey[top:bottom, left:right]
    pixels1 = pixels1 - (left, top)
    back = back @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    height, width = (side // CELL * CELL for side in grey1.shape)
    if min(height, width) < CELL:
        return None
    places = _places(np.asarray(back, np.float64), pixels0, pixels1, height, width)
    laid = np.asarray(
        cv2.remap(view0.grey, places[..., 0], places[..., 1], cv2.INTER_LINEAR), np.uint8
    )
    end = np.array(view0.grey.shape[::-1]) - 1
    inside = np.asarray(((places >= 0) & (places <= end)).all(axis=2))
    shown = squares(inside, CELL).all(axis=1)
    hull = np.zeros((height // CELL, width // CELL), np.uint8)
    around = cv2.convexHull((pixels1 / CELL - 0.5).astype(np.float32))
    cv2.fillConvexPoly(hull, np.rint(around).astype(np.int32), 1)
    chosen = shown & (hull.ravel() > 0)
    return _correlation(laid, grey1[:height, :width], np.asarray(chosen, bool))


def _plane(
    found: Matches,
    points0: Matrix,
    points1: Matrix,
    size0: tuple[int, int],
    size1: tuple[int, int],
) -> tuple[Matrix | None, BoolArray]:
    """A homography, full-size pixels, that inliers are near to, and which; None without one."""
    geometry = found.geometry
    if geometry is None or not len(points0) or geometry.kind == "homography":
        return None if geometry is None else geometry.matrix, np.ones(len(points0), bool)
    model = estimate_geometry(
        points0,
        points1,
        "homography",
        size0=size0,
        size1=size1,
        threshold=ON_PLANE * max(size1),
        mirrored=found.mirrored,
    )
    return model.matrix, model.inliers


def _mapped(points: Matrix, homography: NDArray[Any]) -> Matrix:
    """(N, 2) -> (N, 2)."""
    return np.asarray(cv2.perspectiveTransform(points[:, None], homography)[:, 0], np.float64)


def _places(
    back: Matrix, pixels0: Matrix, pixels1: Matrix, height: int, width: int
) -> NDArray[np.float32]:
    """(height, width, 2): where picture 0 shows what the pixels of picture 1 do.

    back: the homography, pixels of 1 -> of 0. pixels0, pixels1: (N, 2), the inliers.
    """
    rest = pixels0 - _mapped(pixels1, back)
    step = -(-len(rest) // USED)
    rest, pixels1 = rest[::step], pixels1[::step]
    down, across = height // CELL, width // CELL
    cells = np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1).reshape(-1, 2)
    middles = cells * CELL + (CELL - 1) / 2
    distances = ((middles[:, None] - pixels1) ** 2).sum(axis=2)
    count = min(NEAREST, len(rest))
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    departed = np.median(rest[nearest], axis=1).reshape(down, across, 2).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    places = cv2.perspectiveTransform(grid, back) + cv2.resize(departed, (width, height))
    return np.asarray(places, np.float32)


def _correlation(
    laid: NDArray[np.uint8], grey: NDArray[np.uint8], chosen: BoolArray
) -> Likeness | None:
    """laid, grey: (h, w), multiples of CELL. chosen: (N,), which cells count."""
    smooth0, smooth1 = (
        np.asarray(cv2.GaussianBlur(picture, (0, 0), SMOOTHING), np.uint8)
        for picture in (laid, grey)
    )
    cells1, contrasts1 = _without_level(smooth1, chosen)
    padded = np.pad(smooth0, SHIFT, mode="symmetric")
    best = np.full(len(cells1), -1, np.float32)
    usable = contrasts1 >= MIN_CONTRAST
    height, width = grey.shape
    for down in range(2 * SHIFT + 1):
        for across in range(2 * SHIFT + 1):
            cells0, contrasts0 = _without_level(
                padded[down : down + height, across : across + width], chosen
            )
            if down == across == SHIFT:
                usable &= contrasts0 >= MIN_CONTRAST
            products = np.einsum("nc,nc->n", cells0, cells1) / CELL**2
            best = np.maximum(best, products / np.maximum(contrasts0 * contrasts1, 1e-3))
    if usable.sum() < MIN_CELLS:
        return None
    ordered = np.sort(best[usable])
    return Likeness(float(ordered[: (len(ordered) + 1) // 2].mean()), len(ordered))


def _without_level(picture: NDArray[np.uint8], chosen: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The chosen cells, (N, CELL * CELL), their means taken off; and their contrasts, (N,)."""
    cells = squares(picture, CELL)[chosen].astype(np.float32)
    cells -= cells.mean(axis=1, keepdims=True)
    return cells, np.sqrt(np.einsum("nc,nc->n", cells, cells) / CELL**2)
