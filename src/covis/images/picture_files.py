"""Which files are pictures: in a folder, below it, and in a list of pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
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


THUMBNAIL_FOLDERS = frozenset(("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"))
"""Where storage boxes keep small copies and what was deleted, in small letters."""

LeftOut = Callable[[str], None]
"""Called with a line for each folder, or file, that is passed over."""


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
    return sorted(Path(path) for path in _walk(os.fspath(folder), lambda _: None))


def walk_pictures(
    paths: Iterable[str | os.PathLike[str]], left_out: LeftOut | None = None
) -> Iterator[str]:
    """The pictures in folders, at any depth and by name, and the files that are named themselves.

    Links to folders are followed, each folder once. Hidden ones are left out, and those where
    storage boxes keep thumbnails; `left_out` is told of these, of folders that may not be read and
    of what only looks like a file. Raises ArgumentError, before the first, for a path that is not
    there and where no path has a picture.
    """
    roots = list(dict.fromkeys(os.path.abspath(path) for path in paths))
    for root in roots:
        if not os.path.exists(root):
            raise ArgumentError(not_there(root, "file or folder"))
    told: list[str] = []
    tell = left_out or told.append
    files = (
        file for root in roots for file in (_walk(root, tell) if os.path.isdir(root) else [root])
    )
    first = next(files, None)
    if first is None:
        known = ", ".join(sorted(PICTURE_SUFFIXES))
        why = f" {told[0]}" if told else ""
        raise ArgumentError(f"{', '.join(roots) or 'nothing'}: no pictures there ({known}).{why}")
    return chain([first], files)


def _walk(root: str, left_out: LeftOut) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    links: list[str] = []
    yield from _walk_folder(root, left_out, seen, links)
    while links:  # After all else, so that a folder goes by its own path where it has one here.
        yield from _walk_folder(links.pop(0), left_out, seen, links)


def _walk_folder(
    folder: str, left_out: LeftOut, seen: set[tuple[int, int]], links: list[str]
) -> Iterator[str]:
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        left_out(f"{folder} is left out: {error.strerror}.")
        return
    folders: list[str] = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.name.lower() in THUMBNAIL_FOLDERS:
                left_out(f"{entry.path} is left out: thumbnails or deleted files of a storage box.")
            elif not entry.name.endswith(".lance"):
                (links if entry.is_symlink() else folders).append(entry.path)
        elif is_picture(entry.name):
            yield entry.path
    for path in folders:
        yield from _walk_folder(path, left_out, seen, links)


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
