"""What became of a map's photos since its last run: gone, changed, renamed.

The content of a file says which photo it is, neither its path nor its time.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from covis.errors import CovisError
from covis.files.atomic import replacing
from covis.search.ingest import file_content
from covis.search.store import Store, reported


@dataclass(frozen=True)
class Changes:
    """gone: names without a file. changed: names whose file has another content now.
    renamed: the new names of photos by their former ones."""

    gone: list[str]
    changed: list[str]
    renamed: dict[str, str]


def find_changes(before: Mapping[str, str | None], now: Mapping[str, str]) -> Changes:
    """Compare photos by name and content.

    before: the contents that a map was made of; None where nothing was made of a photo yet.
    now: those of the files. A photo that is in neither under its name is renamed where a file
    that was not there before has its content.
    """
    kept = {
        name for name, content in before.items() if name in now and content in (None, now[name])
    }
    loose: dict[str | None, list[str]] = defaultdict(list)
    for name in sorted(set(before) - kept, reverse=True):
        loose[before[name]].append(name)
    renamed = {
        loose[now[name]].pop(): name for name in sorted(set(now) - kept) if loose.get(now[name])
    }
    rest = sorted(set(before) - kept - set(renamed))
    return Changes(
        [name for name in rest if name not in now], [name for name in rest if name in now], renamed
    )


@dataclass
class PhotoRecord:
    """What the photos of a map were when they were last looked at; photos.json in its folder.

    contents: by the database's image id, what its keypoints were found in. ids are never used
    again, so a run that is killed before it writes this leaves nothing wrong: an id without a
    content is made anew.
    times: by path, when the file's inode last changed, in nanoseconds; a file whose size, time and
    this are the same is taken to be the same.
    """

    contents: dict[int, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `save` wrote, empty where nothing is. Raises CovisError for anything else."""
        path = folder / "photos.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            contents = {int(number): str(content) for number, content in values["contents"].items()}
            return cls(contents, {name: int(time) for name, time in values["times"].items()})
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CovisError(
                f"{path} is damaged ({error}); delete it, and all is matched anew."
            ) from None

    def save(self, folder: Path) -> None:
        """Raises CovisError when it cannot be written."""
        values = {"contents": self.contents, "times": self.times}
        with replacing(folder / "photos.json") as file:
            file.write((json.dumps(values, indent=1) + "\n").encode())


def inode_times(paths: list[str]) -> dict[str, int]:
    """`PhotoRecord.times` of files as they are now."""
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path).st_ctime_ns
        except OSError:
            continue
    return found


def secretly_changed(store: Store, times: Mapping[str, int]) -> Iterator[str]:
    """Files of a store whose content changed, though their size and time did not.

    times: see `PhotoRecord`; only what they do not vouch for is read.
    """
    with reported(store.uri):
        store.refresh()
        columns = ["path", "size", "modified", "content"]
        rows = store.files.to_table(filter="content IS NOT NULL", columns=columns).to_pylist()
    for row in rows:
        path = row["path"]
        try:
            status = os.stat(path)
            same = (status.st_size, status.st_mtime_ns) == (row["size"], row["modified"])
            if (
                same
                and times.get(path) != status.st_ctime_ns
                and file_content(path) != row["content"]
            ):
                yield path
        except OSError:
            continue
