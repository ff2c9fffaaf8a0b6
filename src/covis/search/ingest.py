"""Pictures into a store: walk, hash, skip what is there, decode, extract, commit."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ImageError
from covis.features.extractor import Extractor
from covis.images.decode import enlarged, load_image
from covis.images.opened import check_file
from covis.images.picture_files import walk_pictures
from covis.options import cpu_threads
from covis.search.pooling import global_vector
from covis.search.store import THUMBNAIL, File, ImageRecord, Store
from covis.types import Features, Image

ASKED = 64
"""Files whose contents are looked up in the store at a time."""
DEPTH = 2 * ASKED
"""Files that are hashed ahead."""
ATTEMPTS = 3
"""To store what other processes removed at the same time."""
BATCH = 16
"""Pictures that are extracted together."""
SMALL = 2000
"""Pixels of the longest side up to which so many are; larger ones go one by one, for memory."""
COMMIT = 128
"""Pictures after which a commit is made, at the latest."""
COMMIT_SECONDS = 30.0
TIDY = 64
"""Commits after which the tables are tidied."""

A = TypeVar("A")
B = TypeVar("B")
Report = Callable[[str, str], None]
"""Called with each file's path when it is done, and why it could not be used, if so."""


class Engine(Protocol):
    """Decodes and extracts, somewhere: files in, in any order the same with what was found out."""

    def __call__(self, files: Iterator[File]) -> Iterator[tuple[File, ImageRecord | str]]:
        """Yields each file with its features, or with why there are none."""
        ...


@dataclass
class Added:
    """What became of the files.

    added: pictures stored. copies: files whose content was there already. unchanged: files that
    were there already. replaced: pictures that went because no file has them any more.
    failed: files that cannot be used, and why. left_out: folders that were passed over, a line
    each. seconds: all of it took.
    """

    added: int = 0
    copies: int = 0
    unchanged: int = 0
    replaced: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def files(self) -> int:
        """All that were looked at, as far as they could be opened."""
        return self.added + self.copies + self.unchanged + len(self.failed)


def add(
    store: Store,
    paths: Iterable[str | os.PathLike[str]],
    engine: Engine,
    report: Report | None = None,
    *,
    commit: int = COMMIT,
) -> Added:
    """Add pictures to a store; see `Index.add`."""
    run = _Run(store, engine, report, commit)
    return run.all(walk_pictures(paths, run.left_out))


class LocalEngine:
    """Decodes in threads of this process, and extracts in batches."""

    def __init__(self, extract: Extractor) -> None:
        self._extract = extract

    def __call__(self, files: Iterator[File]) -> Iterator[tuple[File, ImageRecord | str]]:
        large = not 0 < self._extract.max_size <= SMALL
        together = 1 if large else BATCH
        with ThreadPoolExecutor(cpu_threads()) as pool:
            decoded = _ahead(pool, self._decode, files, 2 * together)
            while batch := list(islice(decoded, together)):
                yield from describe(self._extract, batch)

    def _decode(self, file: File) -> tuple[File, Image | str]:
        return file, decode(file, self._extract.max_size)


def decode(file: File, max_size: int | None) -> Image | str:
    """The picture, or why there is none."""
    try:
        image = load_image(file.path, max_size=max_size)
    except ImageError as error:
        return str(error)
    try:
        status = os.stat(file.path)
    except OSError:
        return f"{file.path} went away while it was read; run again."
    if (status.st_size, status.st_mtime_ns) != (file.size, file.modified):
        return f"{file.path} changed while it was read; run again."
    return image


def describe(
    extract: Extractor, decoded: Sequence[tuple[File, Image | str]]
) -> Iterator[tuple[File, ImageRecord | str]]:
    """Extract a batch of pictures; what could not be decoded is passed on."""
    images = [image for _, image in decoded if isinstance(image, Image)]
    features = iter(_features(extract, [enlarged(image) for image in images]))
    for file, image in decoded:
        found = image if isinstance(image, str) else next(features)
        if isinstance(found, str) or isinstance(image, str):
            yield file, str(found)
            continue
        described = ImageRecord(
            content=file.content or "",
            orientation=image.orientation,
            focal_length=image.focal_length,
            thumbnail=thumbnail(image),
            vector=global_vector(found),
            features=found,
        )
        yield file, described


def _features(extract: Extractor, images: list[Image]) -> Sequence[Features | str]:
    """Of each picture, or why there are none."""
    try:
        return extract.batch(images)
    except ImageError as error:
        if len(images) == 1:
            return [str(error)]
    return [found for image in images for found in _features(extract, [image])]


def thumbnail(image: Image) -> NDArray[np.uint8]:
    """(16, 16) uint8: the picture in grey, its aspect ignored."""
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


