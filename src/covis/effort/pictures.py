"""The two pictures of a pair, and the features found in them: as they are, turned, reduced, warped.

Each is found once. Whatever a picture was changed to, its features know the way back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from covis.effort.plan import Plan, Way
from covis.features.extractor import Extractor
from covis.features.registry import ratio_of
from covis.images.decode import enlarged, resampled
from covis.images.edges import edge_strength
from covis.images.orientation import UPRIGHT, Orientation
from covis.matching.matcher import Matcher
from covis.options import ExtractorOptions, MatcherOptions, RuntimeOptions
from covis.timing import timed
from covis.types import Features, FloatArray, Image, Matrix


class Change(NamedTuple):
    """How a picture is changed before features are found in it.

    mirrored: left to right. turn: then, degrees clockwise, 90, 180 or 270. reduced: to so manyth
    of its side. edges: instead of its colours how strong its edges are, see `drawn_as_edges`.
    """

    turn: int = 0
    reduced: int = 1
    mirrored: bool = False
    edges: bool = False


AS_IT_IS = Change()


@dataclass(frozen=True, eq=False)
class Seen:
    """The features of a picture as it was seen.

    full_from_view: (3, 3), from their coordinates to full-size pixels of the picture as it is;
    None where they are these.
    """

    features: Features
    full_from_view: Matrix | None = None

    def take(self, count: int | None) -> Seen:
        """The best of them."""
        if count is None or len(self.features) <= count:
            return self
        return replace(self, features=self.features.take(slice(count)))

    def full(self, points: FloatArray) -> FloatArray:
        """(N, 2) in the view's coordinates -> full-size pixels."""
        if self.full_from_view is None or not len(points):
            return points
        moved = cv2.perspectiveTransform(points[:, None].astype(np.float64), self.full_from_view)
        return np.asarray(moved[:, 0], np.float32)


class Tools:
    """Extractors and matchers by name, opened when they are needed.

    options: their sizes. full_depth: of all LightGlues. seconds: takes the time of each stage.
    """

    def __init__(
        self,
        options: ExtractorOptions,
        runtime: RuntimeOptions | None = None,
        full_depth: bool = False,
    ) -> None:
        self._options, self._runtime, self._full_depth = options, runtime, full_depth
        self.seconds: dict[str, float] = {}
        self._extractors: dict[str, Extractor] = {}
        self._matchers: dict[Way, Matcher] = {}

    def extractor(self, features: str) -> Extractor:
        """The one of a name. Raises BundleError where there is none."""
        if features not in self._extractors:
            with timed(self.seconds, "load"):
                options = replace(self._options, features=features)
                self._extractors[features] = Extractor.from_options(options, self._runtime)
        return self._extractors[features]

    def matcher(self, way: Way) -> Matcher:
        """The one of a way. Raises BundleError or ArgumentError as `Matcher.opened` does."""
        if way not in self._matchers:
            model = self.extractor(way.features).model
            with timed(self.seconds, "load"):
                ratio = ratio_of(model) if way.matcher == "nearest" else None
                full = self._full_depth and way.matcher != "nearest"
                options = MatcherOptions(matcher=way.matcher, max_ratio=ratio, full_depth=full)
                found = Matcher.from_options(options, self._runtime)
                found.opened(model)
            self._matchers[way] = found
        return self._matchers[way]

    def digest(self, plan: Plan) -> str:
        """Tells apart plans whose ways, or the weights of any, differ; opens all of them."""
        parts = []
        for way in (plan.cheap, *plan.others):
            bundle = self.matcher(way).bundle(self.extractor(way.features).model)
            weights = "" if bundle is None else bundle.digest()
            name = way.matcher if bundle is None else bundle.name
            parts.append([self.extractor(way.features).weights, name, weights, way.keypoints])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class Pictures:
    """Both pictures of a pair."""

    def __init__(
        self,
        load: Callable[[int], Image],
        tools: Tools,
        known: Callable[[int, str, Change], Features | None] = lambda *_: None,
    ) -> None:
        """load: picture 0 or 1, not larger than features are to be found in; asked once, and only
        where it is needed. known: features that need not be found any more, of picture 0 or 1, by
        their name, seen so; None where they do.
        """
        self._load, self.tools, self._known = load, tools, known
        self._images: dict[int, Image] = {}
        self._seen: dict[tuple[int, str, Change], Seen] = {}

    def with_other(self, image1: Image) -> Pictures:
        """Picture 0, with what was found in it, and another picture 1."""
        other = Pictures(lambda number: image1 if number else self._load(0), self.tools)
        other._images = {n: image for n, image in self._images.items() if n == 0}
        other._seen = {key: seen for key, seen in self._seen.items() if key[0] == 0}
        return other

    def image(self, number: int) -> Image:
        """Picture 0 or 1, small ones enlarged."""
        if number not in self._images:
            with timed(self.tools.seconds, "decode"):
                self._images[number] = enlarged(self._load(number))
        return self._images[number]

    def pixel(self, number: int) -> float:
        """How many full-size pixels one of `image` covers."""
        image = self.image(number)
        return max(image.width, image.height) / max(image.pixels.shape[:2])

    def seen(self, number: int, features: str, view: Change = AS_IT_IS) -> Seen:
        """The features of picture 0 or 1."""
        key = number, features, view
        if key not in self._seen:
            turned = Orientation(view.turn, view.mirrored)
            found = self._known(*key)
            if found is None:
                image, extract = self.image(number), self.tools.extractor(features)
                with timed(self.tools.seconds, "extract"):
                    image = drawn_as_edges(image) if view.edges else image
                    found = extract(turned.of_picture(_reduced(image, view.reduced)))
            back = None
            if turned != UPRIGHT:
                back = turned.inverse.homography((found.width, found.height))
            self._seen[key] = Seen(found, back)
        return self._seen[key]

    def warped(
        self,
        number: int,
        features: str,
        view_from_full: Matrix,
        size: tuple[int, int],
        edges: bool = False,
    ) -> Seen:
        """The features of picture 0 or 1 drawn anew, (width, height) `size`; not kept."""
        image, extract = self.image(number), self.tools.extractor(features)
        with timed(self.tools.seconds, "extract"):
            drawn = _warped(image, view_from_full, size)
            found = extract(drawn_as_edges(drawn) if edges else drawn)
        return Seen(found, np.linalg.inv(view_from_full).astype(np.float64))


