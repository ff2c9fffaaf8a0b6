"""Near-copies in a store: resized, recompressed, cropped, turned and mirrored ones.

Candidates (`copy_candidates`) are checked by local matches: both pictures must show the same under
one near-similar homography, most of either or all of the smaller part, and their pixels must agree
there (`agreement`). Pixels are read from the files, so what is gone or has changed since it was
added is left out. Stored features are for one way up and for one size, so turned and mirrored
pictures, and larger ones than their copies, are extracted again.

A group is what agrees with its first picture; a chain of copies of copies does not make one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from covis.errors import ImageError
from covis.features.extractor import Extractor
from covis.geometry import estimate_geometry
from covis.geometry.agreement import COMPARED_SIDE, View, compare, is_near_similar
from covis.geometry.polygon import area, clipped
from covis.images.decode import SMALL, enlarged, load_image
from covis.images.orientation import UPRIGHT, Orientation
from covis.matching import Matcher
from covis.search.copy_candidates import find_candidates, without_bars
from covis.search.file_states import StoredFile, one_each, state_now, stored_rows
from covis.search.store import Store, fixed, reported
from covis.types import Features, Matrix

LARGER = 1.5
"""A picture so many times as large as the other is also compared shrunk to its size."""
MIN_INLIERS = 20
MIN_OVERLAP = 0.5
"""What both pictures show, over what either shows, of a near-copy that is no part of the other."""
MIN_PART, MIN_INSIDE = 0.2, 0.95
"""A part of a picture is a copy where it shows so much of the picture, and little else."""
KEPT_IN_MEMORY = 256
TOGETHER = 128
"""Pairs whose stored features are read together."""
KEPT_VIEWS = 64


@dataclass(frozen=True)
class Copy:
    """A member of a group: mirrored where it says so, then turned clockwise by `turn` degrees, it
    looks like the group's first. identical: whether its bytes are those of the first."""

    path: str
    width: int
    height: int
    turn: int = 0
    mirrored: bool = False
    identical: bool = False


Group = tuple[Copy, ...]
"""Near-copies, the likely original first: the one with the most pixels that are no bars, then the
largest, then the oldest file."""


def find_groups(
    store: Store, extract: Extractor, report: Callable[[float], None] | None = None
) -> list[Group]:
    """All groups of a store, the largest first; see `Index.duplicates`."""
    store.refresh()
    store = store.snapshot()
    pictures = _Pictures(store, extract)
    links = _Links(len(pictures.files))
    candidates = find_candidates(store, pictures.usable, report)
    while some := list(islice(candidates, TOGETHER)):
        some = [(one, other, way) for one, other, way in some if not links.connected(one, other)]
        pictures.fetch({place for one, other, _ in some for place in (one, other)})
        for one, other, way in some:
            if links.connected(one, other):
                continue
            matrix = pictures.checked(one, other, way)
            if matrix is not None:
                links.add(one, other, matrix)
    groups = pictures.groups(links)
    return sorted(groups, key=lambda group: (-len(group), group[0].path))


