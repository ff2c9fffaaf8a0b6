"""Which files are pictures: in a folder, below it, and in a list of pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from covis.errors import ArgumentError
from covis.messages import counted, not_there

PICTURE_SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff",
        ".bmp", ".dib", ".gif", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm",
        ".pnm", ".tga",
    )
)  # fmt: skip


def is_picture(name: str) -> bool:
    """Whether a file's name is a picture's, and does not begin with a dot."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in `folder` itself, by name. Raises ArgumentError if it is none."""
    if not folder.is_dir():
        raise ArgumentError(not_there(folder, "folder"))
    return sorted(path for path in folder.iterdir() if is_picture(path.name))


def pictures_to_pair(folder: Path) -> list[Path]:
    """As `pictures_in`. Raises ArgumentError for fewer than two, too."""
    found = pictures_in(folder)
    if len(found) < 2:
        there = counted(len(found), "picture")
        raise ArgumentError(f"{folder}: {there} in it; two or more make pairs.")
    return found


def pictures_below(folder: Path) -> list[Path]:
    """The pictures in `folder` at any depth, in the order of their paths; none if it is none."""
    return sorted(Path(path) for path in _walk(os.fspath(folder)))


def walk_pictures(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The pictures in folders, at any depth and by name, and the files that are named themselves.

    Hidden ones are left out. Raises ArgumentError, before the first, for a path that is not there
    and where no path has a picture.
    """
    roots = list(dict.fromkeys(os.path.abspath(path) for path in paths))
    for root in roots:
        if not os.path.exists(root):
            raise ArgumentError(not_there(root, "file or folder"))
    files = (file for root in roots for file in (_walk(root) if os.path.isdir(root) else [root]))
    first = next(files, None)
    if first is None:
        known = ", ".join(sorted(PICTURE_SUFFIXES))
        raise ArgumentError(f"{', '.join(roots) or 'nothing'}: no pictures there ({known}).")
    return chain([first], files)


def _walk(root: str) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not name.endswith(".lance")
        )
        for name in sorted(names):
            if is_picture(name):
                yield os.path.join(folder, name)


def read_pairs(path: Path) -> list[tuple[Path, Path]]:
    """The pairs in a text file, two pictures a line.

    Names are separated by a tab if the line has one, else by spaces; then names with spaces go
    in double quotes. They are relative to the file's folder. Empty lines and lines that begin
    with # are left out. Raises ArgumentError on a file or a line that does not fit.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ArgumentError(not_there(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: cannot read the pairs ({error}).") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        names = line.split("\t") if "\t" in line else re.findall(r'"[^"]*"|\S+', line)
        names = [name.strip().strip('"') for name in names]
        if len(names) != 2 or not all(names):
            raise ArgumentError(
                f"{path}, line {number}: two pictures are needed, not {len(names)}; put names "
                "with spaces in double quotes or a tab between the two."
            )
        pairs.append((path.parent / names[0], path.parent / names[1]))
    return pairs
