"""From the cheap attempt to others, until one is sure and its geometry well placed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np

from covis.effort.attempts import (
    AS_EDGES,
    AS_THEY_ARE,
    DRAWN_AS_EDGES,
    WHAT_BOTH_SHOW,
    Candidate,
    Check,
    Views,
    attempt,
    in_words,
    match_seen,
    verdict_of,
)
from covis.effort.pictures import AS_IT_IS, Change, Pictures
from covis.effort.plan import Plan
from covis.effort.shared import look_again, put_together
from covis.geometry.agreement import View
from covis.geometry.look_alikes import MIN_LIKENESS, likeness
from covis.images.orientation import TURNS
from covis.types import Attempt, Matches, Verdict


class Step(Protocol):
    """An attempt that can be made; None where there was nothing to make it of."""

    def __call__(self, *, number: int) -> Candidate | None: ...


TURNED: tuple[Views, ...] = tuple((AS_IT_IS, Change(turn=turn)) for turn in TURNS)
ZOOMED: tuple[Views, ...] = tuple(
    views
    for factor in (2, 4)
    for views in ((Change(reduced=factor), AS_IT_IS), (AS_IT_IS, Change(reduced=factor)))
)
MIRRORED: tuple[Views, ...] = tuple(
    (AS_IT_IS, Change(turn=turn, mirrored=True)) for turn in (0, *TURNS)
)
"""How images 0 and 1 are seen in one attempt each."""
PROMISING = 0.2
"""The probability from which on a geometry is worth to be looked at again."""
LIKELY = 2
"""How many turns and zooms are tried of those that look likely."""


@dataclass
class Escalation:
    """The attempts at one pair.

    check: fits a geometry and judges. turns: try all turns of image 1 unless the pair is sure.
    budget: seconds after which no attempt begins, the first aside; None for no end.
    """

    pictures: Pictures
    plan: Plan
    check: Check
    turns: bool = False
    budget: float | None = None
    clock: Callable[[], float] = time.perf_counter
    candidates: list[Candidate] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def run(self) -> Matches:
        """The best that was found, with what was tried and why it stopped.

        Its indices are into the features of the plan's cheap way, as the pictures are; None where
        the matches are others.
        """
        self._began, self._looked = self.clock(), set[int]()
        self._try(partial(attempt, self.pictures, self.plan.cheap, self.check))
        stopped = self._escalate()
        best = self.best
        found = best.found
        if self.plan.persistent and len(self.candidates) > 1:
            one, two = (self.pictures.seen(n, self.plan.cheap.features).features for n in (0, 1))
            sizes = (one.width, one.height), (two.width, two.height)
            pixels = self.pictures.pixel(0), self.pictures.pixel(1)
            found = put_together(
                self.candidates, best, sizes, pixels, lambda union: self.check(union, one, two)
            )
        if best.way.features != self.plan.cheap.features:
            found = replace(found, indices=None)
        tried = tuple(self.attempts)
        return replace(found, verdict=self._verdict(), attempts=tried, stopped=stopped)

    @property
    def best(self) -> Candidate:
        return max(self.candidates, key=lambda each: each.rank)

    def _verdict(self) -> Verdict:
        """That of the best; where none speaks for the same, the mean of what all say."""
        best = self.best
        if best.probability > 0.5:
            return best.verdict
        return verdict_of(math.exp(np.mean([math.log(each.odds) for each in self.candidates])))

    def _escalate(self) -> str:
        """Make the other attempts, as long as they are needed; why it stopped."""
        steps = self._steps()
        while not self.best.settled:
            if self.budget is not None and self.clock() - self._began >= self.budget:
                return f"the budget of {self.budget:g} s was used up"
            step = next(steps, None)
            if step is None:
                return "nothing is left to try"
            self._try(step)
        return "sure, and enough matches agree"

    def _steps(self) -> Iterator[Step]:
        """What to try next, each in view of what was found before."""
        cheap, pictures, check = self.plan.cheap, self.pictures, self.check
        if self.turns and not self.best.sure:
            for views in TURNED:
                yield partial(attempt, pictures, cheap, check, views=views)
        if not self.plan.persistent:
            return
        yield from self._again()
        for way in self.plan.others:
            yield partial(attempt, pictures, way, check)
            yield from self._again()
        if not self.best.sure:
            for views in self._untried(self._by_likeness(*TURNED, *ZOOMED))[:LIKELY]:
                yield partial(attempt, pictures, cheap, check, views=views)
                yield from self._again()
        yield from self._again(PROMISING)
        yield from self._as_edges()
        # Nobody takes such photos, and a front seen from its left is like the mirror image of one
        # seen from its right: they come last, and not where a second look confirmed another view.
        if not self.best.sure and not any(
            each.view == WHAT_BOTH_SHOW and each.odds > 1 for each in self.candidates
        ):
            for views in self._untried(self._by_likeness(*MIRRORED))[:1]:
                yield partial(attempt, pictures, cheap, check, views=views)
                yield from self._again(PROMISING)

    def _as_edges(self) -> Iterator[Step]:
        """The pictures drawn as edges, where the pair is not sure, or its greys differ where they
        should be alike; one way after the other until it is, as long as they find anything."""
        if self.best.sure and not self._greys_differ():
            return
        for way in self.plan.edges:
            yield partial(attempt, self.pictures, way, self.check, views=AS_EDGES)
            if not self.candidates[-1].inliers:
                return
            yield from self._again()
            if self.best.sure:
                return

    def _greys_differ(self) -> bool:
        """Whether the pictures are not alike where the best so far lays them over each other."""
        views = (View.of(self.pictures.image(number)) for number in (0, 1))
        alike = likeness(self.best.found, *views)
        return alike is not None and alike.worse_half < MIN_LIKENESS

    def _again(self, least: float = 1.0) -> Iterator[Step]:
        """A look at what both show by the best so far, where it is sure or as probable as `least`,
        and was not looked at again before."""
        best = self.best
        promising = best.sure or best.probability >= least
        if promising and best.view != WHAT_BOTH_SHOW and id(best) not in self._looked:
            self._looked.add(id(best))
            way = best.way if best.view == DRAWN_AS_EDGES else self.plan.cheap
            yield partial(look_again, self.pictures, best, way, self.check)

    def _untried(self, order: list[Views]) -> list[Views]:
        tried = {each.view for each in self.candidates}
        return [views for views in order if in_words(views) not in tried]

    def _by_likeness(self, *ways: Views) -> list[Views]:
        """These and the pictures as they are, first those in which the best neighbours are more
        alike than in the others."""
        cheap = self.plan.cheap
        likeness = {
            views: match_seen(
                self.pictures,
                cheap,
                self.pictures.seen(0, cheap.features, views[0]),
                self.pictures.seen(1, cheap.features, views[1]),
            ).scores
            for views in (AS_THEY_ARE, *ways)
        }
        if not any(map(len, likeness.values())):
            return []
        usual = np.median(np.concatenate(list(likeness.values())))
        above = {views: np.maximum(s - usual, 0).sum() for views, s in likeness.items()}
        return sorted(above, key=lambda views: -above[views])

    def _try(self, step: Step) -> None:
        began, number = self.clock(), len(self.attempts) + 1
        made = step(number=number)
        if made is None:
            return
        self.candidates.append(made)
        found = made.found
        self.attempts.append(
            Attempt(
                method=found.model,
                view=made.view,
                matches=len(found),
                inliers=made.inliers,
                probability=made.probability,
                seconds=self.clock() - began,
            )
        )
