"""What candidates are called and how large they are, looked up while they are checked.

A store's tables are read by threads of their own; on a busy machine each wait for them is long, and
at the end of an answer there is no time for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from covis.search.shards import Shards
from covis.search.store import Store


@dataclass(frozen=True)
class Named:
    """A picture. width, height: of the upright picture in pixels. files: the address of a store and
    a row of its table of files, for each file that has the picture."""

    content: str
    width: int
    height: int
    files: tuple[tuple[str, dict[str, Any]], ...]


class Names:
    """Looks candidates up by their row ids, each once."""

    def __init__(self, store: Store | Shards, pool: Executor) -> None:
        self._store, self._pool = store, pool
        self._asked: dict[int, Future[dict[int, Named]]] = {}

    def ahead(self, rows: Sequence[int]) -> None:
        """Begin to look these up."""
        some = [row for row in dict.fromkeys(rows) if row not in self._asked]
        if some:
            self._asked |= dict.fromkeys(some, self._pool.submit(self._look_up, some))

    def of(self, rows: Sequence[int]) -> list[Named]:
        """One for each row. Raises CovisError where the store cannot be read."""
        self.ahead(rows)
        return [self._asked[row].result()[row] for row in rows]

    def _look_up(self, rows: list[int]) -> dict[int, Named]:
        pictures = self._store.take(rows, ["content", "width", "height"]).to_pylist()
        contents = list(dict.fromkeys(picture["content"] for picture in pictures))
        files: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for store in self._store.stores:
            for file in store.named(contents, ["path", "size", "modified", "content"]):
                files.setdefault(file["content"], []).append((store.uri, file))
        return {
            row: Named(**picture, files=tuple(files.get(picture["content"], ())))
            for row, picture in zip(rows, pictures, strict=True)
        }
