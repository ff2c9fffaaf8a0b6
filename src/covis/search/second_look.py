"""Hits that stay unsure after stored features: as much effort as `covis.match` makes, best first.

Features in a store are few and of one kind; the photos themselves show more. A look takes seconds,
so it is for the hits of one answer, and for as long as its budget goes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from covis.api import escalate, verify
from covis.effort.pictures import Pictures, Tools
from covis.effort.plan import Plan
from covis.errors import ImageError
from covis.geometry.agreement import View
from covis.geometry.look_alikes import judge_by_pictures
from covis.images.decode import load_image
from covis.options import Effort, ExtractorOptions, MatchOptions, RuntimeOptions
from covis.types import Features, GeometryKind, Image, Matches

if TYPE_CHECKING:
    from covis.search.retrieve import Hit


class SecondLook:
    """Looks at the photos of hits once more."""

    def __init__(self, effort: Effort, runtime: RuntimeOptions | None = None) -> None:
        """effort: "auto" or "thorough", see `covis.match`. Raises BundleError as `Plan.of` does."""
        self._effort = effort
        self._plan = Plan.of(effort, None)
        self._tools = Tools(ExtractorOptions(), runtime)

    def __call__(
        self,
        hits: Sequence[Hit],
        query: Image,
        corner: tuple[float, float],
        until: float,
        tell: Callable[[list[Hit]], None] = lambda _: None,
    ) -> tuple[list[Hit], int, int]:
        """The hits with what was found, certain ones first; how many were looked at, and for how
        many more there was no time.

        Those that are unsure come first, then, where none of all is certain, the others in their
        order. A photo that is gone, has changed or cannot be read stays as it was.
        query: the part that is looked for; corner: where it lies in the whole. until: on the
        performance counter, when no attempt begins any more. tell: is given the hits after each
        look, in order.
        """
        hits, looked = list(hits), 0
        certain = [hit.certain for hit in hits]
        pictures = Pictures(lambda _: query, self._tools)
        left = waiting(hits)
        while left and time.perf_counter() < until:
            place = left.pop(0)
            pictures, hits[place] = self._look(hits[place], pictures, query, corner, until)
            looked += 1
            if hits[place].certain:
                left = [each for each in left if is_unsure(hits[each])]
            tell(_in_order(hits, certain))
        return _in_order(hits, certain), looked, len(left)

    def _look(
        self,
        hit: Hit,
        pictures: Pictures,
        query: Image,
        corner: tuple[float, float],
        until: float,
    ) -> tuple[Pictures, Hit]:
        """The hit, and the query's picture with what is known of it now."""
        try:
            photo = load_image(
                hit.path, max_size=self._tools.extractor(self._plan.cheap.features).max_size
            )
        except ImageError:
            return pictures, hit
        pictures = pictures.with_other(photo)
        left = None if math.isinf(until) else max(until - time.perf_counter(), 1e-3)
        options = MatchOptions(geometry="homography", effort=self._effort, budget=left)
        found = escalate(pictures, self._plan, _check, options)
        found = judge_by_pictures(found, View.of(query), View.of(photo))
        return pictures, replace(hit, matches=_of_whole(found, corner))


def _in_order(hits: Sequence[Hit], certain: Sequence[bool]) -> list[Hit]:
    """Those that were certain before, those that are now, by inliers, and the others."""
    order = sorted(
        range(len(hits)),
        key=lambda place: (
            not hits[place].certain,
            not certain[place],
            -hits[place].inliers if hits[place].certain and not certain[place] else place,
        ),
    )
    return [hits[place] for place in order]


def waiting(hits: Sequence[Hit]) -> list[int]:
    """The places of the hits to look at again, in order."""
    there = [place for place, hit in enumerate(hits) if hit.there and not hit.certain]
    unsure = [place for place in there if is_unsure(hits[place])]
    unsure.sort(key=lambda place: -_probability(hits[place]))
    if any(hit.certain for hit in hits):
        return unsure
    return unsure + [place for place in there if not is_unsure(hits[place])]


def is_unsure(hit: Hit) -> bool:
    """Whether the matches leave open what the hit shows."""
    return hit.verdict is not None and hit.verdict.label == "unsure"


def _probability(hit: Hit) -> float:
    return 0.0 if hit.verdict is None else hit.verdict.probability


def _check(found: Matches, kind: GeometryKind, query: Features, photo: Features) -> Matches:
    return verify(found, query, photo, kind)


def _of_whole(found: Matches, corner: tuple[float, float]) -> Matches:
    """Matches of a part of the query as those of the whole."""
    geometry = found.geometry
    if geometry is not None and geometry.matrix is not None:
        back = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1]])
        geometry = replace(geometry, matrix=geometry.matrix @ back)
    points0 = (found.points0 + np.array(corner)).astype(np.float32)
    return replace(found, points0=points0, indices=None, geometry=geometry)
