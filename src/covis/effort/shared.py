"""What both pictures show, drawn anew in one frame, and matches of several attempts put together.

Once a geometry is roughly known, turn, scale and slant need not hinder the features any more: the
part that both pictures show is cut out of one, enlarged where it is small, and drawn from the other
as the first sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from covis.effort.attempts import (
    DRAWN_AS_EDGES,
    WHAT_BOTH_SHOW,
    Candidate,
    Check,
    match_seen,
    weigh,
)
from covis.effort.pictures import Pictures, scale_at
from covis.effort.plan import Way
from covis.geometry.similarity import similarity_of_pictures
from covis.geometry.two_view import default_threshold, log10_false_alarms
from covis.types import BoolArray, Geometry, Image, Matches, Matrix

LONGEST = 960
"""Of the frame, pixels along its longer side, at most, or as many as a picture has."""
ENLARGED = 2.0
"""How much larger than the coarser picture's own pixels the frame's may be drawn, at most."""
ROOM = 0.2
"""Around the inliers, of their extent, on each side."""
SMALLEST = 64
"""Pixels along the frame's shorter side; less is not looked at."""
AGREEING = 3.0
"""-log10 of how many models with as much agreement chance would bring, of matches to be taken."""
ONE_POINT = 1.0
"""Pixels, of a picture as features were found in it, within which ends of matches are one point:
two detectors, or one in a picture drawn anew, find the same corner a fraction of that apart."""
LOYAL = 0.5
"""Of the inliers of the best attempt, those that the geometry of all together must keep."""


def look_again(
    pictures: Pictures, best: Candidate, way: Way, check: Check, *, number: int
) -> Candidate | None:
    """Match the part that both pictures show, drawn in one frame by the geometry of `best`.

    None where that is none to draw by.
    """
    images = pictures.image(0), pictures.image(1)
    matrix = _between(best.found)
    if matrix is None:
        return None
    frame = _frame(best.found, matrix, images)
    if frame is None:
        return None
    view0_from_full, view1_from_full, size = frame
    edges = best.view == DRAWN_AS_EDGES
    seen0 = pictures.warped(0, way.features, view0_from_full, size, edges)
    seen1 = pictures.warped(1, way.features, view1_from_full, size, edges)
    found = replace(
        match_seen(pictures, way, seen0, seen1),
        indices=None,
        turn=best.found.turn,
        mirrored=best.found.mirrored,
    )
    return weigh(pictures, found, way, check, number, WHAT_BOTH_SHOW)


def _between(found: Matches) -> Matrix | None:
    """(3, 3) that takes image 0 about to where image 1 shows it: the homography, or else a
    similarity through the inliers. None where there is none."""
    geometry = found.geometry
    if geometry is None or geometry.matrix is None:
        return None
    if geometry.kind == "homography":
        return geometry.matrix
    points0, points1 = found.points0[found.inliers], found.points1[found.inliers]
    extent = float(np.ptp(points1, axis=0).max())
    fitted = similarity_of_pictures(
        points0, points1, threshold=max(0.05 * extent, 3.0), mirrored=found.mirrored
    )
    return None if fitted is None else fitted[0]


def _frame(
    found: Matches, matrix: Matrix, images: tuple[Image, Image]
) -> tuple[Matrix, Matrix, tuple[int, int]] | None:
    """What takes either picture's full-size pixels to the frame, and its (width, height)."""
    points0, points1 = found.points0[found.inliers], found.points1[found.inliers]
    scale = scale_at(matrix, *points0.mean(axis=0).tolist())
    if scale is None:
        return None
    # Of the pixels that are at hand, which may be fewer than the full size's.
    pixels = [image.pixels.shape[1] / image.width for image in images]
    finer1 = scale * pixels[1] >= pixels[0]
    coarse, points, image = (0, points0, images[0]) if finer1 else (1, points1, images[1])
    low, high = points.min(axis=0), points.max(axis=0)
    room = ROOM * (high - low).max()
    low = np.maximum(low - room, 0)
    high = np.minimum(high + room, [image.width, image.height])
    extent = (high - low) * pixels[coarse]
    if extent.min() < 1:
        return None
    longest = max(LONGEST, *(max(image.pixels.shape[:2]) for image in images))
    enlarged = min(longest / extent.max(), ENLARGED)
    size = int(np.ceil(extent[0] * enlarged)), int(np.ceil(extent[1] * enlarged))
    if min(size) < SMALLEST:
        return None
    zoom = enlarged * pixels[coarse]
    crop = np.array([[zoom, 0, -zoom * low[0]], [0, zoom, -zoom * low[1]], [0, 0, 1]])
    if not abs(np.linalg.det(matrix)) > 1e-12:
        return None
    other = crop @ (np.linalg.inv(matrix) if finer1 else matrix)
    return (crop, other, size) if finer1 else (other, crop, size)


