"""COLMAP's binary models, looked through before COLMAP reads them.

Of a file that ends too soon its reader takes what memory holds for the rest: numbers at random, or
hundreds of gigabytes of points.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

_POSE = "7d"
_POINT = 51
"""Bytes of a point before its track, the track's length the last eight of them."""


def check_binary_model(folder: Path) -> None:
    """Raise ValueError, which names the file, where one of a model's is cut, longer than what it
    says that it holds, or has numbers that are none. Files that are not there are no matter."""
    walks = {
        "cameras.bin": _cameras,
        "rigs.bin": _rigs,
        "frames.bin": _frames,
        "images.bin": _images,
        "points3D.bin": _points,
    }
    for name, walk in walks.items():
        path = folder / name
        if not path.is_file():
            continue
        file = _File(name, path.read_bytes())
        walk(file)
        if file.at != len(file.data):
            raise ValueError(f"{name} goes on after its end")


class _File:
    """Bytes, and how far they were read."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data, self.at = name, data, 0

    def take(self, layout: str) -> tuple[int | float, ...]:
        """The next values, as `struct` has them; numbers must be finite."""
        begin = self.at
        self.skip(struct.calcsize(f"<{layout}"))
        values: tuple[int | float, ...] = struct.unpack_from(f"<{layout}", self.data, begin)
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{self.name} has numbers that are none")
        return values

    def skip(self, count: int) -> None:
        """Go on by so many bytes."""
        if count > len(self.data) - self.at:
            raise ValueError(f"{self.name} is cut short")
        self.at += count

    def count(self, layout: str, least: int) -> int:
        """The next value, as many entries of `least` bytes or more as follow."""
        (found,) = self.take(layout)
        if found * least > len(self.data) - self.at:
            raise ValueError(f"{self.name} is cut short")
        return int(found)

    def each(self, least: int, read: Callable[[], None]) -> None:
        """All entries that the file's first number says there are."""
        for _ in range(self.count("Q", least)):
            read()


def _cameras(file: _File) -> None:
    import pycolmap as colmap

    def camera() -> None:
        _, kind, _, _ = file.take("IiQQ")
        if kind not in {int(known) for known in colmap.CameraModelId.__members__.values()}:
            raise ValueError(f"{file.name} has a camera model {kind}, which there is not")
        model = colmap.CameraModelId(int(kind))
        file.take(f"{len(colmap.Camera.create_from_model_id(0, model, 1.0, 2, 2).params)}d")

    file.each(24, camera)


def _rigs(file: _File) -> None:
    def rig() -> None:
        file.take("I")
        sensors = file.count("I", 8)
        for sensor in range(sensors):
            file.take("iI")
            if sensor and file.take("?")[0]:
                file.take(_POSE)

    file.each(8, rig)


def _frames(file: _File) -> None:
    def frame() -> None:
        file.take(f"II{_POSE}")
        file.skip(16 * file.count("I", 16))

    file.each(68, frame)


def _images(file: _File) -> None:
    def image() -> None:
        file.take(f"I{_POSE}I")
        end = file.data.find(b"\0", file.at)
        file.skip((end if end >= 0 else len(file.data)) + 1 - file.at)
        file.skip(24 * file.count("Q", 24))

    file.each(73, image)


def _points(file: _File) -> None:
    begins = []
    for _ in range(file.count("Q", _POINT)):
        begins.append(file.at)
        file.skip(_POINT)
        (track,) = struct.unpack_from("<Q", file.data, file.at - 8)
        file.skip(8 * track)
    rows = np.frombuffer(file.data, np.uint8)[
        np.array(begins, np.int64)[:, None] + np.arange(8, 32)
    ]
    if not np.isfinite(np.ascontiguousarray(rows).view("<f8")).all():
        raise ValueError(f"{file.name} has points that are nowhere")
