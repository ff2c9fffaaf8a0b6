"""Certain hits whose photos have a say: of pages on one template, and with few inliers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from covis.errors import ImageError
from covis.geometry.agreement import COMPARED_SIDE, View
from covis.geometry.look_alikes import judge_by_pictures
from covis.geometry.page_verdict import doubt_pages
from covis.images.decode import load_image
from covis.types import Matches, Verdict

if TYPE_CHECKING:
    from covis.search.retrieve import Hit

FEW_INLIERS = 50
"""Of a certain hit with fewer the pictures themselves are compared."""
NOTE = "no time was left to lay the pictures over each other"


def to_compare(inliers: int, paper: bool) -> bool:
    """Whether a certain hit's photo is to be laid over the query. paper: what the query is."""
    return paper or inliers < FEW_INLIERS


def doubted(
    hits: Sequence[Hit],
    query: View,
    paper: bool,
    pool: Executor,
    workers: int = 1,
    until: float = np.inf,
) -> tuple[list[Hit], int]:
    """The hits, certain ones first: of pages on one template, and of pictures with few inliers,
    only those that lie over the query as they should. And how many there was no time for.

    paper: whether the query is one, see `is_paper`. until: on the performance counter, when no
    photo is begun any more, but for the first; hits whose photos were not compared are unsure then.
    """
    hits = list(hits)
    places = [
        place
        for place, hit in enumerate(hits)
        if hit.certain and hit.there and to_compare(hit.inliers, paper)
    ]

    def look(hit: Hit) -> Hit:
        assert hit.matches is not None
        judge = judge_by_pictures if to_compare(hit.inliers, False) else doubt_pages
        with suppress(ImageError):
            there = View.of(load_image(hit.path, max_size=COMPARED_SIDE))
            return replace(hit, matches=judge(hit.matches, query, there))
        return hit

    done, slowest = 0, 0.0
    while done < len(places):
        began = time.perf_counter()
        if done and began + slowest > until:
            break
        wave = places[done : done + workers]
        for place, hit in zip(wave, pool.map(look, [hits[place] for place in wave]), strict=True):
            hits[place] = hit
        done += len(wave)
        slowest = max(slowest, time.perf_counter() - began)
    for place in places[done:]:
        hits[place] = replace(hits[place], matches=_unsure(hits[place].matches))
    return sorted(hits, key=lambda hit: not hit.certain), len(places) - done


def _unsure(found: Matches | None) -> Matches:
    assert found is not None
    assert found.verdict is not None
    geometry = found.geometry
    if geometry is not None:
        geometry = replace(geometry, note="; ".join(filter(None, [geometry.note, NOTE])))
    verdict = Verdict("unsure", min(found.verdict.probability, 0.5))
    return replace(found, geometry=geometry, verdict=verdict)