def put_together(
    candidates: Sequence[Candidate],
    best: Candidate,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    pixels: tuple[float, float],
    refit: Callable[[Matches], Matches],
) -> Matches:
    """The matches of `best`, and of other attempts those that agree with its geometry and begin and
    end where no match does yet.

    Of an attempt of which no more agree than chance would have, none are taken; and all stay as
    they are where the geometry of all together is another one than that of `best`. sizes: (width,
    height) of both. pixels: how many full-size pixels one covers in either picture as features were
    found in it. refit: fits a geometry. The verdict is that of `best`: matches chosen for their
    agreement bear no witness.
    """
    others = [each for each in candidates if each is not best and len(each.found)]
    if not others or not best.inliers:
        return best.found
    geometry = refit(_joined([best.found, *(each.found for each in others)])).geometry
    assert geometry is not None
    ends = np.cumsum([len(best.found), *(len(each.found) for each in others)])
    own, *parts = np.split(geometry.inliers, ends[:-1])
    if (own & best.found.inliers).sum() < LOYAL * best.inliers:
        return best.found
    kept = [
        _some(each.found, agree)
        for each, agree in zip(others, parts, strict=True)
        if _speaks(geometry, agree, sizes)
    ]
    if not kept:
        return best.found
    together = refit(_joined(_one_to_one([best.found, *kept], pixels)))
    if together.inliers.sum() <= best.inliers:
        return best.found
    return together


def _speaks(
    geometry: Geometry, agree: BoolArray, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> bool:
    """Whether more of an attempt's matches agree than chance would have."""
    threshold = default_threshold(geometry.kind, *sizes)
    alarms = log10_false_alarms(geometry.kind, len(agree), int(agree.sum()), threshold, *sizes)
    return alarms < -AGREEING


def _one_to_one(parts: Sequence[Matches], pixels: tuple[float, float]) -> list[Matches]:
    """The parts without the matches that have an end where one before has its own.

    What has both there was found again, and to count it would make one point weigh as two; what has
    one there contradicts. The first part stays as it is.
    """
    from scipy.spatial import cKDTree

    close = []
    for points, pixel in zip(("points0", "points1"), pixels, strict=True):
        places = np.concatenate([getattr(part, points) for part in parts]) / pixel
        close.append(cKDTree(places).query_pairs(ONE_POINT, output_type="ndarray"))
    edges = np.concatenate(close)
    stays = np.ones(sum(map(len, parts)), bool)
    for before, after in edges[np.argsort(edges[:, 1], kind="stable")].tolist():
        stays[after] &= after < len(parts[0]) or not stays[before]
    first, *rest = np.split(stays, np.cumsum([len(part) for part in parts])[:-1])
    assert first.all()
    return [parts[0], *(_some(part, keep) for part, keep in zip(parts[1:], rest, strict=True))]


def _some(found: Matches, chosen: BoolArray) -> Matches:
    return replace(
        found,
        points0=found.points0[chosen],
        points1=found.points1[chosen],
        scores=found.scores[chosen],
        indices=None,
        geometry=None,
    )


def _joined(parts: Sequence[Matches]) -> Matches:
    """All of them, the best of each first: scores of different matchers are not of one scale."""
    first, *rest = parts
    if not rest:
        return first
    ranks = [1 - (np.arange(len(each)) + 0.5) / max(len(each), 1) for each in parts]
    scores = np.concatenate(ranks).astype(np.float32)
    models = dict.fromkeys(each.model for each in parts)
    licences = dict.fromkeys(each.licence for each in parts)
    return Matches(
        points0=np.concatenate([each.points0 for each in parts]),
        points1=np.concatenate([each.points1 for each in parts]),
        scores=scores,
        turn=first.turn,
        mirrored=first.mirrored,
        model="; ".join(models),
        licence="; ".join(licences),
    )
