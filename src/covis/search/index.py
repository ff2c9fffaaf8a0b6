"""The public index: add photos to a store, search them, and keep the store in order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np

from covis.errors import ArgumentError
from covis.features.extractor import Extractor
from covis.files.paths import StrPath, listed
from covis.images.picture_files import walk_pictures
from covis.matching import Matcher, needs_semi_dense
from covis.options import (
    DEFAULT_DEVICE,
    DEFAULT_MATCHER,
    INDEX_MAX_KEYPOINTS,
    SEARCH_CANDIDATES,
    Device,
    Effort,
    ExtractorOptions,
    MatcherOptions,
    RuntimeOptions,
    choice,
    number,
    optional,
    whole_number,
)
from covis.runtime.bundle import Bundle
from covis.search.duplicates import Group, find_groups
from covis.search.file_states import state_now, stored_rows
from covis.search.ingest import Added, LocalEngine, Report, add
from covis.search.integrity import Checked, check
from covis.search.pooling import global_vector
from covis.search.retrieve import Ranker, SearchResult
from covis.search.second_look import SecondLook
from covis.search.shards import Shards
from covis.search.store import THUMBNAIL, Identity, Store, reported
from covis.types import Source


@dataclass(frozen=True)
class Info:
    """What a store holds.

    images: pictures by content. files: paths that have one. failed: paths without. stored: bytes
    of the tables. everything: of all their files; older versions go ten minutes after they were
    replaced, when something is added or removed. memory: bytes of the global vectors and the
    thumbnails, which a search holds.
    """

    uri: str
    identity: Identity
    images: int
    files: int
    failed: int
    stored: int
    everything: int
    memory: int

    @property
    def bytes_per_image(self) -> float:
        """Of an empty store, what pictures full of features would take."""
        if self.images:
            return self.stored / self.images
        identity = self.identity
        each = identity.descriptor + 3 * 4
        return identity.max_keypoints * each + 4 * identity.vector + THUMBNAIL**2

    def forecast(self, images: int) -> tuple[int, int]:
        """Bytes on the disk and bytes of memory that so many images take."""
        return round(self.bytes_per_image * images), _held(self.identity) * images


@dataclass(frozen=True)
class Removed:
    """files: the paths that were forgotten. unknown: those asked for that were not there."""

    files: list[str]
    unknown: list[str]


class Index:
    """Photos in a store, to be searched. Threads may share one; forked children may use none.

    Of several stores one can be made, too, to search them as one.

    >>> index = Index("photos.covis")  # doctest: +SKIP
    >>> index.add(["photos/"])  # doctest: +SKIP
    >>> index.search("query.jpg").hits[0].path  # doctest: +SKIP
    """

    def __init__(
        self,
        store: StrPath | Iterable[StrPath],
        *,
        features: str | None = None,
        max_keypoints: int | None = None,
        max_size: int | None = None,
        matcher: str | None = None,
        threads: int | None = None,
        device: Device = DEFAULT_DEVICE,
    ) -> None:
        """Open a store, or say where to make one.

        store: a folder, or an address such as s3://bucket/folder. It is made by the first `add`.
            Or several that are there and hold features of one kind: `search` then answers of all
            of them, best first, and `Hit.store` says of which; all else is of one store.
        features: the model, see `Extractor`. max_keypoints: features an image at most.
        max_size: larger images are shrunk to this longest side, in pixels; 0 for full
            size. None, for each of these: what the store was made with, for a new one "xfeat",
            1,000 and 960.
        matcher: what re-ranks, see `Matcher`; "auto" (by default) is "nearest", and then LightGlue,
            where there are weights for the features, on the first ones where the first place is in
            doubt.
        threads: processor threads, all by default. device: where networks run, "auto" by
            default; see `RuntimeOptions`.

        Raises ArgumentError for a matcher that there is not, CovisError when the store cannot be
        read.
        """
        uris = [os.fspath(each) for each in listed(store)]
        if not uris:
            raise ArgumentError("no store was given; name one or more.")
        self.uri = " and ".join(uris)
        self._lock = threading.RLock()
        self._given = ExtractorOptions(
            features=features, max_keypoints=max_keypoints, max_size=max_size
        )
        self._runtime = RuntimeOptions(threads=threads, device=device)
        if needs_semi_dense(matcher):
            raise ArgumentError(f"a store holds sparse features; '{matcher}' needs others.")
        self._matcher = MatcherOptions(matcher=matcher).matcher
        auto = self._matcher in (None, DEFAULT_MATCHER)
        self._match = Matcher("nearest" if auto else self._matcher, threads=1, device=device)
        self._finer = Matcher(DEFAULT_MATCHER, threads=1, device=device) if auto else None
        self._store = Store.find(uris[0]) if len(uris) == 1 else None
        self._several = None if len(uris) == 1 else Shards([Store.open(uri) for uri in uris])
        self._looks: dict[Effort, SecondLook] = {}

    @property
    def store(self) -> Store:
        """Its tables. Raises ArgumentError where there are none yet, or several stores."""
        self._check_one()
        if self._store is None:
            self._store = Store.open(self.uri)
        return self._store

    def _check_one(self) -> None:
        if self._several is not None:
            raise ArgumentError(f"{self.uri} are searched together; all else is of one: name it.")

    @property
    def _searched(self) -> Store | Shards:
        return self.store if self._several is None else self._several

    def __len__(self) -> int:
        """How many pictures there are; files with the same content in one store are one."""
        self._searched.refresh()
        return self._searched.count()

    def add(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        report: Report | None = None,
        engine: str = "local",
        address: str | None = None,
    ) -> Added:
        """Add the pictures in folders, at any depth, and single files; one path or several.

        A file that is there already, by path, size and time or by its content, is not extracted
        again; one that changed replaces its former self; one that cannot be used is noted with
        the reason and tried again next time. It may be killed at any moment and run again, by
        several processes at once too: each picture is stored once.

        report: called with each path and, where it failed, why.
        engine: "local", or "ray" to decode and extract on a Ray cluster at `address` (None for
            this machine); it must see the files under the same paths.

        Raises ArgumentError, before anything is made, for a path that is not there and where no
        path has a picture, or where the store was made with another model or setting; CovisError
        when it cannot be written.
        """
        paths = listed(paths)
        self._check_one()
        walk_pictures(paths)
        self._make()
        if engine == "local":
            return add(self.store, paths, LocalEngine(self._extractor), report)
        if engine != "ray":
            raise ArgumentError(f"no engine '{engine}'; there are: local, ray.")
        from covis.search.ray_engine import RayEngine

        return add(self.store, paths, RayEngine(self._extractor, address), report)

    def load(self) -> None:
        """Open the model and the store, and read the global vectors; `search` does so, too."""
        self._searcher().load()

    def prepare(
        self, query: Source, *, region: tuple[float, float, float, float] | None = None
    ) -> None:
        """Read a picture, or a part of it, that a search may soon be for: that answers sooner then.

        query, region: as `search` will be given; the last few files are kept, as they are now.

        Raises as `search` does.
        """
        self._searcher().prepare(query, region)

    def search(
        self,
        query: Source,
        k: int = 10,
        *,
        region: tuple[float, float, float, float] | None = None,
        budget: float | None = 0.5,
        rotate: str = "none",
        candidates: int = SEARCH_CANDIDATES,
        effort: Effort = "fast",
        report: Callable[[SearchResult], None] | None = None,
    ) -> SearchResult:
        """The k pictures that most likely show what the query shows, best first.

        query: what `load_image` takes. region: (x, y, width, height) of it to look for, in its
            pixels.
        budget: seconds that the answer may take, decoding the query included; None for as long
            as checking all candidates takes. At least one is checked, whatever it says.
        rotate: "auto" to try the query turned by 90, 180 and 270 degrees as well where upright
            it finds nothing that is certain.
        candidates: how many of the globally most similar pictures are checked at most.
        effort: "auto" or "thorough" to look at the photos of hits that stay unsure once more, as
            `covis.match` does, the likeliest first, and where none is certain at the other hits,
            too; no attempt begins after the budget, of which a photo takes seconds. It has a say
            where the matcher is left to covis.
        report: called with how the hits stand, first by their vectors alone, then some times a
            second as they are checked, and after each photo that is looked at once more; what it
            takes counts, and what it raises ends the search.

        Raises ImageError for a query that cannot be used, ArgumentError on a value out of range,
        or where the store was made with other weights than those at hand.
        """
        began = time.perf_counter()
        k = whole_number("k", k, 1)
        budget = optional(number, "budget", budget)
        candidates = whole_number("candidates", candidates, 1)
        look = self._second_look(choice("effort", effort, get_args(Effort)))
        return self._searcher().search(
            query, k, region, budget, rotate, candidates, began, look, report
        )

    def duplicates(self, *, report: Any = None) -> list[Group]:
        """Groups of near-copies: resized, recompressed, cropped, turned, mirrored, written over.

        report: called with the share that is done, 0..1.

        The files are read: those that are gone or have changed (`stale`) are left out. Several
        paths to one file, through links, are one.
        """
        self._check_model()
        return find_groups(self.store, self._extractor, report)

    def stale(self) -> dict[str, str]:
        """The files that are "gone" or "changed" since they were added."""
        self.store.refresh()
        files = map(state_now, stored_rows(self.store))
        return {file.path: file.state for file in files if not file.there}

    def remove(self, paths: StrPath | Iterable[StrPath] = (), *, missing: bool = False) -> Removed:
        """Forget files, and whole folders, by their paths, one or several.

        missing: those that are no longer there, as well, but not those that lie where covis may
            not look. Pictures that no file has any more go.
        """
        store = self.store
        store.refresh()
        named = dict.fromkeys(os.path.abspath(path) for path in listed(paths))
        files, there = [], set()
        for file in store.column(store.files, "path"):
            covering = [path for path in _upwards(file) if path in named]
            there.update(covering)
            if covering or (missing and _gone(file)):
                files.append(file)
        store.remove(files)
        store.tidy()
        return Removed(files, [path for path in named if path not in there])

    def info(self) -> Info:
        """What the store holds, and what it takes."""
        store = self.store
        store.refresh()
        with reported(self.uri):
            images, files = store.images.count_rows(), store.files.count_rows()
            failed = store.files.count_rows("content IS NULL")
        memory = _held(store.identity) * images
        return Info(
            self.uri, store.identity, images, files - failed, failed, *store.sizes(), memory
        )

    def failures(self) -> dict[str, str]:
        """The files that could not be used, and why."""
        self.store.refresh()
        with reported(self.uri):
            rows = self.store.files.to_table(filter="content IS NULL", columns=["path", "error"])
        return {row["path"]: row["error"] for row in rows.to_pylist()}

    def verify(self, *, repair: bool = False) -> Checked:
        """Read all of the store and say what is wrong with it, and which files are no longer so.

        repair: remove pictures that no file has, which a killed run can leave, and rows that are
            there twice.
        """
        self.store.refresh()
        if repair:
            self.store.drop_doubled()
            self.store.drop_unnamed()
        return check(self.store)

    @cached_property
    def _extractor(self) -> Extractor:
        options = self._given
        if self._store is not None or self._several is not None:
            identity = self._searched.identity
            if (
                options.features is None
                and os.path.basename(identity.features) != identity.features
            ):
                raise ArgumentError(
                    f"{self.uri} names a folder for its model, {identity.features}; if you trust "
                    "it, name that folder yourself (features)."
                )
            options = options.over(
                ExtractorOptions(
                    features=identity.features,
                    max_keypoints=identity.max_keypoints,
                    max_size=identity.max_size or 0,
                )
            )
        options = options.over(ExtractorOptions(max_keypoints=INDEX_MAX_KEYPOINTS))
        return Extractor.from_options(options, self._runtime)

    def _searcher(self) -> Ranker:
        with self._lock:
            return self._ranker

    def _second_look(self, effort: Effort) -> SecondLook | None:
        if effort == "fast" or self._finer is None:
            return None
        with self._lock:
            if effort not in self._looks:
                self._looks[effort] = SecondLook(effort, self._runtime)
            return self._looks[effort]

    @cached_property
    def _ranker(self) -> Ranker:
        features = self._searched.identity.features
        lightglue = self._match.bundle(features)
        if lightglue is not None and not _has_enough(lightglue):
            raise ArgumentError(
                f"the matcher '{lightglue.name}' needs the features' scales and orientations, "
                "which a store does not keep; use 'nearest'."
            )
        self._check_model()
        finer = self._finer
        if finer is not None and not ((found := finer.bundle(features)) and _has_enough(found)):
            finer = None
        return Ranker(self._searched, self._extractor, self._match, finer)

    @cached_property
    def _identity(self) -> Identity:
        """What the extractor at hand makes."""
        extract = self._extractor
        probe = extract(np.random.RandomState(0).randint(0, 256, (64, 64)).astype(np.uint8))
        return Identity(
            features=extract.model,
            weights=extract.weights,
            max_keypoints=extract.max_keypoints,
            max_size=extract.max_size or None,
            pooled=probe.global_descriptor is None,
            descriptor=probe.descriptors.shape[1],
            vector=len(global_vector(probe)),
        )

    def _make(self) -> None:
        self._store = Store.make(self.uri, self._identity)

    def _check_model(self) -> None:
        self._searched.identity.check(self._identity, self._searched.stores[0].uri)


def _held(identity: Identity) -> int:
    """Bytes of memory that a search holds for each picture."""
    return 4 * identity.vector + THUMBNAIL**2


def _has_enough(lightglue: Bundle) -> bool:
    """Whether a store keeps all that these weights look at."""
    return not lightglue.settings.get("scale_orientation")


def _gone(path: str) -> bool:
    """Whether a file is certainly not there: a folder that may not be read hides what is in it."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _upwards(path: str) -> Iterator[str]:
    """A path and the folders that it lies in."""
    while True:
        yield path
        if path == (path := os.path.dirname(path)):
            return
