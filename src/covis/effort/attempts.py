"""One attempt at a pair, what it found, and how attempts are weighed against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from covis.effort.pictures import AS_IT_IS, Change, Pictures, Seen
from covis.effort.plan import Way
from covis.features.extractor import Extractor
from covis.geometry.independent_places import coverage
from covis.geometry.two_view import default_threshold, log10_false_alarms
from covis.geometry.verdict import Calibration
from covis.messages import turned
from covis.timing import timed
from covis.types import Features, Geometry, Matches, Verdict

Check = Callable[[Matches, Features, Features], Matches]
"""Fits a geometry to the matches of two sets of features, and judges; see `covis.verify`."""

Views = tuple[Change, Change]
AS_THEY_ARE: Views = (AS_IT_IS, AS_IT_IS)
AS_EDGES: Views = (Change(edges=True), Change(edges=True))

ENOUGH = 150
"""Inliers that place a geometry well."""
COVERED = 0.25
"""The share of either picture that they must lie all over, for that."""
MOST = 0.5
"""The share of the matches that must be among them: of pictures far apart fewer are."""
WHAT_BOTH_SHOW = "what both show"
"""The view of `shared.look_again`."""
DRAWN_AS_EDGES = "drawn as edges"


@dataclass(frozen=True, eq=False)
class Candidate:
    """What an attempt found.

    found: with a geometry and a verdict, by this attempt alone; points in full-size pixels.
    way, view: how, and how the pictures were seen, in words. number: of the attempt, from 1:
    later ones must show more, see `odds`.
    surprise: -log10 of how many models with as many inliers chance would bring. covered: the share
    of the pictures that the inliers lie all over.
    """

    found: Matches
    way: Way
    view: str
    number: int
    surprise: float
    covered: float

    @property
    def probability(self) -> float:
        """That both pictures show the same, by this attempt alone."""
        assert self.found.verdict is not None  # There is a kind of geometry.
        return self.found.verdict.probability

    @property
    def odds(self) -> float:
        """That both pictures show the same.

        Of n attempts at pictures that do not, n times as many look as if they did: so the n-th
        counts an n-th.
        """
        return self.probability / (1 - self.probability) / self.number

    @property
    def verdict(self) -> Verdict:
        """The verdict with that in mind."""
        return verdict_of(self.odds)

    @property
    def inliers(self) -> int:
        return int(self.found.inliers.sum())

    @property
    def sure(self) -> bool:
        """Whether no more needs to be asked."""
        return self.verdict.label == "same"

    @property
    def settled(self) -> bool:
        """Whether it is sure, and the geometry well placed."""
        if not self.sure or self.inliers < ENOUGH:
            return False
        most = self.inliers >= MOST * len(self.found)
        return self.view == WHAT_BOTH_SHOW or (most and self.covered >= COVERED)

    @property
    def rank(self) -> tuple[bool, float, float]:
        """The larger, the better a candidate: those that are sure by what speaks against chance."""
        if self.sure:
            return True, self.surprise, self.odds
        return False, self.odds, self.surprise


def attempt(
    pictures: Pictures,
    way: Way,
    check: Check,
    *,
    number: int,
    views: Views = AS_THEY_ARE,
) -> Candidate:
    """Match both pictures in one way, and judge."""
    seen = [pictures.seen(n, way.features, view) for n, view in enumerate(views)]
    found = match_seen(pictures, way, seen[0], seen[1])
    if views != AS_THEY_ARE:
        found = replace(found, indices=None, turn=views[1].turn, mirrored=views[1].mirrored)
    return weigh(pictures, found, way, check, number, in_words(views))


def match_seen(pictures: Pictures, way: Way, seen0: Seen, seen1: Seen) -> Matches:
    """The matches of two pictures as they were seen, in full-size pixels."""
    seen0, seen1 = seen0.take(way.keypoints), seen1.take(way.keypoints)
    match = pictures.tools.matcher(way)
    with timed(pictures.tools.seconds, "match"):
        found = match(seen0.features, seen1.features)
    return replace(found, points0=seen0.full(found.points0), points1=seen1.full(found.points1))


def weigh(
    pictures: Pictures, found: Matches, way: Way, check: Check, number: int, view: str
) -> Candidate:
    """Fit a geometry and judge, by how many keypoints the pictures as they are have."""
    seen = [pictures.seen(n, way.features).take(way.keypoints).features for n in (0, 1)]
    found = replace(found, licence=joint_licence(pictures.tools.extractor(way.features), found))
    judged = check(found, seen[0], seen[1])
    assert judged.geometry is not None
    sizes = [(each.width, each.height) for each in seen]
    surprise, covered = _support(judged, judged.geometry, sizes[0], sizes[1])
    return Candidate(judged, way, view, number, surprise, covered)


def joint_licence(extract: Extractor, found: Matches) -> str:
    """The terms of the features, and of the matcher's weights where they are others."""
    if found.licence in ("", extract.licence):
        return extract.licence
    return f"{extract.licence} (features), {found.licence} (matcher)"


def _support(
    found: Matches, geometry: Geometry, size0: tuple[int, int], size1: tuple[int, int]
) -> tuple[float, float]:
    """What speaks against chance, and the share of the pictures that inliers lie all over."""
    if geometry.matrix is None:
        return 0.0, 0.0
    inliers = geometry.inliers
    threshold = default_threshold(geometry.kind, size0, size1)
    alarms = log10_false_alarms(
        geometry.kind, len(found), int(inliers.sum()), threshold, size0, size1
    )
    both = ((found.points0, size0), (found.points1, size1))
    return max(-alarms, 0.0), min(coverage(points[inliers], size) for points, size in both)


def verdict_of(odds: float) -> Verdict:
    """What odds mean."""
    probability = odds / (1 + odds)
    return Verdict(_calibration().label(probability), probability)


@cache
def _calibration() -> Calibration:
    return Calibration.read()


def in_words(views: Views) -> str:
    """How the pictures were seen."""
    if views == AS_EDGES:
        return DRAWN_AS_EDGES
    if how := turned(views[1].turn, views[1].mirrored):
        return f"image 1 {', '.join(how)}"
    for number, view in enumerate(views):
        if view.reduced > 1:
            return f"image {number} reduced {view.reduced} times"
    return "as they are"
