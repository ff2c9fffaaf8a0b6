"""Near-copies in a store: resized, recompressed, lightly cropped, turned and mirrored ones.

Candidates are pairs with similar global vectors, which survive a crop, and pairs whose thumbnails
agree in one of the eight ways a picture can be turned and mirrored. Each is then checked by local
matches: most of both pictures must show the same under one homography, and their thumbnails must
agree there. Stored features are for one way up and for one size, so turned and mirrored pictures,
and larger ones than their copies, are extracted again, from their files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ImageError
from covis.features.extractor import Extractor
from covis.geometry import estimate_geometry
from covis.images.decode import load_image
from covis.images.orientation import turn_image
from covis.matching import Matcher
from covis.search.store import THUMBNAIL, Store, fixed, reported
from covis.types import Features, FloatArray, Image, Matrix

NEIGHBOURS = 10
"""Most similar pictures that each one is compared with."""
MIN_SIMILARITY, MIN_SIMILARITY_POOLED = 0.55, 0.95
"""Of the global vectors of two pictures that are compared; pooled ones are all rather alike."""
MIN_CORRELATION = 0.9
"""Of the thumbnails of two pictures that are compared."""
MIN_FLATNESS = 4.0
"""Thumbnails with a smaller standard deviation, of 255, look alike without being so."""
LARGER = 1.5
"""A picture so many times as large as the other is shrunk to its size before they are compared."""
MIN_INLIERS = 20
MIN_OVERLAP = 0.5
"""What both pictures show, over what either shows, of a near-copy."""
MIN_AGREEMENT = 0.8
"""Correlation of the thumbnails where both show the same. Near-copies have 0.93 and more; corridors
of several floors, whose matches agree by chance, 0.56 and less."""
BLOCK = 1024
KEPT_IN_MEMORY = 64

Way = tuple[int, bool]
WAYS: tuple[Way, ...] = tuple(
    (turn, mirrored) for mirrored in (False, True) for turn in (0, 90, 180, 270)
)
"""How a picture may stand to its copy: clockwise turn in degrees, after it was mirrored or not."""
UPRIGHT = WAYS[0]


@dataclass(frozen=True)
class Copy:
    """A member of a group: mirrored where it says so, then turned clockwise by `turn` degrees, it
    looks like the group's first."""

    path: str
    width: int
    height: int
    turn: int = 0
    mirrored: bool = False


Group = tuple[Copy, ...]
"""Near-copies, the one with the most pixels first."""


def find_groups(
    store: Store, extract: Extractor, report: Callable[[float], None] | None = None
) -> list[Group]:
    """All groups of a store, the largest first; see `Index.duplicates`."""
    store.refresh()
    pictures = _Pictures(store, extract)
    match = Matcher("nearest")
    links: dict[int, list[tuple[int, Way]]] = {}
    for one, other, way in _candidates(store, report):
        if _connected(links, one, other):
            continue
        first = pictures.features(one, UPRIGHT, pictures.shrunk(one, other))
        second = pictures.features(other, way, pictures.shrunk(other, one))
        if first is None or second is None:
            continue
        matrix = _homography(match, first, second)
        if matrix is None:
            continue
        sizes = (first.width, first.height), (second.width, second.height)
        if not _look_alike(pictures.thumbnail(one), pictures.thumbnail(other, way), matrix, sizes):
            continue
        # Features that know one way up match in no other.
        turn = standing(matrix, (first.width / 2, first.height / 2))[0]
        way = _after(way, (turn, False))
        links.setdefault(one, []).append((other, way))
        links.setdefault(other, []).append((one, inverse(way)))
    return sorted(pictures.groups(links), key=lambda group: (-len(group), group[0].path))