class _Links:
    """Pairs of copies: the homography of each, and which pictures hang together by them."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))
        self._matrices: dict[int, dict[int, Matrix]] = {}

    def connected(self, one: int, other: int) -> bool:
        return self._root(one) == self._root(other)

    def add(self, one: int, other: int, other_from_one: Matrix) -> None:
        self._matrices.setdefault(one, {})[other] = other_from_one
        one_from_other = np.asarray(np.linalg.inv(other_from_one), np.float64)
        self._matrices.setdefault(other, {})[one] = one_from_other
        self._parents[self._root(one)] = self._root(other)

    def reached(self, first: int) -> dict[int, Matrix]:
        """All that hang together with a picture, nearest first, and the homographies to them."""
        found: dict[int, Matrix] = {first: np.eye(3)}
        queue = [first]
        for here in queue:
            for there, matrix in self._matrices.get(here, {}).items():
                if there not in found:
                    found[there] = matrix @ found[here]
                    queue.append(there)
        return found

    def _root(self, place: int) -> int:
        while self._parents[place] != place:
            self._parents[place] = self._parents[self._parents[place]]
            place = self._parents[place]
        return place


class _Pictures:
    """What is known of the pictures, by their place in the table.

    files: of each, those that are there. usable: (N,), which have one.
    """

    def __init__(self, store: Store, extract: Extractor) -> None:
        self._store, self._extract = store, extract
        self._match = Matcher("nearest")
        with reported(store.uri):
            columns = ["content", "width", "height"]
            rows = store.images.to_table(columns=columns, with_row_id=True)
        self._rows = rows["_rowid"].to_numpy()
        self._sizes = np.stack([rows["width"].to_numpy(), rows["height"].to_numpy()], axis=1)
        self._shares = np.empty(len(self._rows), np.float32)
        for begin, block in store.blocks(["thumbnail"]):
            shares = without_bars(fixed(block["thumbnail"], np.float32))[1]
            self._shares[begin : begin + len(shares)] = shares
        by_content: dict[str, list[StoredFile]] = {}
        for row in stored_rows(store):
            by_content.setdefault(row["content"], []).append(state_now(row))
        self.files = [one_each(by_content.pop(str(key), [])) for key in rows["content"]]
        self.usable: NDArray[np.bool_] = np.array([bool(each) for each in self.files], bool)
        self._stored: dict[int, Features] = {}
        self._features = lru_cache(KEPT_IN_MEMORY)(self._extracted)
        self._view = lru_cache(KEPT_VIEWS)(self._read)

    def fetch(self, places: set[int]) -> None:
        """Have the stored features of these pictures at hand, and no others."""
        missing = sorted(places - set(self._stored))
        found = self._store.features(self._rows[missing].tolist()) if missing else []
        fetched = {place: features for place, (_, features) in zip(missing, found, strict=True)}
        kept = {place: each for place, each in self._stored.items() if place in places}
        self._stored = kept | fetched

    def checked(self, one: int, other: int, way: Orientation) -> Matrix | None:
        """The homography from a picture to its copy; None where that is none.

        way: how the second is changed to be matched.
        """
        for longest in self._longest(one, other):
            first = self._features(one, UPRIGHT, longest[0])
            second = self._features(other, way, longest[1])
            if first is None or second is None:
                continue
            matrix = _homography(self._match, first, second)
            if matrix is None:
                continue
            matrix = way.inverse.homography((second.width, second.height)) @ matrix
            if self.agree(one, other, matrix):
                return matrix
        return None

    def agree(self, one: int, other: int, other_from_one: Matrix) -> bool:
        """Whether two pictures are copies under a homography."""
        sizes = self._size(one), self._size(other)
        # Beyond a part of a picture the homography is not exact: seen from there it may be.
        one_from_other = np.asarray(np.linalg.inv(other_from_one), np.float64)
        near = is_near_similar(other_from_one, sizes[0])
        near = near or is_near_similar(one_from_other, sizes[1])
        if not (near and _share_enough(other_from_one, *sizes)):
            return False
        first, second = self._view(one), self._view(other)
        return (
            first is not None
            and second is not None
            and compare(first, second, other_from_one).copies
        )

    def groups(self, links: _Links) -> Iterator[Group]:
        """Each picture in one group at most, that of the likeliest original."""
        left = set(np.flatnonzero(self.usable).tolist())
        for first in sorted(left, key=self._originality):
            if first not in left:
                continue
            members = {first: np.eye(3)}
            for place, chained in links.reached(first).items():
                if place not in left or place == first:
                    continue
                matrix = self._directly(first, place, chained)
                if matrix is not None:
                    members[place] = matrix
            left -= set(members)
            if sum(len(self.files[place]) for place in members) > 1:
                yield self._group(first, members)

    def _directly(self, first: int, place: int, chained: Matrix) -> Matrix | None:
        """The homography to a copy of a copy, where it agrees with the first itself."""
        if self.agree(first, place, chained):
            return chained
        # What was found by way of a small copy is not exact.
        width, height = self._size(first)
        middle = width / 2, height / 2
        return self.checked(first, place, Orientation.from_homography(chained, middle))

    def _originality(self, place: int) -> tuple[float, int, int, str]:
        width, height = self._size(place)
        file = self.files[place][0]
        return -width * height * float(self._shares[place]), -file.size, file.modified, file.path

    def _group(self, first: int, members: dict[int, Matrix]) -> Group:
        width, height = self._size(first)
        middle = width / 2, height / 2
        copies: list[Copy] = []
        for place in sorted(members, key=lambda place: (place != first, self._originality(place))):
            way = Orientation.from_homography(members[place], middle)
            size = self._size(place)
            for file in self.files[place]:
                same = place == first and bool(copies)
                copies.append(Copy(file.path, *size, way.turn, way.mirrored, identical=same))
        return tuple(copies)

    def _size(self, place: int) -> tuple[int, int]:
        width, height = self._sizes[place].tolist()
        return width, height

    def _longest(self, one: int, other: int) -> Iterator[tuple[int | None, int | None]]:
        """The longer sides that two pictures are matched at, None for what is stored."""
        yield None, None
        largest = self._extract.max_size or math.inf
        mine, theirs = (min(max(SMALL, *self._size(each)), largest) for each in (one, other))
        if mine >= LARGER * theirs:
            yield round(theirs), None
        elif theirs >= LARGER * mine:
            yield None, round(mine)

    def _extracted(self, place: int, way: Orientation, longest: int | None) -> Features | None:
        """Those of a picture mirrored and turned, and shrunk to a longer side; None where the file
        cannot be read any more."""
        if (way, longest) == (UPRIGHT, None):
            if place in self._stored:
                return self._stored[place]
            return self._store.features([int(self._rows[place])])[0][1]
        try:
            path = self.files[place][0].path
            image = load_image(path, max_size=longest or self._extract.max_size)
        except ImageError:
            return None
        return self._extract(enlarged(way.of_picture(image)))

    def _read(self, place: int) -> View | None:
        try:
            return View.of(load_image(self.files[place][0].path, max_size=COMPARED_SIDE))
        except ImageError:
            return None


def _homography(match: Matcher, features0: Features, features1: Features) -> Matrix | None:
    """From picture 0 to picture 1, by their matches; None where too few agree."""
    found = match(features0, features1)
    model = estimate_geometry(
        found.points0,
        found.points1,
        "homography",
        size0=(features0.width, features0.height),
        size1=(features1.width, features1.height),
        scores=found.scores,
        max_iterations=1000,
    )
    return model.matrix if model.inliers.sum() >= MIN_INLIERS else None


def _share_enough(h_1from0: Matrix, size0: tuple[int, int], size1: tuple[int, int]) -> bool:
    """Whether two pictures show mostly the same, or one a good part of the other."""
    both, whole0, whole1 = _areas(h_1from0, size0, size1)
    if both >= MIN_OVERLAP * (whole0 + whole1 - both):
        return True
    smaller, larger = sorted((whole0, whole1))
    return both >= MIN_INSIDE * smaller and both >= MIN_PART * larger


def _areas(
    h_1from0: Matrix, size0: tuple[int, int], size1: tuple[int, int]
) -> tuple[float, float, float]:
    """In pixels of image 1: what both pictures show, all of picture 0, all of picture 1.

    Nothing in common where picture 0 reaches infinity.
    """
    (w0, h0), (w1, h1) = size0, size1
    corners = np.array([[0, 0, 1], [w0, 0, 1], [w0, h0, 1], [0, h0, 1]], np.float64) @ h_1from0.T
    if not (corners[:, 2] > 0).all():
        return 0.0, math.inf, float(w1 * h1)
    outline = corners[:, :2] / corners[:, 2:]
    return area(clipped(outline, (0, 0, w1, h1))), area(outline), float(w1 * h1)
