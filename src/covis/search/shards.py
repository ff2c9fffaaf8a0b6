"""Several stores that are searched as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.search.store import Identity, Store
from covis.types import Features, FloatArray

ROWS = 1 << 56
"""Row ids of the n-th store begin at n times that: a fragment's number and 32 bits are below it."""
MOST = 127
"""Stores, so that row ids are no larger than int64."""


class Shards:
    """What a search asks of a `Store`, of several; each row id says which one it is of."""

    def __init__(self, stores: Sequence[Store]) -> None:
        """stores: at least one. Raises ArgumentError where they hold different features, and for
        more than `MOST`."""
        if len(stores) > MOST:
            raise ArgumentError(f"{len(stores)} stores are searched; {MOST} can be at a time.")
        self.stores = tuple(stores)
        first = stores[0]
        for other in stores[1:]:
            what = first.identity.other_kind(other.identity)
            if what:
                raise ArgumentError(
                    f"{first.uri} and {other.uri} hold different features ({what}); search them "
                    "one after the other."
                )

    @property
    def identity(self) -> Identity:
        """That of the first; others may hold more or fewer features a picture."""
        return self.stores[0].identity

    @property
    def version(self) -> tuple[int, ...]:
        """See `Store`."""
        return tuple(number for store in self.stores for number in store.version)

    def refresh(self) -> None:
        """See `Store`."""
        for store in self.stores:
            store.refresh()

    def snapshot(self) -> Shards:
        """See `Store`."""
        return Shards([store.snapshot() for store in self.stores])

    def count(self) -> int:
        """Pictures; one in two stores counts twice."""
        return sum(store.count() for store in self.stores)

    def has_vector_index(self) -> bool:
        """Whether one of them has."""
        return any(store.has_vector_index() for store in self.stores)

    def in_memory(self) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.uint8]]:
        """See `Store`."""
        parts = [store.in_memory() for store in self.stores]
        rows = [part[0] + n * ROWS for n, part in enumerate(parts)]
        vectors, thumbnails = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        return np.concatenate(rows), vectors, thumbnails

    def nearest(self, vector: FloatArray, count: int) -> tuple[NDArray[np.int64], FloatArray]:
        """See `Store`; of those that have an index, best first."""
        rows, similarity = [], []
        for n, store in enumerate(self.stores):
            if store.has_vector_index():
                found, alike = store.nearest(vector, count)
                rows.append(found + n * ROWS)
                similarity.append(alike)
        return most_similar(np.concatenate(rows), np.concatenate(similarity), count)

    def take(self, rows: Sequence[int], columns: list[str]) -> pa.Table:
        """See `Store`."""
        tables, places = [], []
        for store, where, some in self._by_store(rows):
            tables.append(store.take(some, columns).replace_schema_metadata())
            places += where
        if not tables:
            return self.stores[0].take([], columns)
        return pa.concat_tables(tables).take(pa.array(np.argsort(places)))

    def features(self, rows: Sequence[int]) -> list[tuple[str, Features]]:
        """See `Store`."""
        found: dict[int, tuple[str, Features]] = {}
        for store, where, some in self._by_store(rows):
            found |= dict(zip(where, store.features(some), strict=True))
        return [found[place] for place in range(len(rows))]

    def _by_store(self, rows: Sequence[int]) -> Iterator[tuple[Store, list[int], list[int]]]:
        """Of each store that has some of the rows: their places among them, and its own ids."""
        numbers = [row // ROWS for row in rows]
        for n in sorted(set(numbers)):
            where = [place for place, number in enumerate(numbers) if number == n]
            yield self.stores[n], where, [rows[place] - n * ROWS for place in where]


def most_similar(
    rows: NDArray[np.int64], similarity: FloatArray, count: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """Of row ids and similarities (N,), the `count` best, best first."""
    count = min(count, len(similarity))
    best = np.argpartition(-similarity, count - 1)[:count] if count else np.empty(0, np.intp)
    best = best[np.argsort(-similarity[best], kind="stable")]
    return rows[best], similarity[best]
