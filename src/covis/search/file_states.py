"""Are the files of a store still what they were when they were added?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from covis.search.ingest import file_content
from covis.search.store import Store, reported

State = Literal["there", "changed", "gone"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A path of a store as it is now.

    size: in bytes, modified: in nanoseconds, both now; 0 where it is gone.
    inode: device and number, which hard links and links share; None where it is gone.
    """

    path: str
    state: State
    size: int = 0
    modified: int = 0
    inode: tuple[int, int] | None = None

    @property
    def there(self) -> bool:
        return self.state == "there"


def stored_rows(store: Store) -> Iterator[dict[str, Any]]:
    """Of all files that have a picture: path, size, modified and content."""
    columns = ["path", "size", "modified", "content"]
    with reported(store.uri):
        for batch in store.files.to_batches(columns=columns, filter="content IS NOT NULL"):
            yield from batch.to_pylist()


def state_now(row: Mapping[str, Any]) -> StoredFile:
    """A row of the table of files against the disk; a file that was only touched is there."""
    path = row["path"]
    try:
        status = os.stat(path)
        same = status.st_size == row["size"]
        if same and status.st_mtime_ns != row["modified"]:
            same = file_content(path) == row["content"]
    except OSError:
        return StoredFile(path, "gone")
    state: State = "there" if same else "changed"
    inode = status.st_dev, status.st_ino
    return StoredFile(path, state, status.st_size, status.st_mtime_ns, inode)


def one_each(files: Iterable[StoredFile]) -> list[StoredFile]:
    """Those that are there, once each, though several paths lead to them; the oldest first.

    Of several paths to one file the one without links is kept, else the first by name.
    """
    kept: dict[tuple[int, int] | None, StoredFile] = {}
    for file in sorted(
        files, key=lambda file: (os.path.realpath(file.path) != file.path, file.path)
    ):
        if file.there:
            kept.setdefault(file.inode, file)
    return sorted(kept.values(), key=lambda file: (file.modified, file.path))
