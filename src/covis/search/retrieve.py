"""Candidates by their global vectors, then the most promising ones by local matches.

A candidate counts as found when the verdict on its matches says so: these come first, the one
with the most inliers at the top. All others follow by global similarity, checked or not. Where
the first place is in doubt, a finer matcher may have the last word on it.
Features know one way up; copies of the whole query that are mirrored or turned are told by their
thumbnails and matched with the query standing as they do.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.features.extractor import Extractor
from covis.geometry import estimate_geometry
from covis.geometry.agreement import View, is_paper
from covis.geometry.polygon import Box, box_around, clipped, corners
from covis.geometry.verdict import judge
from covis.images.decode import enlarged, load_image
from covis.images.orientation import TURNS, UPRIGHT, Orientation
from covis.matching import Matcher
from covis.messages import counted
from covis.notebook import table
from covis.options import cpu_threads
from covis.runtime.deadline import OutOfTime, working_until
from covis.search.answer_time import Clock, kept
from covis.search.compared import doubted, to_compare
from covis.search.copy_candidates import centred_lengths, most_alike
from covis.search.file_states import State, StoredFile, one_each, state_now
from covis.search.ingest import thumbnail
from covis.search.names import Names
from covis.search.pooling import global_vector
from covis.search.queries import Query, Ready
from covis.search.second_look import SecondLook
from covis.search.shards import ROWS, Shards, most_similar
from covis.search.store import THUMBNAIL, Store, fixed
from covis.types import Features, FloatArray, Image, Matches, Matrix, Source, Verdict

SAMPLES = 1000
"""Models that are tried at most when a candidate is checked."""
COPIES = 16
"""Pictures at most that look like the query by their thumbnails and are checked as its copies."""
FETCHED = 16
"""Candidates whose features are read at a time at most."""
NOTHING_SHARED = 0.25
"""Without any geometry, and some 200 keypoints in each picture, they are called different."""
RIVAL = 0.5
"""A certain candidate with this share of the first one's inliers may belong in its place."""
FINER_KEYPOINTS = 512
"""The finer matcher is given so many of a picture's features, the best."""
FINER_SHARE = 0.4
"""Of the time, what is kept for the finer matcher."""
LOOKED_AT = 10
"""Hits whose photos an effort may look at, where fewer are asked for."""
TOLD_EVERY = 0.2
"""Seconds between two accounts of how the hits stand."""
FINER_TIMES = 6
"""So many times as long as the others a finer check may take, before one has shown it."""

Region = Box
Rotate = Literal["none", "auto"]


