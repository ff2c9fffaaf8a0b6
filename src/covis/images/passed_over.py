"""Photographs and videos in folders that covis does not read, so that people hear of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from covis.messages import counted

RAW = frozenset(
    (
        ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf",
        ".raw", ".rw2", ".srw", ".x3f",
    )
)  # fmt: skip
VIDEO = frozenset(
    (
        ".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm",
        ".wmv",
    )
)  # fmt: skip


def passed_over(paths: Iterable[str | os.PathLike[str]], *, videos: bool = True) -> str:
    """A line about raw files in folders, at any depth, and videos; "" where there are none."""
    found: Counter[str] = Counter()
    for path in paths:
        for _, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found.update(
                os.path.splitext(name)[1].lower() for name in names if not name.startswith(".")
            )
    told = []
    for suffixes, word, convert in (
        (RAW, "raw file", "raw files to JPEG"),
        (VIDEO, "video", "videos to pictures"),
    ):
        count = sum(found[suffix] for suffix in suffixes)
        if count and (videos or suffixes is RAW):
            told.append((counted(count, word), convert))
    if not told:
        return ""
    what, how = (" and ".join(words) for words in zip(*told, strict=True))
    return f"{what} passed over; convert {how} first."