class _Run:
    def __init__(self, store: Store, engine: Engine, report: Report | None, commit: int) -> None:
        self._store, self._engine, self._report = store, engine, report
        self._commit_at = commit
        self._summary = Added()
        self._described: list[ImageRecord] = []
        self._files: dict[str, File] = {}
        self._waiting: dict[str, list[File]] = {}
        """Files by content, while that is with the engine."""
        self._recent: set[str] = set()
        """Contents that were described since the store was last asked."""
        self._superseded: set[str] = set()
        self._mine: set[int] = set()
        """Of the paths that this run gave a picture, their hashes."""
        self._commits, self._committed_at = 0, time.monotonic()

    def left_out(self, line: str) -> None:
        """Note a folder that is passed over."""
        self._summary.left_out.append(line)

    def all(self, paths: Iterator[str]) -> Added:
        began = time.monotonic()
        self._superseded = self._store.unnamed()  # What killed runs left behind.
        self._work(self._unknown(paths, _fingerprints(self._store)))
        self._summary.replaced = self._store.drop_unnamed(self._superseded)
        self._look_again()
        self._store.tidy()
        self._summary.seconds = time.monotonic() - began
        return self._summary

    def _work(self, files: Iterator[File]) -> None:
        try:
            with ThreadPoolExecutor(cpu_threads()) as pool:
                for file, result in self._engine(self._fresh(_ahead(pool, _hashed, files, DEPTH))):
                    self._take(file, result)
        finally:
            self._commit()

    def _look_again(self) -> None:
        """Store those pictures again that other processes removed before this one had named
        them."""
        counts = self._summary.added, self._summary.copies
        for _ in range(ATTEMPTS):
            if not (paths := self._missing()):
                break
            self._report = None
            self._work(self._unknown(iter(paths), np.empty(0, np.uint64)))
        self._summary.added, self._summary.copies = counts
        for path in self._missing():
            self._summary.failed[path] = f"{path}: its picture was removed meanwhile; run again."

    def _missing(self) -> list[str]:
        return [path for path in self._store.without_picture() if hash(path) in self._mine]

    def _unknown(self, paths: Iterator[str], known: NDArray[np.uint64]) -> Iterator[File]:
        """Files that are not in the store as they are now."""
        for path in paths:
            try:
                path.encode()
                status = check_file(path)
            except UnicodeEncodeError:
                name = os.fsencode(path).decode(errors="backslashreplace")
                self._fails(name, f"{name}: {_BAD_NAME}")
                continue
            except ImageError as error:
                self._fails(path, str(error))
                continue
            fingerprint = _fingerprint(path, status.st_size, status.st_mtime_ns)
            at = int(np.searchsorted(known, fingerprint))
            if at < len(known) and known[at] == fingerprint:
                self._summary.unchanged += 1
                self._tell(path)
                continue
            yield File(path, status.st_size, status.st_mtime_ns, None)

    def _fresh(self, files: Iterator[File]) -> Iterator[File]:
        """One file of each content that is not in the store."""
        while chunk := list(islice(files, ASKED)):
            self._recent = {row.content for row in self._described}
            present = self._store.present([file.content for file in chunk if file.content])
            for file in chunk:
                if file.content is None:
                    self._done(file)
                elif file.content in self._waiting:
                    self._waiting[file.content].append(file)
                elif file.content in present or file.content in self._recent:
                    self._summary.copies += 1
                    self._done(file)
                else:
                    self._waiting[file.content] = [file]
                    yield file

    def _take(self, file: File, result: ImageRecord | str) -> None:
        files = self._waiting.pop(file.content or "")
        if isinstance(result, str):
            for each in files:
                why = result.replace(file.path, each.path)
                self._done(replace(each, content=None, error=why))
        else:
            self._described.append(result)
            self._recent.add(result.content)
            self._summary.added += 1
            self._summary.copies += len(files) - 1
            for each in files:
                self._done(each)
        waited = time.monotonic() - self._committed_at
        if len(self._described) >= self._commit_at or waited > COMMIT_SECONDS:
            self._commit()

    def _fails(self, path: str, why: str) -> None:
        self._done(File(path, 0, 0, None, why))

    def _done(self, file: File) -> None:
        self._files[file.path] = file
        if file.error:
            self._summary.failed[file.path] = file.error
        else:
            self._mine.add(hash(file.path))
        self._tell(file.path, file.error)
        if len(self._files) >= 16 * self._commit_at:
            self._commit()

    def _tell(self, path: str, why: str = "") -> None:
        if self._report is not None:
            self._report(path, why)

    def _commit(self) -> None:
        self._superseded |= self._store.commit(self._described, list(self._files.values()))
        self._described, self._files = [], {}
        self._commits, self._committed_at = self._commits + 1, time.monotonic()
        if self._commits % TIDY == 0:
            self._store.tidy()


_BAD_NAME = "its name is not valid UTF-8; rename it."


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterator[A], depth: int
) -> Iterator[B]:
    """`map`, in threads, a bounded number of items ahead."""
    running: deque[Future[B]] = deque()
    for item in items:
        running.append(pool.submit(work, item))
        if len(running) >= depth:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def file_content(path: str | os.PathLike[str]) -> str:
    """The hash that pictures are told apart by. Raises OSError."""
    with open(path, "rb") as opened:
        digest = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16))
    return digest.hexdigest()


def _hashed(file: File) -> File:
    try:
        return replace(file, content=file_content(file.path))
    except OSError as error:
        return replace(file, error=f"{file.path} cannot be read: {error.strerror}.")


def _fingerprint(path: str, size: int, modified: int) -> np.uint64:
    text = f"{size} {modified} {path}".encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()))


def _fingerprints(store: Store) -> NDArray[np.uint64]:
    """Of all files whose pictures are stored, sorted."""
    rows = store.stored_files()
    found = (
        _fingerprint(path, size, modified)
        for batch in rows
        for path, size, modified in zip(*batch, strict=True)
    )
    return np.sort(np.fromiter(found, np.uint64))
