"""Which pictures of a store may be copies of each other, and how one may stand to the other.

By their global vectors, which survive a crop, and by their thumbnails, which tell the eight ways a
picture can be turned and mirrored, and survive any reduction. Bars at a picture's edges are the
same in many pictures and no evidence: they are taken off the thumbnails first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from covis.images.orientation import ORIENTATIONS, UPRIGHT, Orientation
from covis.search.neighbours import Neighbours, Pairs, by_chance
from covis.search.store import THUMBNAIL, Store, fixed, quantised
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
BLOCK, LARGE_BLOCK = 1024, 16384
"""Pictures that are looked at together, in a store whose pictures are all compared and in others.
"""
UNSHARED = 128
"""Rows of a product of thumbnails, see `_products`."""
ALL_PAIRS_UP_TO = 100_000
"""With more pictures those that are near by chance are too many, and not all pairs are compared."""
PROBES, PROBES_OF_THUMBNAILS = 16, 4
"""Of the parts of a large store, see `Neighbours`: where copies of a picture are looked for. Those
whose thumbnails are alike lie close together."""
CHANCES, CHANCES_TURNED = 1.0, 0.02
"""So many other pictures may be as near to one by chance, in a large store, on average; mirrored
and turned ones are read from their files to be checked."""

Pair = tuple[int, int, Orientation]


def find_candidates(
    store: Store, usable: NDArray[np.bool_], report: Callable[[float], None] | None
) -> Iterator[Pair]:
    """Pairs of places in the table, the first one smaller, and how the second stands to it.

    usable: (N,), which pictures count. report: called with the share that is done, 0..1.
    """
    places = np.flatnonzero(usable)
    large = len(places) > ALL_PAIRS_UP_TO
    near = _Near(store, places, large)
    step = LARGE_BLOCK if large else BLOCK
    for begin in range(0, len(places), step):
        count = min(step, len(places) - begin)
        pairs, whole = near.later(begin, count)
        for at in range(0, len(pairs), BLOCK):
            some = slice(at, at + BLOCK)
            for one, other, way in near.ways(pairs[some], whole[some]):
                yield int(places[one]), int(places[other]), way
            if report is not None:
                report((begin + count * min(1.0, (at + BLOCK) / len(pairs))) / len(places))
    if report is not None:
        report(1.0)


class _Near:
    """What tells which pictures are near to each other."""

    def __init__(self, store: Store, places: NDArray[np.int64], large: bool) -> None:
        pooled = store.identity.pooled
        self._vectors, self._thumbnails, self._scales = _described(store, places, large)
        count = len(places)
        self._by_vector = Neighbours(self._vector, count, PROBES if large else 0)
        self._by_thumbnail = Neighbours(self._view, count, PROBES_OF_THUMBNAILS if large else 0)
        self._least = MIN_SIMILARITY_POOLED if pooled else MIN_SIMILARITY
        self._cropped = None if pooled else MIN_SIMILARITY_CROPPED
        self._alike = dict.fromkeys(ORIENTATIONS, MIN_CORRELATION)
        if not large:
            return
        chance = by_chance(self._vector, count, CHANCES)
        self._least = max(self._least, chance)
        if self._cropped is not None:
            self._cropped = max(self._cropped, by_chance(self._vector, count, NEIGHBOURS))
        upright, other = (
            max(MIN_CORRELATION, by_chance(self._view, count, chances / len(ORIENTATIONS)))
            for chances in (CHANCES, CHANCES_TURNED)
        )
        self._alike = {way: upright if way == UPRIGHT else other for way in ORIENTATIONS}

    def later(self, begin: int, count: int) -> tuple[Pairs, NDArray[np.bool_]]:
        """Of `count` pictures from `begin` on, the later ones that may be copies, in order; and
        whether they may be copies of the whole, or only parts of each other."""
        block = np.arange(begin, begin + count)
        least = self._least if self._cropped is None else min(self._cropped, self._least)
        near, similar = self._by_vector.above(self._vector(block), block, least, NEIGHBOURS)
        near[:, 0] += begin
        views = self._view(block)
        views = np.concatenate([turned(views, way.inverse) for way in self._alike])
        places = np.tile(block, len(self._alike))
        alike = np.repeat(np.array([*self._alike.values()], np.float32), count)
        look, values = self._by_thumbnail.above(views, places, float(alike.min()), NEIGHBOURS)
        look = look[values >= alike[look[:, 0]]]
        look[:, 0] = places[look[:, 0]]
        whole = np.unique(np.concatenate([near[similar >= self._least], look]), axis=0)
        both, first = np.unique(np.concatenate([whole, near]), axis=0, return_index=True)
        return both, first < len(whole)

    def ways(self, pairs: Pairs, whole: NDArray[np.bool_]) -> Iterator[Pair]:
        """Pairs (N, 2), and how the second picture of each may stand to the first."""
        first, second = (self._view(places) for places in pairs.T)
        alike = np.stack(
            [np.einsum("nd,nd->n", first, turned(second, way)) for way in ORIENTATIONS], axis=1
        )
        parts = {
            way: inside_each_other(first, turned(second, way))
            for way in (UPRIGHT, Orientation(mirrored=True))
        }
        for number, (one, other) in enumerate(pairs.tolist()):
            ways = _ways(alike[number]) if whole[number] else []
            ways += [way for way, best in parts.items() if best[number] >= MIN_CORRELATION_INSIDE]
            for way in dict.fromkeys(ways):
                yield one, other, way

    def _vector(self, places: NDArray[np.int64]) -> FloatArray:
        return self._vectors[places].astype(np.float32)

    def _view(self, places: NDArray[np.int64]) -> FloatArray:
        views = self._thumbnails[places].astype(np.float32)
        views *= self._scales[places, None]
        return views


def _described(
    store: Store, places: NDArray[np.int64], large: bool
) -> tuple[NDArray[Any], NDArray[Any], FloatArray]:
    """Of the pictures at these places in the table, in fewer bits where the store is large: vectors
    (N, G), standardised thumbnails without bars (N, 256), and what these are to be multiplied by,
    (N,)."""
    vectors = np.empty((len(places), store.identity.vector), np.float16 if large else np.float32)
    thumbnails = np.empty((len(places), THUMBNAIL**2), np.int8 if large else np.float32)
    scales = np.ones(len(places), np.float32)
    for begin, rows in store.blocks(["vector", "thumbnail"]):
        at, end = np.searchsorted(places, (begin, begin + len(rows)))
        some = places[at:end] - begin
        vectors[at:end] = fixed(rows["vector"], np.float32)[some]
        views = standardised(without_bars(fixed(rows["thumbnail"], np.float32)[some])[0])
        if large:
            views = quantised(views).astype(np.float32)
            scales[at:end] = 1 / np.maximum(np.linalg.norm(views, axis=1), 1e-6)
        thumbnails[at:end] = views
    return vectors, thumbnails, scales


def _ways(alike: FloatArray) -> list[Orientation]:
    """By how much the thumbnails are alike in each way: those to try, the likelier first.

    A crop changes the thumbnail, so upright is tried whatever it says.
    """
    best = 1 + int(alike[1:].argmax())
    if alike[best] < MIN_CORRELATION:
        return [UPRIGHT]
    other = ORIENTATIONS[best]
    return [other, UPRIGHT] if alike[best] > alike[0] else [UPRIGHT, other]


def inside_each_other(thumbnails0: FloatArray, thumbnails1: FloatArray) -> FloatArray:
    """Of pairs of standardised thumbnails (N, 256), the best correlation of either with a part of
    the other, -1..1: (N,); -1 where one is flat."""
    best = np.full(len(thumbnails0), -1, np.float32)
    for whole, part in ((thumbnails0, thumbnails1), (thumbnails1, thumbnails0)):
        square = whole.reshape(-1, THUMBNAIL, THUMBNAIL)
        sums, squares = (_integral(values) for values in (square, square.astype(np.float64) ** 2))
        for side in PARTS:
            small = part @ _shrinking(side)
            small -= small.mean(axis=1, keepdims=True)
            small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
            windows = sliding_window_view(square, (side, side), axis=(1, 2))
            products = np.einsum("npqij,nij->npq", windows, small.reshape(-1, side, side))
            spread = _of_windows(squares, side) - _of_windows(sums, side) ** 2 / side**2
            lengths = np.maximum(np.sqrt(np.maximum(spread, 0)), 1e-4)
            best = np.maximum(best, (products / lengths).max(axis=(1, 2)))
    there = thumbnails0.any(axis=1) & thumbnails1.any(axis=1)
    return np.where(there, best, -1).astype(np.float32)


def _integral(values: NDArray[Any]) -> NDArray[np.float64]:
    """(N, h, w) -> (N, h + 1, w + 1): the sums of all that is above and to the left."""
    sums = values.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    return np.pad(sums, ((0, 0), (1, 0), (1, 0)))


def _of_windows(sums: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The sums in all squares of that side, of what `_integral` gives."""
    across = sums[:, :, side:] - sums[:, :, :-side]
    return np.asarray(across[:, side:] - across[:, :-side], np.float64)


@cache
def _shrinking(side: int) -> FloatArray:
    """(256, side * side): what a thumbnail is multiplied by to have that side."""
    one_each = np.eye(THUMBNAIL**2, dtype=np.float32).reshape(-1, THUMBNAIL, THUMBNAIL)
    small = [cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in one_each]
    return np.stack(small).reshape(len(small), side * side).astype(np.float32)


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
