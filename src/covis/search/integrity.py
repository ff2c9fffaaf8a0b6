"""Is a store whole? Every row is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from covis.search.file_states import state_now
from covis.search.store import CHECKSUM, Store, checksums, fixed, reported


@dataclass
class Checked:
    """How many pictures and files were looked at, and what is wrong.

    problems: sentences about the store itself. gone, changed: files that are no longer there, or
    no longer as they were when they were added. failed: files that never could be used, and why.
    """

    images: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


SECONDS = 1.0
"""After so long what looked wrong is looked at again: a run that adds may be between two commits.
"""


def check(store: Store) -> Checked:
    """Read the store, and look whether its files are as they were."""
    found = Checked()
    with reported(store.uri):
        # The files as they were before the pictures are read: a run writes pictures first.
        files = store.snapshot().files
        store.refresh()
        contents: set[str] = set()
        for batch in store.images.to_batches(batch_size=128):
            found.images += batch.num_rows
            found.problems += _wrong(pa.table(batch))
            for content in batch["content"].to_pylist():
                if content in contents:
                    found.problems.append(f"picture {content} is stored twice.{_REPAIR}")
                contents.add(content)
        missing, named = _check_files(files, contents, found)
        unnamed = contents - named
        if missing or unnamed:
            time.sleep(SECONDS)
            unnamed &= store.unnamed()
            missing = [path for path in store.without_picture() if path in set(missing)]
    found.problems += [f"{path}: its picture is missing; add it again." for path in missing]
    found.problems += [
        f"picture {content} has no file; 'covis verify --repair' removes it."
        for content in sorted(unnamed)
    ]
    return found


_REPAIR = " 'covis verify --repair' mends it."


def _wrong(rows: pa.Table) -> Iterator[str]:
    """What is wrong within rows of pictures."""
    columns = rows.combine_chunks()
    lists = [columns[name].chunk(0) for name in ("keypoints", "scores", "descriptors")]
    counts = [np.asarray(values.value_lengths()) for values in lists]
    sums = checksums(rows) if CHECKSUM in rows.column_names else None
    lengths = np.linalg.norm(fixed(rows["vector"], np.float32), axis=1)
    sizes = np.column_stack([rows["width"].to_numpy(), rows["height"].to_numpy()])
    for row, content in enumerate(rows["content"].to_pylist()):
        keypoints = np.asarray(lists[0][row].values.flatten()).reshape(-1, 2)
        kept = None if sums is None else rows[CHECKSUM][row].as_py()
        if sums is not None and kept not in (None, sums[row].as_py()):
            yield f"picture {content}: not as it was stored; remove its file and add it again."
            continue
        if not counts[0][row] == counts[1][row] == counts[2][row]:
            yield f"picture {content}: its features do not belong together."
        elif not ((keypoints >= 0) & (keypoints <= sizes[row])).all():
            yield f"picture {content}: keypoints lie outside of it."
        if not (abs(lengths[row] - 1) < 1e-3 or lengths[row] == 0):
            yield f"picture {content}: its global vector is not of unit length."


def _check_files(files: Any, contents: set[str], found: Checked) -> tuple[list[str], set[str]]:
    """The files whose pictures are missing, and the contents that files name."""
    missing: list[str] = []
    paths: set[str] = set()
    named: set[str] = set()
    rows: Iterator[dict[str, Any]] = (
        row for batch in files.to_batches() for row in batch.to_pylist()
    )
    for row in rows:
        path, content = row["path"], row["content"]
        found.files += 1
        if path in paths:
            found.problems.append(f"{path} is stored twice.{_REPAIR}")
        paths.add(path)
        if content is None:
            found.failed[path] = row["error"]
            continue
        named.add(content)
        if content not in contents:
            missing.append(path)
        state = state_now(row).state
        if state != "there":
            (found.gone if state == "gone" else found.changed).append(path)
    return missing, named