def _reduced(image: Image, factor: int) -> Image:
    """A picture with fewer pixels; its full size stays as it is."""
    if factor == 1:
        return image
    height, width = image.pixels.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    return resampled(image, size, cv2.INTER_AREA)


def drawn_as_edges(image: Image) -> Image:
    """A picture of how strong the edges of another one are."""
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    drawn = cv2.cvtColor(edge_strength(grey), cv2.COLOR_GRAY2RGB)
    return replace(image, pixels=np.asarray(drawn, np.uint8))


MARGIN = 6
"""Pixels along the edge of a warped picture where nothing is found."""


def _warped(image: Image, view_from_full: Matrix, size: tuple[int, int]) -> Image:
    """A picture drawn in other coordinates, what lies beyond it masked.

    The centre of the top-left pixel is (0.5, 0.5) in both.
    """
    height, width = image.pixels.shape[:2]
    full_from_pixels = np.diag([image.width / width, image.height / height, 1.0])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = np.linalg.inv(half) @ view_from_full @ full_from_pixels @ half
    pixels = image.pixels
    left_out = scale_at(np.linalg.inv(matrix), size[0] / 2, size[1] / 2) or 1.0
    if left_out > 1.3:  # They would alias.
        deviation = 0.45 * np.sqrt(left_out**2 - 1)
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), deviation), np.uint8)
    drawn = cv2.warpPerspective(
        pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = np.zeros((height, width), np.uint8)
    inside[MARGIN:-MARGIN, MARGIN:-MARGIN] = 1
    if image.mask is not None:
        inside[image.mask] = 0
    seen = cv2.warpPerspective(inside, matrix, size, flags=cv2.INTER_NEAREST)
    return replace(
        image,
        pixels=np.asarray(drawn, np.uint8),
        mask=seen == 0,
        width=size[0],
        height=size[1],
    )


def scale_at(matrix: Matrix, x: float, y: float) -> float | None:
    """How many times larger a homography makes what lies at a point; None where it tears it."""
    corner = np.array([[[x, y], [x + 1, y], [x, y + 1]]], np.float64)
    origin, right, down = cv2.perspectiveTransform(corner, matrix)[0]
    (a, b), (c, d) = right - origin, down - origin
    area = abs(a * d - b * c)
    return float(np.sqrt(area)) if 1e-4 < area < 1e4 else None