@dataclass(frozen=True, eq=False)
class Hit:
    """A picture that may show what the query shows.

    path: a file that has it. store: where that was found. copies: others with the same content,
    those that are there first.
    state: whether the file is "there", or "gone" or "changed" since it was added.
    similarity: of the global vectors, -1..1. width, height: of the upright picture in pixels.
    matches: query -> picture, with geometry and verdict. None where there was no time to check.
    looked_for: (x, y, width, height) of the query, in its pixels.
    """

    path: str
    copies: tuple[str, ...]
    similarity: float
    width: int
    height: int
    matches: Matches | None
    looked_for: Region
    state: State = "there"
    store: str = ""

    @property
    def there(self) -> bool:
        """Whether its file is, as it was when it was added."""
        return self.state == "there"

    @property
    def inliers(self) -> int:
        return 0 if self.matches is None else int(self.matches.inliers.sum())

    @property
    def verdict(self) -> Verdict | None:
        return None if self.matches is None else self.matches.verdict

    @property
    def certain(self) -> bool:
        """Whether the verdict is that it shows the same."""
        return _is_certain(self.matches)

    @property
    def turn(self) -> int:
        """How the picture stands to the query: mirrored where `mirrored` says so, then turned
        clockwise by so many degrees, 0, 90, 180 or 270, it looks like it."""
        return self._standing.turn

    @property
    def mirrored(self) -> bool:
        """See `turn`; both are for certain hits."""
        return self._standing.mirrored

    @cached_property
    def _standing(self) -> Orientation:
        if not self.certain or self.matches is None or self.matches.geometry is None:
            return UPRIGHT
        matrix = self.matches.geometry.matrix
        if matrix is None or self.regions is None:
            return UPRIGHT
        x, y, width, height = self.regions[0]
        return Orientation.from_homography(matrix, (x + width / 2, y + height / 2))

    @cached_property
    def outline(self) -> Matrix | None:
        """(N, 2): the part of the picture that shows what was looked for, clockwise or the other
        way round where mirrored, by the homography. None for hits that are not certain."""
        if not self.certain or self.matches is None or self.matches.geometry is None:
            return None
        matrix = self.matches.geometry.matrix
        if matrix is None:
            return None
        wanted = corners(self.looked_for)
        if not (wanted @ matrix[2, :2] + matrix[2, 2] > 0).all():
            return None
        seen = cv2.perspectiveTransform(wanted[:, None], matrix)[:, 0]
        shown = clipped(seen.astype(np.float64), (0, 0, self.width, self.height))
        return shown if len(shown) > 2 else None

    @property
    def regions(self) -> tuple[Region, Region] | None:
        """(x, y, width, height) in the query and in the picture: around what both show, by the
        homography; around the inliers where the hit is not certain. None without inliers."""
        if self.matches is None or not self.inliers:
            return None
        geometry = self.matches.geometry
        if self.outline is not None and geometry is not None and geometry.matrix is not None:
            back = cv2.perspectiveTransform(self.outline[:, None], np.linalg.inv(geometry.matrix))
            exact = np.asarray(np.round(back[:, 0], 6), np.float64)
            return box_around(exact), box_around(self.outline)
        points = self.matches.points0, self.matches.points1
        both = (box_around(p[self.matches.inliers].astype(np.float64)) for p in points)
        return tuple(both)  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and words, ready for JSON."""
        verdict, regions = self.verdict, self.regions
        return {
            "path": self.path,
            "store": self.store,
            "copies": list(self.copies),
            "state": self.state,
            "similarity": self.similarity,
            "checked": self.matches is not None,
            "matches": 0 if self.matches is None else len(self.matches),
            "inliers": self.inliers,
            "model": "" if self.matches is None else self.matches.model,
            "verdict": None if verdict is None else verdict.label,
            "probability": None if verdict is None else verdict.probability,
            "turn": self.turn,
            "mirrored": self.mirrored,
            "query_region": None if regions is None else list(regions[0]),
            "region": None if regions is None else list(regions[1]),
            "outline": None if self.outline is None else self.outline.tolist(),
            "attempts": [] if self.matches is None else [asdict(a) for a in self.matches.attempts],
            "stopped": "" if self.matches is None else self.matches.stopped,
        }


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The answer to a search, best hit first.

    images: in the store. candidates: taken by their global vectors and thumbnails. checked: those
    whose local features were matched in the time there was, at least one.
    untried_copies: pictures that may be the query mirrored or turned, by their thumbnails, for
    which there was no time. untried_turns: the same of turns in degrees that were asked for.
    not_compared: hits that are unsure because there was no time to lay their photos over the query.
    looked_again: hits whose photos were looked at with more effort, see `Matches.attempts` of
    theirs. left: hits that would have been next.
    seconds: by stage, and in `total`.
    """

    hits: list[Hit]
    images: int
    candidates: int
    checked: int
    untried_copies: int = 0
    untried_turns: tuple[int, ...] = ()
    not_compared: int = 0
    looked_again: int = 0
    left: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        certain = sum(hit.certain for hit in self.hits)
        return f"SearchResult({counted(len(self.hits), 'hit')}, {certain} certain)"

    def _repr_html_(self) -> str:
        rows = (
            (
                hit.path,
                f"{hit.similarity:.3f}",
                hit.verdict.label if hit.verdict else "",
                hit.inliers,
            )
            for hit in self.hits
        )
        return table(rows, ("file", "similarity", "verdict", "inliers"))

    @property
    def certain(self) -> list[Hit]:
        """The hits whose verdict is that they show the same; they come first."""
        return [hit for hit in self.hits if hit.certain]

    @property
    def worth_showing(self) -> list[Hit]:
        """The certain hits; where there is none, those that may show the same."""
        perhaps = [hit for hit in self.hits if hit.verdict and hit.verdict.label == "unsure"]
        return self.certain or perhaps

    @property
    def enough(self) -> float:
        """About how many seconds checking all candidates takes, with a fifth to spare."""
        check = self.seconds["check"] / max(self.checked, 1)
        return 1.2 * (self.seconds["total"] + check * (self.candidates - self.checked))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and words, ready for JSON."""
        hits = [hit.to_dict() for hit in self.hits]
        return {**vars(self), "hits": hits, "certain": len(self.certain)}


class Ranker:
    """Searches a store, or several as one; the global vectors stay in memory."""

    def __init__(
        self,
        store: Store | Shards,
        extract: Extractor,
        match: Matcher,
        finer: Matcher | None = None,
    ) -> None:
        """match: checks the candidates. finer: checks those again that may belong in front."""
        self._store, self._extract, self._match, self._finer = store, extract, match, finer
        self._workers = cpu_threads()
        self._ready = Ready()
        self._lock = threading.Lock()
        self._version: tuple[int, ...] = ()
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._matrix: FloatArray = np.empty((0, store.identity.vector), np.float32)
        self._thumbnails: NDArray[np.uint8] = np.empty((0, THUMBNAIL**2), np.uint8)
        self._lengths: FloatArray = np.empty(0, np.float32)

    def load(self) -> None:
        """Take up the store as it is now, and the vectors' index where there is one."""
        now = self._now()
        if now._store.has_vector_index():
            now.nearest(np.full(now._store.identity.vector, 1, np.float32), 1)

    def _now(self) -> Ranker:
        """The same, as a searcher of its own: what other threads take up later changes it no
        more."""
        with self._lock:
            self._load()
            now = copy(self)
            now._store = self._store.snapshot()
        return now

    def _load(self) -> None:
        self._store.refresh()
        version = self._store.version
        if version != self._version:
            self._rows, self._matrix, self._thumbnails = self._store.in_memory()
            self._lengths = centred_lengths(self._thumbnails)
        self._version = version

    def prepare(self, query: Source, region: Region | None) -> None:
        """See `Index.prepare`."""
        self._ready.prepare(query, region, lambda: self._described(query, region, Clock()))

    def _described(self, source: Source, region: Region | None, clock: Clock) -> Query:
        image, corner = _region_of(source, region, self._extract.max_size)
        clock.lap("decode", alone=True)
        features = self._extract(enlarged(image))
        clock.lap("extract", alone=True)
        return Query(image, corner, features, clock.seconds["decode"], clock.seconds["extract"])

    def search(
        self,
        query: Source,
        k: int,
        region: Region | None,
        budget: float | None,
        rotate: str,
        candidates: int,
        began: float,
        look_again: SecondLook | None = None,
        report: Callable[[SearchResult], None] | None = None,
    ) -> SearchResult:
        """See `Index.search`; the time counts from `began`."""
        if budget is not None and not budget > 0:
            raise ArgumentError(f"the budget must be a time above 0, not {budget}.")
        if rotate not in get_args(Rotate):
            raise ArgumentError(f"no rotate '{rotate}'; there are: {', '.join(get_args(Rotate))}.")
        clock = Clock()
        ready = self._ready.get(query, region)
        if ready is None and report is not None and region is None:
            self._now()._tell_by_stored(query, k, candidates, report, clock, began)
        wanted = ready or self._described(query, region, clock)
        for stage in ("decode", "extract"):
            clock.seconds.setdefault(stage, 0.0)
        now = self._now()
        clock.lap("open")
        asked = _Asked(k, region, rotate, candidates, began, budget, look_again, report)
        return now._answer(wanted, asked, clock)

    def _answer(self, query: Query, asked: _Asked, clock: Clock) -> SearchResult:
        image = query.image
        end = asked.end(asked.began)
        looked_for = asked.region or (0.0, 0.0, float(image.width), float(image.height))
        wanted = asked.k if asked.look_again is None else max(asked.k, LOOKED_AT)
        untried_turns: tuple[int, ...] = ()
        pool = ThreadPoolExecutor(self._workers)
        names = Names(self._store, pool)

        def tell_hits(hits: list[Hit], best: list[_Candidate]) -> None:
            clock.seconds["total"] = time.perf_counter() - asked.began
            if asked.report is not None:
                asked.report(self._result(hits[: asked.k], best, clock))

        def tell(some: list[_Candidate]) -> None:
            """Report how these stand by now."""
            if asked.report is not None:
                best = _best_by_row(some)
                tell_hits(self._hits(best, asked.k, looked_for, names), best)

        view = View.of(image)
        paper = asked.region is None and is_paper(view)
        looks = _Looks(query, asked, wanted, paper, clock, pool, self._workers, names, tell)
        try:
            checked, untried_copies = self._as_it_is(looks, end)
            if asked.rotate == "auto" and not any(_is_certain(row.matches) for row in checked):
                end = asked.end(time.perf_counter())
                turned, untried_turns = self._turned(looks, end)
                checked += turned
            best = _best_by_row(checked)
            if self._finer is not None:
                best = self._refined(best, end, looks)
            hits, not_compared = self._hits(best, wanted, looked_for, names), 0
            if asked.region is None:
                hits, not_compared = doubted(hits, view, paper, pool, self._workers, end)
        finally:
            pool.shutdown(cancel_futures=True)
        clock.lap("answer")
        looked = left = 0
        if asked.look_again is not None:
            tell_hits(hits, best)
            hits, looked, left = asked.look_again(
                hits, image, query.corner, end, lambda some: tell_hits(some, best)
            )
            clock.lap("look again")
        clock.seconds["total"] = time.perf_counter() - asked.began
        return replace(
            self._result(hits[: asked.k], best, clock),
            untried_copies=untried_copies,
            untried_turns=untried_turns,
            not_compared=not_compared,
            looked_again=looked,
            left=left,
        )

    def _tell_by_stored(
        self,
        query: Source,
        k: int,
        candidates: int,
        report: Callable[[SearchResult], None],
        clock: Clock,
        began: float,
    ) -> None:
        """Report the most similar pictures to one that is in the store itself, by what is stored of
        it, before it is read."""
        row = self._row_of(query)
        if row is None:
            return
        (features,) = (features for _, features in self._store.features([row]))
        view = _View(UPRIGHT, features, np.eye(3))
        vector = fixed(self._store.take([row], ["vector"])["vector"], np.float32)[0]
        near = self._near(view, vector, candidates)
        whole = (0.0, 0.0, float(features.width), float(features.height))
        with ThreadPoolExecutor(1) as pool:
            hits = self._hits(near, k, whole, Names(self._store, pool))
        clock.lap("global")
        clock.seconds["total"] = time.perf_counter() - began
        report(self._result(hits, near, clock))
        clock.lap("global")  # What the report took is none of decoding the query.

    def _row_of(self, source: Source) -> int | None:
        """The row id of a file that is in the store, as it is now; None for all others."""
        if not isinstance(source, str | os.PathLike):
            return None
        path = os.path.abspath(source)
        if not path.isprintable():  # It may be no text, which the store cannot be asked for.
            return None
        for number, store in enumerate(self._store.stores):
            file = store.at(path, ["path", "size", "modified", "content"])
            if file is not None and file["content"] is not None and state_now(file).there:
                row = store.row(file["content"])
                return None if row is None else row + number * ROWS
        return None

    def _result(self, hits: list[Hit], best: list[_Candidate], clock: Clock) -> SearchResult:
        return SearchResult(
            hits=hits,
            images=self._store.count(),
            candidates=len(best),
            checked=sum(each.matches is not None for each in best),
            seconds=dict(clock.seconds),
        )

    def _as_it_is(self, looks: _Looks, end: float) -> tuple[list[_Candidate], int]:
        """The candidates for the query as it is, and for copies of it however they stand; how many
        of the latter there was no time for.

        A copy that looks more like the query than any other picture is checked in any case.
        """
        clock = looks.clock
        view = self._view(looks, UPRIGHT)
        near = self._candidates(view, looks)
        looks.tell(near)
        checked: list[_Candidate] = []
        untried = 0
        known = {each.row for each in near}
        now = time.perf_counter()
        until = now + (self._stop(looks, end) - now) / 2
        copies = self._copies(looks.query.image, view, near, clock)
        self._name_ahead([*copies.values(), near], looks)
        likeliest = next(iter(copies), UPRIGHT)
        for way, some in copies.items():
            if way == UPRIGHT:
                near = [each for each in some if each.row not in known] + near
                continue
            first = way == likeliest
            if first or time.perf_counter() + looks.query.extracting < until:
                other = self._view(looks, way)
                some = [replace(each, view=other) for each in some]
                some = self._checked(some, lambda: until, looks, always=first)
                checked += some
            untried += sum(each.matches is None for each in some)
        found = any(_is_certain(each.matches) for each in checked)
        checked += self._checked(
            near, lambda: self._stop(looks, end), looks, always=not found,
            tell=lambda some: looks.tell(checked + some),
        )  # fmt: skip
        return checked, untried

    def _name_ahead(self, groups: list[list[_Candidate]], looks: _Looks) -> None:
        """Look up what candidates, best first, are called; in a table so large that it has an
        index, where each takes time, only those that are likely to be hits."""
        most = looks.wanted if self._store.has_vector_index() else None
        looks.names.ahead([each.row for some in groups for each in some[:most]])

    def _stop(self, looks: _Looks, end: float) -> float:
        """When the usual checks stop, by what is known now."""
        return looks.stop(end, 0.0 if self._finer is None else FINER_SHARE)

    def _turned(self, looks: _Looks, end: float) -> tuple[list[_Candidate], tuple[int, ...]]:
        """The candidates for the query turned, and the turns there was no time for."""
        checked: list[_Candidate] = []
        untried: list[int] = []
        for left, turn in zip((3, 2, 1), TURNS, strict=True):
            now, deadline = time.perf_counter(), self._stop(looks, end)
            some: list[_Candidate] = []
            if now + looks.query.extracting / 2 < deadline:
                near = self._candidates(self._view(looks, Orientation(turn)), looks)
                self._name_ahead([near], looks)
                until = now + (deadline - now) / left
                some = self._checked(near, lambda: until, looks)  # noqa: B023
            if not any(each.matches is not None for each in some):
                untried.append(turn)
            checked += some
        return checked, tuple(untried)

    def nearest(self, vector: FloatArray, count: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Row ids and similarities of the most similar pictures, best first."""
        # OpenBLAS would wake threads for it, which then spin for 20 ms beside others' work.
        products = np.einsum("nd,d->n", self._matrix, vector)
        found = most_similar(self._rows, products, count)
        if not self._store.has_vector_index():
            return found
        rows, similarity = self._store.nearest(vector, count)
        rows = np.concatenate([found[0], rows])
        return most_similar(rows, np.concatenate([found[1], similarity]), count)

    def _view(self, looks: _Looks, way: Orientation) -> _View:
        query = looks.query
        shown = way.of_picture(query.image)
        features = query.features if way == UPRIGHT else self._extract(enlarged(shown))
        whole_from_view = way.inverse.homography((shown.width, shown.height))
        whole_from_view[:2, 2] += query.corner
        looks.clock.lap("extract", alone=True)
        return _View(way, features, whole_from_view)

    def _candidates(self, view: _View, looks: _Looks) -> list[_Candidate]:
        """The globally most similar pictures, unchecked, best first."""
        near = self._near(view, global_vector(view.features), looks.asked.candidates)
        looks.clock.lap("global")
        return near

    def _near(self, view: _View, vector: FloatArray, count: int) -> list[_Candidate]:
        rows, similarity = self.nearest(vector, count)
        return [
            _Candidate(int(row), float(value), view)
            for row, value in zip(rows, similarity, strict=True)
        ]

    def _copies(
        self, image: Image, view: _View, near: list[_Candidate], clock: Clock
    ) -> dict[Orientation, list[_Candidate]]:
        """Those that by their thumbnails look like the query, upright, mirrored or turned.

        Of all pictures, or with an index in place of the matrix of those that are near.
        """
        rows, others, lengths = self._rows, self._thumbnails, self._lengths
        if self._store.has_vector_index():
            beyond = np.array([each.row for each in near], np.int64)
            beyond = beyond[~np.isin(beyond, rows)]
            table = self._store.take(beyond.tolist(), ["thumbnail"])
            more = fixed(table["thumbnail"], np.uint8)
            rows, others = np.concatenate([rows, beyond]), np.concatenate([others, more])
            lengths = np.concatenate([lengths, centred_lengths(more)])
        similar = {each.row: each.similarity for each in near}
        vector = global_vector(view.features)
        found: dict[Orientation, list[_Candidate]] = {}
        for place, way in most_alike(thumbnail(image), others, lengths, COPIES):
            row = int(rows[place])
            if row not in similar:
                similar[row] = float(self._matrix[place] @ vector)
            found.setdefault(way, []).append(_Candidate(row, similar[row], view))
        clock.lap("thumbnails")
        return found

    def _checked(
        self,
        candidates: list[_Candidate],
        deadline: Callable[[], float],
        looks: _Looks,
        always: bool = False,
        finer: Matcher | None = None,
        expected: float = 0.0,
        tell: Callable[[list[_Candidate]], None] = lambda _: None,
    ) -> list[_Candidate]:
        """The candidates, checked until the deadline; with `always` the first in any case.

        finer: the matcher, another than usual, whose checks are given up at the deadline. expected:
        seconds that the first checks may take. tell: is given them now and then, as they are.
        """
        candidates = list(candidates)

        def check(candidate: _Candidate, stored: Features) -> _Candidate:
            try:
                with working_until(until), looks.clock.watching():
                    matches = self._check(finer or self._match, candidate.view, stored)
            except OutOfTime:
                return candidate
            looks.note(candidate.row, matches, stored)
            return replace(candidate, matches=matches, finer=finer is not None)

        done, slowest = 0, 0.0
        told = time.perf_counter()
        late, until = told + expected >= deadline(), np.inf
        waves = self._waves([each.row for each in candidates], 1 if late else self._workers)
        while (began := time.perf_counter()) + (slowest or expected) < deadline() or (
            always and done == 0
        ):
            wave = next(waves, None)
            if wave is None:
                break
            if finer:
                until = deadline()
            for candidate in looks.pool.map(check, candidates[done : done + len(wave)], wave):
                candidates[done] = candidate
                done += 1
            slowest = max(slowest, time.perf_counter() - began)
            if time.perf_counter() - told > TOLD_EVERY:
                tell(candidates)
                told = time.perf_counter()
        looks.clock.lap("refine" if finer else "check")
        return candidates

    def _refined(self, best: list[_Candidate], end: float, looks: _Looks) -> list[_Candidate]:
        """The candidates, best first, after the finer matcher had its say on who that is.

        Its matches count where they are certain; else those before stay. What time is left goes
        to candidates that are not checked yet.
        """
        checks = sum(each.matches is not None for each in best)
        usual = looks.clock.seconds["check"] * self._workers / max(checks, 1)
        rivals = self._checked(
            _rivals(best), lambda: looks.stop(end), looks,
            finer=self._finer, expected=FINER_TIMES * usual,
        )  # fmt: skip
        again = {each.row: each for each in rivals if each.matches is not None}
        for place, each in enumerate(best):
            second = again.get(each.row, each)
            if each.matches is None or _is_certain(second.matches):
                best[place] = second
        rest = [each for each in best if each.matches is None]
        done = [each for each in best if each.matches is not None]
        rest = self._checked(rest, lambda: looks.stop(end), looks, expected=usual)
        return sorted(done + rest, key=_order)

    def _waves(self, rows: list[int], first: int) -> Iterator[list[Features]]:
        """The features of candidates, as many at a time as there are threads.

        first: so many are read for the first wave, and twice as many each time, since on a busy
        machine there may be no time for more.
        """

        def groups() -> Iterator[tuple[str, Features]]:
            begin, count = 0, first
            while begin < len(rows):
                yield from self._store.features(rows[begin : begin + count])
                begin, count = begin + count, min(2 * count, FETCHED)

        stored, size = groups(), first
        while wave := [features for _, features in islice(stored, size)]:
            yield wave
            size = self._workers

    def _check(self, match: Matcher, view: _View, stored: Features) -> Matches:
        """Match and judge; points and geometry are those of the whole query as it is."""
        features = view.features
        if match is self._finer:
            best = slice(FINER_KEYPOINTS)
            features, stored = features.take(best), stored.take(best)
        found = check_pair(match, features, stored)
        points0 = found.points0 @ view.whole_from_view[:2, :2].T + view.whole_from_view[:2, 2]
        geometry = found.geometry
        if geometry is not None and geometry.matrix is not None:
            matrix = geometry.matrix @ np.linalg.inv(view.whole_from_view)
            geometry = replace(geometry, matrix=matrix)
        return replace(
            found,
            points0=points0.astype(np.float32),
            indices=None,
            geometry=geometry,
            turn=view.way.inverse.turn,
            mirrored=view.way.mirrored,
        )

    def _hits(
        self, candidates: list[_Candidate], k: int, looked_for: Region, names: Names
    ) -> list[Hit]:
        """The first k candidates that a file has, each content once."""
        hits: list[Hit] = []
        known: set[str] = set()
        ordered = iter(sorted(candidates, key=_order))
        while len(hits) < k and (some := list(islice(ordered, k))):
            for each, named in zip(some, names.of([each.row for each in some]), strict=True):
                if named.content in known:
                    continue
                stores = {file["path"]: uri for uri, file in reversed(named.files)}
                if files := _living_first([state_now(file) for _, file in named.files]):
                    known.add(named.content)
                    first = files[0]
                    hits.append(
                        Hit(
                            first.path,
                            tuple(file.path for file in files[1:]),
                            each.similarity,
                            named.width,
                            named.height,
                            each.matches,
                            looked_for,
                            first.state,
                            stores[first.path],
                        )
                    )
        return hits[:k]


def _living_first(files: list[StoredFile]) -> list[StoredFile]:
    """Files of one content: those that are there, once each, by name, then the others."""
    there = sorted(one_each(files), key=lambda file: file.path)
    return there + sorted((f for f in files if not f.there), key=lambda f: (f.state, f.path))


def check_pair(match: Matcher, features0: Features, features1: Features) -> Matches:
    """Match two images' features, fit a homography and judge.

    Of the candidates that do not show the same, many agree with some fundamental matrix, which
    asks little of a match; few with a homography, which is also found five times as fast. A scene
    with depth keeps the matches of its main plane.
    """
    found = match(features0, features1)
    model = estimate_geometry(
        found.points0,
        found.points1,
        "homography",
        size0=(features0.width, features0.height),
        size1=(features1.width, features1.height),
        scores=found.scores,
        max_iterations=SAMPLES,
    )
    found = replace(found, geometry=model)
    verdict = judge(found, features0, features1)
    if model.matrix is None and verdict is not None and verdict.probability < NOTHING_SHARED:
        verdict = Verdict("different", verdict.probability)
    return replace(found, verdict=verdict)


@dataclass(frozen=True)
class _Asked:
    """What a search was asked for. began: by the performance counter; budget: in seconds.
    look_again: at hits that stay unsure. report: is told how the hits stand meanwhile."""

    k: int
    region: Region | None
    rotate: str
    candidates: int
    began: float
    budget: float | None
    look_again: SecondLook | None
    report: Callable[[SearchResult], None] | None

    def end(self, began: float) -> float:
        """Of what began then, when its answer must be there."""
        return np.inf if self.budget is None else began + self.budget


@dataclass(frozen=True, eq=False)
class _Looks:
    """What one search looks for and with. wanted: hits. paper: whether the query is one. tell:
    reports how candidates stand.

    compared: by their rows, the megapixels of the photos that the answer will compare with the
    query, as far as is known.
    """

    query: Query
    asked: _Asked
    wanted: int
    paper: bool
    clock: Clock
    pool: ThreadPoolExecutor
    workers: int
    names: Names
    tell: Callable[[list[_Candidate]], None]
    compared: dict[int, float] = field(default_factory=dict)

    def note(self, row: int, matches: Matches, stored: Features) -> None:
        """A candidate was checked."""
        if self.asked.region is None and _is_certain(matches):
            if to_compare(int(matches.inliers.sum()), self.paper):
                self.compared[row] = stored.width * stored.height / 1e6
            else:
                self.compared.pop(row, None)

    def stop(self, end: float, left: float = 0.0) -> float:
        """When checks stop, for the answer to be there at the end. left: the share of the time that
        is left for others."""
        if self.asked.budget is None:
            return end
        photos = sorted(self.compared.values())[-self.wanted :]
        spare = kept(self.clock, self.asked.budget, len(photos), sum(photos), self.workers)
        return end - spare - left * (self.asked.budget - spare)


@dataclass(frozen=True, eq=False)
class _View:
    """The part of the query that is looked for, mirrored and turned.

    whole_from_view: (3, 3) float64, from its points to those of the whole query as it is.
    """

    way: Orientation
    features: Features
    whole_from_view: Matrix


@dataclass(frozen=True, eq=False)
class _Candidate:
    """finer: whether the matches are the finer matcher's."""

    row: int
    similarity: float
    view: _View
    matches: Matches | None = None
    finer: bool = False

    @property
    def inliers(self) -> int:
        return 0 if self.matches is None else int(self.matches.inliers.sum())


def _is_certain(matches: Matches | None) -> bool:
    return matches is not None and matches.verdict is not None and matches.verdict.label == "same"


def _order(candidate: _Candidate) -> tuple[bool, bool, int, float]:
    """Certain ones first, by inliers, of the finer matcher before all; the others by similarity."""
    if not _is_certain(candidate.matches):
        return True, True, 0, -candidate.similarity
    return False, not candidate.finer, -candidate.inliers, -candidate.similarity


def _rivals(best: list[_Candidate]) -> list[_Candidate]:
    """Of the candidates, best first, those that may belong in the first place; none where that is
    out of the question, all where none is certain."""
    if not best or not _is_certain(best[0].matches):
        return best
    least = RIVAL * best[0].inliers
    rivals = [each for each in best if _is_certain(each.matches) and each.inliers >= least]
    return rivals if len(rivals) > 1 else []


def _best_by_row(candidates: list[_Candidate]) -> list[_Candidate]:
    """Each picture once, in the turn that speaks for it most; checked ones before others."""
    best: dict[int, _Candidate] = {}
    for candidate in sorted(candidates, key=lambda each: (each.matches is None, _order(each))):
        best.setdefault(candidate.row, candidate)
    return sorted(best.values(), key=_order)


def _region_of(
    query: Source, region: Region | None, max_size: int | None
) -> tuple[Image, tuple[float, float]]:
    """The part of the query to look for, and where its top left corner lies in the query."""
    if region is None:
        return load_image(query, max_size=max_size), (0.0, 0.0)
    image = load_image(query)
    x, y, width, height = region
    if not (
        x >= 0 and y >= 0 and width >= 1 and height >= 1
        and x + width <= image.width and y + height <= image.height
    ):  # fmt: skip
        raise ArgumentError(
            f"the region {x:g},{y:g},{width:g},{height:g} does not lie in {image.name} of "
            f"{image.width}x{image.height} pixels; give x,y,width,height."
        )
    rows, columns = image.pixels.shape[:2]
    down, across = rows / image.height, columns / image.width
    top, left = int(y * down), int(x * across)
    bottom, right = int(np.ceil((y + height) * down)), int(np.ceil((x + width) * across))
    part = Image(
        pixels=np.ascontiguousarray(image.pixels[top:bottom, left:right]),
        width=round((right - left) / across),
        height=round((bottom - top) / down),
        mask=None if image.mask is None else image.mask[top:bottom, left:right],
        name=image.name,
    )
    return load_image(part, max_size=max_size), (left / across, top / down)
