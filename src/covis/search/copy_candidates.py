"""Which pictures of a store may be copies of each other, and how one may stand to the other.

By their global vectors, which survive a crop, and by their thumbnails, which tell the eight ways a
picture can be turned and mirrored, and survive any reduction. Bars at a picture's edges are the
same in many pictures and no evidence: they are taken off the thumbnails first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.images.orientation import ORIENTATIONS, UPRIGHT, Orientation
from covis.search.store import THUMBNAIL, Store, fixed, reported
from covis.types import FloatArray

NEIGHBOURS = 10
"""Most similar pictures that each one is compared with, by vector and by thumbnail."""
MIN_SIMILARITY, MIN_SIMILARITY_POOLED = 0.4, 0.95
"""Of the global vectors of two pictures that are compared: of photos of other things one pair in
1,000 has 0.38. Pooled ones are all rather alike."""
MIN_SIMILARITY_CROPPED = 0.15
"""So much is enough where one thumbnail is a part of the other: what is cropped and made smaller,
or mirrored, has 0.2 to 0.5 with its original. Of photos of other things one pair in ten has it."""
MIN_CORRELATION_INSIDE = 0.85
"""Of a thumbnail with a part of the other's: of copies cropped by a fifth and halved 19 in 20 have
it, of pairs of other photos one in 50."""
PARTS = (8, 10, 12, 13, 14)
"""Sides of the parts, in pixels of the thumbnail."""
MIN_CORRELATION = 0.9
"""Of the thumbnails of two pictures that are compared."""
MIN_FLATNESS = 4.0
"""Thumbnails with a smaller standard deviation, of 255, look alike without being so."""
SAME_LEVEL = 8.0
"""Rows at an edge that differ by less from it belong to a bar."""
BLOCK, UNSHARED = 1024, 128

Pair = tuple[int, int, Orientation]


def find_candidates(
    store: Store, usable: NDArray[np.bool_], report: Callable[[float], None] | None
) -> Iterator[Pair]:
    """Pairs of places in the table, the first one smaller, and how the second stands to it.

    usable: (N,), which pictures count. report: called with the share that is done, 0..1.
    """
    with reported(store.uri):
        rows = store.images.to_table(columns=["vector", "thumbnail"])
    places = np.flatnonzero(usable[: len(rows)])
    vectors = fixed(rows["vector"], np.float32)[places]
    thumbnails = without_bars(fixed(rows["thumbnail"], np.float32)[places])[0]
    views = [standardised(turned(thumbnails, way)) for way in ORIENTATIONS]
    pooled = store.identity.pooled
    least = MIN_SIMILARITY_POOLED if pooled else MIN_SIMILARITY
    for begin in range(0, len(places), BLOCK):
        block = slice(begin, begin + BLOCK)
        pairs = dict.fromkeys(_above(vectors[block], vectors, begin, least))
        for view in views:
            pairs |= dict.fromkeys(_above(views[0][block], view, begin, MIN_CORRELATION))
        rest = [] if pooled else _above(vectors[block], vectors, begin, MIN_SIMILARITY_CROPPED)
        pairs |= {pair: False for pair in rest if pair not in pairs}
        for number, ((one, other), whole) in enumerate(sorted(pairs.items())):
            ways = _ways_of_part(thumbnails[one], thumbnails[other])
            if whole is None:
                alike = np.array([float(views[0][one] @ view[other]) for view in views])
                ways = list(dict.fromkeys(_ways(alike) + ways))
            for way in ways:
                yield int(places[one]), int(places[other]), way
            if report is not None:
                done = min(BLOCK, len(places) - begin) * (number + 1) / len(pairs)
                report((begin + done) / len(places))
    if report is not None:
        report(1.0)


def _ways(alike: FloatArray) -> list[Orientation]:
    """By how much the thumbnails are alike in each way: those to try, the likelier first.

    A crop changes the thumbnail, so upright is tried whatever it says.
    """
    best = 1 + int(alike[1:].argmax())
    if alike[best] < MIN_CORRELATION:
        return [UPRIGHT]
    other = ORIENTATIONS[best]
    return [other, UPRIGHT] if alike[best] > alike[0] else [UPRIGHT, other]


def _ways_of_part(thumbnail0: FloatArray, thumbnail1: FloatArray) -> list[Orientation]:
    """As `_ways`, where one picture is a part of the other: upright, mirrored or neither."""
    return [
        way
        for way in (UPRIGHT, Orientation(mirrored=True))
        if _inside_other(thumbnail0, turned(thumbnail1[None], way)[0]) >= MIN_CORRELATION_INSIDE
    ]


def _inside_other(thumbnail0: FloatArray, thumbnail1: FloatArray) -> float:
    """The best correlation of one of two thumbnails (256,) with a part of the other, -1..1."""
    square = [each.reshape(THUMBNAIL, THUMBNAIL) for each in (thumbnail0, thumbnail1)]
    if min(each.std() for each in square) < MIN_FLATNESS:
        return -1.0
    best = -1.0
    for whole, part in (square, square[::-1]):
        for side in PARTS:
            small = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
            best = max(best, float(cv2.matchTemplate(whole, small, cv2.TM_CCOEFF_NORMED).max()))
    return best


def most_alike(
    thumbnail: NDArray[np.uint8], others: NDArray[np.uint8], lengths: FloatArray, most: int
) -> list[tuple[int, Orientation]]:
    """By the thumbnails of a picture (16, 16) and of others (N, 256): which look like it, the most
    alike first, and how the picture must stand to look like each.

    lengths: (N,), what `centred_lengths` gives for the others.
    """
    own = thumbnail.reshape(1, -1).astype(np.float32)
    # Of mean 0, they need no other mean taken off.
    views = standardised(np.concatenate([turned(own, way) for way in ORIENTATIONS]))
    best, ways = np.empty(len(others), np.float32), np.empty(len(others), np.int64)
    for begin in range(0, len(others), BLOCK):
        block = slice(begin, begin + BLOCK)
        alike = _products(others[block].astype(np.float32), views)
        ways[block] = alike.argmax(axis=1)
        best[block] = alike.max(axis=1) / lengths[block]
    near = np.flatnonzero(best >= MIN_CORRELATION)
    near = near[np.argsort(-best[near], kind="stable")][:most]
    return [(int(place), ORIENTATIONS[ways[place]]) for place in near]


def _products(thumbnails: FloatArray, views: FloatArray) -> FloatArray:
    """(N, 256), (8, 256) -> (N, 8), some rows at a time: so few that OpenBLAS shares them with no
    other thread, for which it would wait where several search at once."""
    whole = len(thumbnails) // UNSHARED * UNSHARED
    some = thumbnails[:whole].reshape(-1, UNSHARED, THUMBNAIL**2) @ views.T
    rest = thumbnails[whole:] @ views.T
    return np.concatenate([some.reshape(-1, len(views)), rest])


def centred_lengths(thumbnails: NDArray[np.uint8]) -> FloatArray:
    """(N, 256) -> (N,): the lengths of their differences from their means; infinite where flat."""
    lengths = np.empty(len(thumbnails), np.float32)
    for begin in range(0, len(thumbnails), BLOCK):
        block = slice(begin, begin + BLOCK)
        spread = thumbnails[block].astype(np.float32).std(axis=1)
        lengths[block] = np.where(spread < MIN_FLATNESS, np.inf, THUMBNAIL * spread)
    return lengths


def turned(thumbnails: FloatArray, way: Orientation) -> FloatArray:
    """(N, 256) thumbnails as those of the pictures mirrored and turned."""
    places = np.arange(THUMBNAIL**2, dtype=np.int32).reshape(THUMBNAIL, THUMBNAIL)
    return thumbnails[:, way.of_image(places).ravel()]


def standardised(thumbnails: FloatArray) -> FloatArray:
    """Rows of mean 0 and length 1, whose products are correlations; zeros where flat."""
    flat = thumbnails.std(axis=1) < MIN_FLATNESS
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    centred[flat] = 0
    return np.ascontiguousarray(centred)


def without_bars(thumbnails: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(N, 256) thumbnails without the bars of one colour at their edges, at their old size.

    Also the share of each picture that is left, (N,).
    """
    shares = np.ones(len(thumbnails), np.float32)
    trimmed = thumbnails.copy()
    square = thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL)
    # Without a bar no edge has a line of one colour: a quick look at all of them.
    lines = np.stack([square[:, 0], square[:, -1], square[:, :, 0], square[:, :, -1]])
    for row in np.flatnonzero((np.ptp(lines, axis=2) < SAME_LEVEL).any(axis=0)):
        picture = square[row]
        top, bottom = _inside(picture)
        left, right = _inside(picture.T)
        if bottom - top < 4 or right - left < 4:
            continue
        part = np.ascontiguousarray(picture[top:bottom, left:right])
        size = (THUMBNAIL, THUMBNAIL)
        trimmed[row] = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR).ravel()
        shares[row] = part.size / picture.size
    return trimmed, shares


def _inside(picture: FloatArray) -> tuple[int, int]:
    """Where the rows begin and end that belong to no bar; a bar's last row may be half of it."""
    ends = []
    for rows in (picture, picture[::-1]):
        differs = np.abs(rows - rows[0, 0]).max(axis=1) >= SAME_LEVEL
        bar = int(differs.argmax()) if differs.any() else len(rows)
        ends.append(bar + 1 if bar else 0)
    return ends[0], len(picture) - ends[1]


def _above(
    block: FloatArray, others: FloatArray, begin: int, least: float
) -> Iterator[tuple[int, int]]:
    """Of each row, the later ones that are most alike, and enough so."""
    similarity = block @ others[begin:].T
    for row, values in enumerate(similarity):
        values[: row + 1] = -1
        near = np.flatnonzero(values >= least)
        for column in near[np.argsort(-values[near], kind="stable")][:NEIGHBOURS]:
            yield begin + row, begin + int(column)
