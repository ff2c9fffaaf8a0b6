"""Photos to be placed: single ones, folders, and lists with cameras as hloc has them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from covis.errors import ArgumentError
from covis.geometry.camera import CalibratedCamera
from covis.images.picture_files import walk_pictures


@dataclass(frozen=True)
class Query:
    """A photo to be placed. camera: of its file's pixels, None where it is not known."""

    path: Path
    camera: CalibratedCamera | None = None


def read_queries(paths: Iterable[str | os.PathLike[str]], photos: Path) -> list[Query]:
    """The queries in files, folders at any depth, and lists, which are text files (.txt).

    A line of a list is a name, or as hloc and COLMAP have it `NAME MODEL WIDTH HEIGHT PARAMS...`;
    lines that begin with # do not count. Names are paths from the list's folder or from `photos`,
    the folder of a map's photos.

    Raises ArgumentError for a folder without pictures, and for a line that is none.
    """
    found: list[Query] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [Query(Path(picture)) for picture in walk_pictures([path])]
        elif path.suffix.lower() == ".txt":
            found += _listed(path, photos)
        else:
            found.append(Query(path))
    return found


def _listed(path: Path, photos: Path) -> Iterator[Query]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: no list of photos to read ({error}).") from None
    count = 0
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        count += 1
        yield _query(f"{path}, line {number}", path.parent, photos, line.strip())
    if not count:
        raise ArgumentError(f"{path}: no photo in it; a line is NAME, or NAME MODEL W H PARAMS.")


def _query(where: str, folder: Path, photos: Path, line: str) -> Query:
    if (whole := _existing(folder, photos, line)) is not None:
        return Query(whole)  # Also with spaces in it.
    name, *camera = line.split()
    path = _existing(folder, photos, name) or folder / name
    if not camera:
        return Query(path)
    try:
        model, width, height, *params = camera
        numbers = tuple(float(value) for value in params)
        return Query(path, CalibratedCamera(model.upper(), int(width), int(height), numbers))
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None
    except ValueError:
        raise ArgumentError(
            f"{where}: '{line[:100]}' is neither a photo nor NAME MODEL WIDTH HEIGHT PARAMS."
        ) from None


def _existing(folder: Path, photos: Path, name: str) -> Path | None:
    try:
        return next((base / name for base in (folder, photos) if (base / name).is_file()), None)
    except (OSError, ValueError):
        return None
