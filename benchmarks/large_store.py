"""A store of very many rows, made by the store's own commits: for benchmarks/search.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from covis import Index
from covis.search.copy_candidates import fixed
from covis.search.store import THUMBNAIL, File, ImageRecord
from covis.types import Features

KEYPOINTS = 100
POOL = 20_000
"""Descriptors that are drawn from: two pictures share hardly any."""
COMMIT = 8192
LINKS = 50_000
"""Names that one file is given at most."""


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
