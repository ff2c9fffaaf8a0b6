"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from covis.errors import CovisError
from covis.messages import not_there

PARTIAL = ".partial"
"""The ending of a file that is still being written; a killed process may leave one behind."""

UNFOLDED, UNFOLDED_TIMES = 64_000_000, 100
"""Bytes that an archive may unfold to, and how many times its own; the larger one counts."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends without an error.

    Raises CovisError when it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CovisError(f"{path} cannot be written: {error.strerror or error}.") from error


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write named arrays as .npz; the same arrays give the same bytes."""
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def check_unfolds(archive: zipfile.ZipFile, size: int) -> None:
    """Raise ValueError for an archive of so many bytes that unfolds to very much more."""
    unfolded = sum(each.file_size for each in archive.infolist())
    if unfolded > max(UNFOLDED, UNFOLDED_TIMES * size):
        raise ValueError(f"it unfolds from {size:,} bytes to {unfolded:,}")


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name. Raises CovisError when it is missing or damaged."""
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, NpzFile):
            raise ValueError("one array, not several by name")
        with stored:
            assert stored.zip is not None
            check_unfolds(stored.zip, os.stat(path).st_size)
            return dict(stored)
    except FileNotFoundError:
        raise CovisError(not_there(path)) from None
    except (
        OSError, ValueError, EOFError, KeyError, MemoryError, NotImplementedError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise CovisError(f"{path} is damaged, or no .npz file of covis ({error}).") from error
