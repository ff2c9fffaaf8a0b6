"""Paths as people give them: one, or several."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

from covis.errors import ArgumentError

StrPath = str | os.PathLike[str]
T = TypeVar("T")


def listed(paths: StrPath | Iterable[T]) -> list[StrPath | T]:
    """Several as a list, and one as a list of one: a string is no list of its characters.

    Raises ArgumentError for an empty string, which would stand for the folder one is in.
    """
    found: list[StrPath | T] = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if any(isinstance(path, str) and not path for path in found):
        raise ArgumentError("an empty path was given; name a file or a folder.")
    return found
