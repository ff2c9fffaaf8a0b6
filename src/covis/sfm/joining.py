"""More attempts where a map's first matches leave photos apart.

Photos that verified pairs connect, directly or through others, are a group. For a group that the
larger ones do not reach, retrieval proposes the pairs that are tried: with its photos turned by 90,
180 and 270 degrees, and by LightGlue. The n-th attempt at a photo must show n times more than the
first one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from covis.errors import BundleError
from covis.features.extractor import Extractor
from covis.images.decode import enlarged, load_image
from covis.images.orientation import TURNS, Orientation
from covis.matching import Matcher
from covis.options import Effort, thread_count
from covis.search.ingest import thumbnail
from covis.search.pooling import global_vector
from covis.search.store import ImageRecord
from covis.sfm.map import Photos
from covis.sfm.matching import Pair, Task, Worker
from covis.sfm.options import PairsTried
from covis.sfm.two_view_verification import LEAST_EVIDENCE, Verified
from covis.types import FloatArray

LIKELIEST = 3
"""Pairs that are tried of a group in a way, those whose photos are most alike."""
SPEAKERS = 2
"""Photos of a group that are turned, those with the most partners."""
AT_LEAST, SHARE = 12, 1 / 4
"""Groups that are turned, and pairs that LightGlue matches first: that many, or by the photos."""
KEYPOINTS = 2048
"""Of each photo, the best ones, for LightGlue: its time grows with their square."""


def groups_of(names: Iterable[str], pairs: Iterable[Pair]) -> list[list[str]]:
    """The groups that pairs make of photos, the largest first; names in order."""
    leader = {name: name for name in names}

    def lead(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for first, second in pairs:
        leader[lead(second)] = lead(first)
    groups = defaultdict(list)
    for name in sorted(leader):
        groups[lead(name)].append(name)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def firm(pairs: Collection[Pair]) -> list[Pair]:
    """Those pairs whose photos have a third one in common: points that only two see place none."""
    partners = defaultdict(set)
    for first, second in pairs:
        partners[first].add(second)
        partners[second].add(first)
    return [pair for pair in pairs if not partners[pair[0]].isdisjoint(partners[pair[1]])]


class Joining:
    """The attempts at the photos of one map."""

    def __init__(
        self,
        task: Task,
        photos: Photos,
        verified: Sequence[Pair],
        tried: list[PairsTried],
        effort: Effort,
        threads: int | None,
    ) -> None:
        """verified: the pairs that have a geometry. tried: takes what is tried here."""
        self._task, self._photos, self._threads = task, photos, thread_count(threads)
        self._verified, self._thorough = set(verified), effort == "thorough"
        self._at = {name: at for at, name in enumerate(photos.names)}
        self._attempts: Counter[str] = Counter()
        """By photo, how many more there were."""
        self._tried = tried

    def turned(self) -> dict[str, int]:
        """Photos that fit the others when they are turned, and by how many degrees clockwise."""
        settled, *groups = groups_of(self._photos.names, self._verified)
        self._pairs = self._successes = 0
        found: dict[str, int] = {}
        for number, group in enumerate(groups):
            turn = self._turn_of(group, settled) if number < self._most else None
            if turn is None:
                settled = [*settled, *group]
            else:
                found |= {name: turn for name in group if self._may_turn(name)}
        if self._pairs:
            matcher = self._task.settings.matcher
            self._tried.append(PairsTried(matcher, "turned", self._pairs, self._successes))
        # Files of one content are one picture in the store.
        contents = self._photos.contents
        turns = {contents[name]: turn for name, turn in found.items()}
        return {name: turns[contents[name]] for name in contents if contents[name] in turns}

    def turned_record(self, name: str, turn: int) -> ImageRecord:
        """What the store is to have of a photo once it is turned, from how it has it now."""
        image = load_image(self._root / name, max_size=self._task.settings.max_size)
        now = Orientation.from_exif(self._photos.orientations[name])
        then = now.then(Orientation(turn))
        upright = Orientation.from_exif(image.orientation)
        image = upright.inverse.then(then).of_picture(image)
        features = self._extract(enlarged(image))
        return ImageRecord(
            content=self._photos.contents[name],
            orientation=then.exif,
            focal_length=image.focal_length,
            thumbnail=thumbnail(image),
            vector=global_vector(features),
            features=features,
        )

    def by_lightglue(self, wanted: Iterable[Pair]) -> Iterator[tuple[Pair, Verified]]:
        """Pairs that LightGlue verifies, of the likeliest between groups that are not joined
        firmly, and where that joins two, of each photo; thorough, of all that were `wanted`."""
        groups = groups_of(self._photos.names, firm(self._verified))
        pairs = self._between(groups)
        if self._thorough:
            pairs = [*pairs, *wanted]
        worker = self._lightglue if pairs else None
        if worker is None:
            return
        tried = {frozenset(pair) for pair in self._verified}
        joined: list[Pair] = []
        count = 0
        for _ in range(2):
            fresh = {frozenset(pair): pair for pair in pairs}
            fresh = {key: pair for key, pair in fresh.items() if key not in tried}
            tried |= fresh.keys()
            for pair, found in self._matched(worker, list(fresh.values())):
                count += 1
                if found.matrix is not None:
                    joined.append(pair)
                    yield pair, found
            pairs = self._around(joined, groups)
        if count:
            self._tried.append(PairsTried("lightglue", "as they are", count, len(joined)))

    @property
    def _root(self) -> Path:
        return Path(self._task.settings.photos)

    @cached_property
    def _extract(self) -> Extractor:
        settings = self._task.settings
        return Extractor(
            settings.features,
            max_keypoints=settings.max_keypoints,
            max_size=settings.max_size or 0,
            threads=self._threads,
            device=self._task.device,
        )

    @cached_property
    def _worker(self) -> Worker:
        return Worker(replace(self._task, threads=self._threads))

    @cached_property
    def _lightglue(self) -> Worker | None:
        """None where there are no weights for the features, or the map is matched by them."""
        settings = self._task.settings
        if settings.matcher != "nearest":
            return None
        try:
            Matcher("lightglue").opened(self._extract.model)
        except BundleError:
            return None
        keypoints = None if self._thorough else KEYPOINTS
        settings = replace(settings, matcher="lightglue")
        return Worker(replace(self._task, settings=settings, keypoints=keypoints))

    def _turn_of(self, group: Sequence[str], others: Sequence[str]) -> int | None:
        """By how much a group must be turned to fit others, None where it does at no turn."""
        partners = Counter(name for pair in self._verified for name in pair)
        straight = filter(self._may_turn, group)
        speakers = sorted(straight, key=lambda name: (-partners[name], name))[:SPEAKERS]
        tries = []
        for name, turn in ((name, turn) for name in speakers for turn in TURNS):
            record = self.turned_record(name, turn)
            for other, alike in self._most_alike(record.vector, others):
                tries.append((alike, name, turn, other, record))
        tries.sort(key=lambda each: -each[0])
        for _, name, turn, other, record in tries[: None if self._thorough else 2 * LIKELIEST]:
            here = self._worker.prepare(name, record.features, record.orientation)
            there = self._worker.prepared(other)
            self._pairs += 1
            found = self._worker.match((name, other), here, there, evidence=self._evidence(name))
            if found.matrix is not None:
                self._successes += 1
                return turn
        return None

    def _may_turn(self, name: str) -> bool:
        """Whether a map can have it turned: not where EXIF mirrors it, see `map_from_upright`."""
        return not Orientation.from_exif(self._photos.orientations[name]).mirrored

    def _most_alike(self, vector: FloatArray, names: Sequence[str]) -> list[tuple[str, float]]:
        """Those photos that are most like a global vector, and how much."""
        alike = self._photos.vectors[[self._at[name] for name in names]] @ vector
        best = np.argsort(-alike, kind="stable")[:LIKELIEST]
        return [(names[at], float(alike[at])) for at in best]

    @property
    def _most(self) -> float:
        """How many groups, or pairs of them, are tried."""
        return math.inf if self._thorough else max(AT_LEAST, SHARE * len(self._photos))

    def _evidence(self, name: str) -> float:
        """What the next attempt at a photo has to show."""
        self._attempts[name] += 1
        return LEAST_EVIDENCE + math.log10(1 + self._attempts[name])

    def _between(self, groups: Sequence[Sequence[str]]) -> list[Pair]:
        """The likeliest pairs of each group with larger ones."""
        settled, *others = groups
        vectors, pairs = self._photos.vectors, list[tuple[float, Pair]]()
        for group in others:
            found = [
                (alike, (name, other))
                for name in group
                for other, alike in self._most_alike(vectors[self._at[name]], settled)
            ]
            pairs += sorted(found, key=lambda each: -each[0])[:LIKELIEST]
            settled = [*settled, *group]
        pairs.sort(key=lambda each: -each[0])
        return [pair for at, (_, pair) in enumerate(pairs) if at < self._most]

    def _around(self, joined: Iterable[Pair], groups: Sequence[Sequence[str]]) -> list[Pair]:
        """The likeliest pairs of each photo of a group with the one that it was joined to."""
        group_of = {name: group for group in groups for name in group}
        pairs = []
        for first, second in joined:
            if group_of[first] is not group_of[second]:
                small, large = sorted((group_of[first], group_of[second]), key=len)
                for name in small:
                    vector = self._photos.vectors[self._at[name]]
                    pairs += [(name, other) for other, _ in self._most_alike(vector, large)]
        return pairs

    def _matched(self, worker: Worker, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Verified]]:
        """Pairs and what a worker finds, in their order."""
        evidence = [self._evidence(name) for name, _ in pairs]
        with ThreadPoolExecutor(self._threads) as pool:
            found = pool.map(lambda pair, least: worker(pair, evidence=least), pairs, evidence)
            yield from zip(pairs, found, strict=True)
