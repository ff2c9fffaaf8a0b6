"""A store of very many rows, made by the store's own commits: for benchmarks/search.py."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import copied_pictures
import cv2
import numpy as np

from covis import Index
from covis.images.decode import load_image
from covis.options import SEARCH_CANDIDATES
from covis.search.shards import most_similar
from covis.search.store import THUMBNAIL, File, ImageRecord, fixed
from covis.types import Features

KEYPOINTS = 100
POOL = 20_000
"""Descriptors that are drawn from: two pictures share hardly any."""
COMMIT = 8192
LINKS = 50_000
"""Names that one file is given at most."""
COPIED = 2
"""Photos of which a copy of each kind is in the store."""


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function gives in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *arguments).result()


def peak() -> int:
    """Megabytes that this process held at most."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


def make(home: Path, photos: Sequence[Path], rows: int) -> None:
    """A store with the photos, copies of some, and synthetic pictures, so many in all."""
    index = Index(home / "store", max_keypoints=KEYPOINTS)
    index.add(photos)
    fill_up(index, rows, home / "files", lambda stored: print(f"  {stored} of {rows}", flush=True))
    copies = home / "copies"
    copies.mkdir(exist_ok=True)
    for number, (kind, change) in enumerate(COPIED * [*copied_pictures.COPIES.items()]):
        photo = photos[number * 13 % len(photos)]
        copied = change(load_image(photo, max_size=1280).pixels)
        cv2.imwrite(str(copies / f"{number:02} {kind}.jpg"), copied[:, :, ::-1])
    began = time.perf_counter()
    added = index.add([copies]).added
    print(f"{added} more were added in {time.perf_counter() - began:.0f} s")
    print(f"{len(index)} images, {index.info().stored / 1e9:.2f} GB")


def vectors_like_photos(home: Path, queries: int) -> np.ndarray:
    """(queries, G): spread as those of the photos, which are the first rows."""
    table = Index(home / "store").store.images.to_table(columns=["vector"], limit=COMMIT // 16)
    return unit(spread(fixed(table["vector"], np.float32), queries, np.random.default_rng(1)))


def search(home: Path, vectors: np.ndarray, photos: Sequence[Path]) -> dict[str, Any]:
    """Seconds and row ids of the global stage, seconds of whole answers, and the peak memory."""
    index = Index(home / "store")
    index.load()
    ranker = index._searcher()._now()
    ranker.nearest(vectors[0], SEARCH_CANDIDATES)  # The first one reads the index.
    stage, found = [], []
    for vector in vectors:
        began = time.perf_counter()
        found.append(ranker.nearest(vector, SEARCH_CANDIDATES)[0])
        stage.append(time.perf_counter() - began)
    answers, certain = [], 0
    index.search(photos[0])
    for photo in photos:
        began = time.perf_counter()
        certain += bool(index.search(photo, budget=0.5).certain)
        answers.append(time.perf_counter() - began)
    return {"stage": stage, "found": found, "answers": answers, "certain": certain, "peak": peak()}


def nearest_exactly(home: Path, vectors: np.ndarray) -> list[np.ndarray]:
    """Row ids of the nearest ones of each vector, by products with all."""
    best = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(vectors)
    columns = Index(home / "store").store.images.to_batches(columns=["vector"], with_row_id=True)
    for batch in columns:
        rows = batch["_rowid"].to_numpy().astype(np.int64)
        products = batch["vector"].flatten().to_numpy().reshape(len(rows), -1) @ vectors.T
        for number, (known, values) in enumerate(best):
            both = np.concatenate([known, rows]), np.concatenate([values, products[:, number]])
            best[number] = most_similar(*both, SEARCH_CANDIDATES)
    return [rows for rows, _ in best]


def find_copies(home: Path) -> tuple[int, int, float, int]:
    """How many of the copies are in a group, of how many; processor seconds, and peak memory."""
    began = time.process_time()
    groups = Index(home / "store").duplicates()
    grouped = {Path(copy.path) for group in groups for copy in group}
    copies = [path for path in (home / "copies").iterdir() if path in grouped]
    everything = len(list((home / "copies").iterdir()))
    return len(copies), everything, time.process_time() - began, peak()


def spread(real: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, G) vectors with the mean and the covariance of the photos' (N, G)."""
    scatter = np.cov(real.T) + 1e-9 * np.trace(np.cov(real.T)) * np.eye(real.shape[1])
    drawn = rng.standard_normal((count, real.shape[1])) @ np.linalg.cholesky(scatter).T
    return (real.mean(axis=0) + drawn).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill_up(index: Index, rows: int, files: Path, report: Callable[[int], None]) -> None:
    """Synthetic pictures beside the real ones, until there are so many.

    Their vectors and thumbnails are spread as those of the real ones; each has a name of its own
    below `files`, where few files have many names.
    """
    store = index.store
    rng = np.random.default_rng(0)
    table = store.images.to_table(columns=["vector", "thumbnail"])
    vectors, thumbnails = (fixed(table[name], np.float32) for name in ("vector", "thumbnail"))
    names = named(files)
    pool = unit(rng.standard_normal((POOL, store.identity.descriptor), np.float32))
    while (left := rows - store.count()) > 0:
        size = min(COMMIT, left)
        drawn = np.clip(spread(thumbnails, size, rng), 0, 255).astype(np.uint8)
        made = [
            ImageRecord(
                content=rng.bytes(16).hex(),
                orientation=1,
                focal_length=None,
                thumbnail=thumbnail.reshape(THUMBNAIL, THUMBNAIL),
                vector=vector,
                features=features(pool, index, rng),
            )
            for vector, thumbnail in zip(unit(spread(vectors, size, rng)), drawn, strict=True)
        ]
        store.commit(made, [file(next(names), row.content) for row in made])
        report(store.count())
    store.tidy()


def features(pool: np.ndarray, index: Index, rng: np.random.Generator) -> Features:
    return Features(
        keypoints=(rng.random((KEYPOINTS, 2), np.float32) * np.float32([960, 640])),
        scores=np.sort(rng.random(KEYPOINTS, np.float32))[::-1].copy(),
        descriptors=pool[rng.integers(0, len(pool), KEYPOINTS)],
        width=960,
        height=640,
        model=index.store.identity.features,
    )


def named(folder: Path) -> Iterator[Path]:
    """Names of a few files, a thousand in a folder."""
    for number in count():
        source = folder / f"{number // LINKS}.jpg"
        path = folder / f"{number // 1000:06}" / f"{number % 1000:03}.jpg"
        if number % LINKS == 0:
            folder.mkdir(parents=True, exist_ok=True)
            source.write_bytes(b"No picture; none is read of which no matches agree.")
        if number % 1000 == 0:
            path.parent.mkdir(exist_ok=True)
        os.link(source, path)
        yield path


def file(path: Path, content: str) -> File:
    status = path.stat()
    return File(str(path), status.st_size, status.st_mtime_ns, content)
