"""What decoding a picture takes, told from its header: what takes too much is refused, and of the
rest no more at a time than fits."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

import PIL.Image

from covis.errors import ImageError

MEMORY = 500_000_000
"""Bytes that the pictures being decoded take together, all threads counted."""
SCANNED = 2_500_000_000
"""A JPEG's pixels times its scans at most: each one goes over the whole picture."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4}
"""A pixel, as Pillow keeps it; 4 in all other modes."""
_WHOLE = {"WEBP": 18, "AVIF": 14, "HEIF": 14, "JPEG2000": 16}
"""A pixel, for decoders that make copies of the whole, as measured."""
_PLAIN = 25
"""Times as much as bytes: numbers in words (a plain PPM) are read by slow code."""
_KEPT = 50_000_000
"""Bytes that a decoded picture may leave with the process."""
_CHUNK = 1 << 20


class _Room:
    """Lets threads in while what they decode fits."""

    def __init__(self) -> None:
        self._changed, self._taken = threading.Condition(), 0

    @contextmanager
    def of(self, need: int) -> Iterator[None]:
        """Inside, that many bytes are taken; waits for them, unless nobody else is at it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + need <= MEMORY)
            self._taken += need
        try:
            yield
        finally:
            with self._changed:
                self._taken -= need
                self._changed.notify_all()


_room = _Room()


@contextmanager
def decoding(
    picture: PIL.Image.Image, name: str, *, copies: int = 1, buffered: int = 0
) -> Iterator[None]:
    """Inside, a picture may be decoded. Raises ImageError for one that takes too much.

    copies: how many of the whole there are at a time. buffered: bytes that come on top.
    """
    unpacked = 4 if copies > 1 and picture.mode == "P" else 1  # It becomes RGB.
    need = _needed(picture) * copies * unpacked + buffered
    if need > MEMORY:
        raise ImageError(
            f"{name} has {picture.width}x{picture.height} pixels, which take "
            f"{need // 1_000_000:,} MB to decode, more than the {MEMORY // 1_000_000} MB that "
            "covis spends on one; make it smaller first."
        )
    with _room.of(need):
        try:
            yield
        finally:
            if need > _KEPT:
                _give_back()


def _give_back() -> None:
    """Hand freed memory back to the system, which glibc else keeps for later."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _needed(picture: PIL.Image.Image) -> int:
    """Bytes, for Pillow's copy and what its decoder keeps beside it."""
    pixels, each = picture.width * picture.height, _BYTES.get(picture.mode, 4)
    if picture.format in _WHOLE:
        return pixels * _WHOLE[picture.format]
    tile = getattr(picture, "tile", None)
    if picture.format == "PPM" and tile and tile[0].codec_name == "ppm_plain":
        return pixels * each * _PLAIN
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return pixels * each
    turned = 2 if tags.get(274, 1) != 1 else 1
    packed = tags.get(259, 1) != 1
    rows = min(int(tags.get(278, picture.height)), picture.height)
    return pixels * each * turned + packed * rows * picture.width * 4


@dataclass
class _Frame:
    """Of a JPEG's header: pixels, the bytes of all its coefficients, whether it is progressive."""

    pixels: int
    coefficients: int
    progressive: bool


def check_jpeg(file: BinaryIO, path: str) -> int:
    """Bytes that the decoder keeps of the whole picture, where it has several scans; else 0.

    Raises ImageError where no end marker follows the start of the scan, for decoders fill the
    missing part with grey, and where going over all scans would take too long. Inside a scan no
    marker can occur by chance; before it, it can: a thumbnail in EXIF has its own.
    """
    frame, position = None, 2
    while True:
        file.seek(position)
        segment = file.read(4)
        if len(segment) < 4:
            raise ImageError(f"{path} is cut short: no picture data; copy or download it again.")
        if segment[1] == 0xDA:
            break
        if 0xC0 <= segment[1] <= 0xCF and segment[1] not in (0xC4, 0xC8, 0xCC):
            frame = _frame(segment[1], file.read(6 + 3 * 4))
        is_filler = segment[0] != 0xFF or segment[1] in (0x00, 0x01, 0xFF)
        position += 1 if is_filler else 2 + int.from_bytes(segment[2:])
    scans, ended = _scans(file)
    if not ended:
        raise ImageError(
            f"{path} is cut short: its end marker is missing; copy or download it again."
        )
    if frame is None or (scans == 1 and not frame.progressive):
        return 0
    if frame.pixels * scans > SCANNED:
        raise ImageError(
            f"{path} has {scans:,} scans over {frame.pixels:,} pixels, which would take too long "
            "to decode; save it anew, not progressive."
        )
    return frame.coefficients


def _frame(marker: int, header: bytes) -> _Frame:
    height, width = (int.from_bytes(header[at : at + 2]) for at in (1, 3))
    sampling = [(header[at] >> 4, header[at] & 15) for at in range(7, len(header), 3)]
    sampling = sampling[: header[5] if len(header) > 5 else 0]
    most = max((across for across, _ in sampling), default=1) * max(
        (down for _, down in sampling), default=1
    )
    share = sum(across * down for across, down in sampling) / max(most, 1)
    progressive = marker & 3 == 2
    return _Frame(width * height, round(2 * share * width * height), progressive)


def _scans(file: BinaryIO) -> tuple[int, bool]:
    """How many scans begin, the one before the file's position counted, and whether an end marker
    follows; what comes after that is no longer of this picture."""
    scans, last = 1, b""
    while chunk := file.read(_CHUNK):
        text = last + chunk
        end = text.find(b"\xff\xd9")
        scans += text.count(b"\xff\xda", 0, end if end >= 0 else len(text))
        if end >= 0:
            return scans, True
        last = chunk[-1:] if chunk[-1:] == b"\xff" else b""
    return scans, False
