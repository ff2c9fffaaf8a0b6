"""The frames of a video, from a folder of pictures or a file, one at a time."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2

from covis.errors import ArgumentError, ImageError
from covis.images.decode import load_image
from covis.images.picture_files import pictures_in
from covis.images.video import open_video
from covis.options import size_limit
from covis.types import Image

T = TypeVar("T")


@dataclass(frozen=True)
class Frames:
    """Pictures by name, or those of a video file, decoded as they are asked for.

    pictures: empty for a video file. count: of a video as its file says it; 0 where it does not.
    """

    path: Path
    pictures: tuple[Path, ...]
    count: int
    max_size: int

    @staticmethod
    def open(path: str | os.PathLike[str], max_size: int | None = None) -> Frames:
        """path: a folder of pictures, in the order of their names, numbers in them by their value,
            or a video file.
        max_size: as `DenseExtractor` takes it.

        Raises ArgumentError when there is none, ImageError when it is no video.
        """
        path, max_size = Path(path), size_limit(max_size)
        if path.is_dir():
            pictures = tuple(sorted(pictures_in(path), key=by_number))
            if not pictures:
                raise ArgumentError(f"{path}: no pictures in it; give a folder of frames.")
            return Frames(path, pictures, len(pictures), max_size)
        if not path.is_file():
            raise ArgumentError(f"{path}: no such folder or file; check the path.")
        count = int(open_video(path).get(cv2.CAP_PROP_FRAME_COUNT))
        return Frames(path, (), max(count, 0), max_size)

    def __iter__(self) -> Iterator[tuple[str, Image]]:
        """Each frame with its name, without a suffix: the file's, or its number in a video.

        Raises ImageError for a picture that cannot be read.
        """
        if self.pictures:
            for picture in self.pictures:
                yield picture.stem, load_image(picture, max_size=self.max_size)
            return
        video, number = open_video(self.path), 0
        while (read := video.read())[0]:
            pixels = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            yield f"{number:05d}", load_image(pixels, max_size=self.max_size)
            number += 1
        if not number:
            raise ImageError(f"{self.path}: no frame in it can be decoded.")

    def number_of(self, name: str) -> int | None:
        """The number, from 0, of the frame with that name; None where there is none. A video's
        length is not known for sure: any number is one of its frames."""
        if not self.pictures:
            return int(name) if name.isascii() and name.isdecimal() else None
        return next((n for n, path in enumerate(self.pictures) if path.stem == name), None)


def by_number(path: Path) -> list[tuple[int, str, int]]:
    """What sorts files by name, and frame-2 before frame-10."""
    parts = [part for part in re.split(r"(\d+)", path.stem) if part]
    key = [(0, "", int(part)) if part.isdecimal() else (1, part, 0) for part in parts]
    return [*key, (-1, path.name, 0)]


def ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """The same items, up to `count` of them worked out in a thread before they are asked for."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:

        def begin() -> Any:
            return pool.submit(next, iterator, end)

        waiting = deque(begin() for _ in range(count))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(begin())
            yield item