class _Pictures:
    """What is known of the pictures, by their place in the table."""

    def __init__(self, store: Store, extract: Extractor) -> None:
        self._store, self._extract = store, extract
        with reported(store.uri):
            columns = ["content", "width", "height", "thumbnail"]
            rows = store.images.to_table(columns=columns, with_row_id=True)
        self._thumbnails = fixed(rows["thumbnail"], np.uint8)
        self._rows = rows["_rowid"].to_pylist()
        self._contents = rows["content"].to_pylist()
        self._sizes = list(zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True))
        self._paths: dict[str, list[str]] = {}
        with reported(store.uri):
            for batch in store.files.to_batches(columns=["path", "content"]):
                for row in batch.to_pylist():
                    self._paths.setdefault(row["content"], []).append(row["path"])
        self.features = lru_cache(KEPT_IN_MEMORY)(self._features)

    def shrunk(self, place: int, other: int) -> int | None:
        """The longer side to which a picture is shrunk to be compared, None to leave it."""
        largest = self._extract.max_size or math.inf
        mine, theirs = (min(max(self._sizes[each]), largest) for each in (place, other))
        return round(theirs) if mine >= LARGER * theirs else None

    def _features(self, place: int, way: Way, longest: int | None) -> Features | None:
        """Those of a picture mirrored and turned, and shrunk to a longer side.

        Where its file is gone or has changed, those that are stored, or None for another way.
        """
        if (way, longest) != (UPRIGHT, None):
            for path in self._paths.get(self._contents[place], []):
                try:
                    image = load_image(path, max_size=longest or self._extract.max_size)
                except ImageError:
                    continue
                if (image.width, image.height) == self._sizes[place]:
                    return self._extract(stood(image, way))
        return self._store.features([self._rows[place]])[0][1] if way == UPRIGHT else None

    def thumbnail(self, place: int, way: Way = UPRIGHT) -> FloatArray:
        """(16, 16), that of a picture mirrored and turned."""
        row = self._thumbnails[place : place + 1].astype(np.float32)
        return _stood(row, way).reshape(THUMBNAIL, THUMBNAIL)

    def groups(self, links: dict[int, list[tuple[int, Way]]]) -> Iterator[Group]:
        """Linked pictures, and those that several files have."""
        seen: set[int] = set()
        for place, content in enumerate(self._contents):
            if place in seen or not (place in links or len(self._paths.get(content, [])) > 1):
                continue
            ways = {place: UPRIGHT}
            queue = [place]
            for here in queue:
                for there, way in links.get(here, []):
                    if there not in ways:
                        ways[there] = _after(way, ways[here])
                        queue.append(there)
            seen |= set(ways)
            yield self._group(ways)

    def _group(self, ways: dict[int, Way]) -> Group:
        best = max(ways, key=lambda place: self._sizes[place][0] * self._sizes[place][1])
        back = inverse(ways[best])
        ordered = sorted(ways, key=lambda place: (place != best, place))
        return tuple(
            Copy(path, *self._sizes[place], *_after(ways[place], back))
            for place in ordered
            for path in sorted(self._paths.get(self._contents[place], []))
        )


def _candidates(
    store: Store, report: Callable[[float], None] | None
) -> Iterator[tuple[int, int, Way]]:
    """Pairs of places in the table, the first one smaller, and how the second stands to it."""
    with reported(store.uri):
        rows = store.images.to_table(columns=["vector", "thumbnail"])
    vectors = fixed(rows["vector"], np.float32)
    thumbnails = fixed(rows["thumbnail"], np.float32)
    turned = [_standardised(_stood(thumbnails, way)) for way in WAYS]
    least = MIN_SIMILARITY_POOLED if store.identity.pooled else MIN_SIMILARITY
    for begin in range(0, len(vectors), BLOCK):
        block = slice(begin, begin + BLOCK)
        pairs = dict.fromkeys(_above(vectors[block], vectors, begin, least))
        for stood in turned:
            pairs |= dict.fromkeys(_above(turned[0][block], stood, begin, MIN_CORRELATION))
        for one, other in pairs:
            alike = [float(turned[0][one] @ stood[other]) for stood in turned]
            for place in np.argsort(-np.array(alike), kind="stable"):
                # A crop changes the thumbnail, so upright ones are tried whatever it says.
                if alike[place] >= MIN_CORRELATION or place == 0:
                    yield one, other, WAYS[place]
        if report is not None:
            report(min(1.0, (begin + BLOCK) / len(vectors)))


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


def _stood(thumbnails: FloatArray, way: Way) -> FloatArray:
    """(N, 256) thumbnails as those of the pictures mirrored and turned."""
    squares = thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL)
    if way[1]:
        squares = squares[:, :, ::-1]
    return np.rot90(squares, -way[0] // 90, axes=(1, 2)).reshape(-1, THUMBNAIL**2)


def _standardised(thumbnails: FloatArray) -> FloatArray:
    """Rows of mean 0 and length 1, whose products are correlations; zeros where flat."""
    flat = thumbnails.std(axis=1) < MIN_FLATNESS
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    centred[flat] = 0
    return np.ascontiguousarray(centred)


def _homography(match: Matcher, features0: Features, features1: Features) -> Matrix | None:
    """From picture 0 to picture 1; None where they cannot be near-copies."""
    found = match(features0, features1)
    size0, size1 = (features0.width, features0.height), (features1.width, features1.height)
    model = estimate_geometry(
        found.points0,
        found.points1,
        "homography",
        size0=size0,
        size1=size1,
        scores=found.scores,
        max_iterations=1000,
    )
    if model.matrix is None or model.inliers.sum() < MIN_INLIERS:
        return None
    return model.matrix if _overlap(model.matrix, size0, size1) >= MIN_OVERLAP else None


def standing(h_1from0: Matrix, middle: tuple[float, float]) -> Way:
    """How image 1 stands to image 0, by their homography around a point of image 0."""
    x, y = middle
    around = np.array([[x, y], [x + 1, y], [x, y + 1]], np.float64)
    origin, *ends = cv2.perspectiveTransform(around[:, None], h_1from0)[:, 0]
    across, down = (end - origin for end in ends)
    mirrored = bool(across[0] * down[1] < across[1] * down[0])
    angle = math.atan2(across[1], -across[0] if mirrored else across[0])
    return round(-math.degrees(angle) / 90) * 90 % 360, mirrored


def likely_ways(thumbnail: NDArray[np.uint8], others: FloatArray) -> list[Way | None]:
    """By the thumbnails of a picture and of others (N, 256): how it must stand to look like each.

    None where it looks like it in no way.
    """
    turned = np.concatenate(
        [_stood(thumbnail.reshape(1, -1).astype(np.float32), way) for way in WAYS]
    )
    alike = _standardised(others) @ _standardised(turned).T
    best = alike.argmax(axis=1)
    return [
        WAYS[way] if row[way] >= MIN_CORRELATION else None
        for row, way in zip(alike, best, strict=True)
    ]


def _look_alike(
    thumbnail0: FloatArray,
    thumbnail1: FloatArray,
    h_1from0: Matrix,
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> bool:
    """Whether two thumbnails agree where the homography says that they show the same."""
    # Pixels of a thumbnail, the first one's centre at 0, to those of its picture.
    full = [
        np.array(
            [
                [w / THUMBNAIL, 0, w / THUMBNAIL / 2],
                [0, h / THUMBNAIL, h / THUMBNAIL / 2],
                [0, 0, 1],
            ]
        )
        for w, h in sizes
    ]
    warp = np.linalg.inv(full[1]) @ h_1from0 @ full[0]
    shape = (THUMBNAIL, THUMBNAIL)
    inside = cv2.warpPerspective(np.ones(shape, np.float32), warp, shape) > 0.99
    both = np.stack([cv2.warpPerspective(thumbnail0, warp, shape)[inside], thumbnail1[inside]])
    if both.std(axis=1).min(initial=np.inf) < MIN_FLATNESS:
        return True
    return bool(np.corrcoef(both)[0, 1] >= MIN_AGREEMENT)


def _overlap(h_1from0: Matrix, size0: tuple[int, int], size1: tuple[int, int]) -> float:
    """The area that both pictures show over the area that either does, in pixels of image 1."""
    (w0, h0), (w1, h1) = size0, size1
    corners = np.array([[0, 0, 1], [w0, 0, 1], [w0, h0, 1], [0, h0, 1]], np.float64) @ h_1from0.T
    if not (corners[:, 2] > 0).all():
        return 0.0
    outline = (corners[:, :2] / corners[:, 2:]).astype(np.float32)
    frame = np.array([[0, 0], [w1, 0], [w1, h1], [0, h1]], np.float32)
    if not cv2.isContourConvex(outline):
        return 0.0
    both, _ = cv2.intersectConvexConvex(outline, frame)
    either = cv2.contourArea(outline) + w1 * h1 - both
    return float(both / either)


def stood(image: Image, way: Way) -> Image:
    """The picture mirrored where it says so, then turned."""
    if way[1]:
        mask = None if image.mask is None else image.mask[:, ::-1]
        image = replace(image, pixels=np.ascontiguousarray(image.pixels[:, ::-1]), mask=mask)
    return turn_image(image, way[0])


def inverse(way: Way) -> Way:
    turn, mirrored = way
    # A mirrored turn is its own inverse.
    return way if mirrored else ((360 - turn) % 360, False)


def _after(first: Way, then: Way) -> Way:
    """One way of standing and then another, as one."""
    turn = -first[0] if then[1] else first[0]
    return (turn + then[0]) % 360, first[1] != then[1]


def _connected(links: dict[int, list[tuple[int, Way]]], one: int, other: int) -> bool:
    seen, queue = {one}, [one]
    for here in queue:
        for there, _ in links.get(here, []):
            if there not in seen:
                seen.add(there)
                queue.append(there)
    return other in seen
