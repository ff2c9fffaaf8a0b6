"""Picture files opened with Pillow, with one limit on their size and one line for what is wrong."""

from __future__ import annotations

import importlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import BinaryIO

import PIL.Image

from covis.errors import ImageError
from covis.images import heic
from covis.messages import not_there

MAX_PIXELS = 300_000_000
"""Files that claim more pixels than this are refused before they are decoded."""
MAX_FILE = 1_000_000_000
"""Bytes of the largest file that is read as a picture."""
FORMATS = {
    "JPEG": "Jpeg", "PNG": "Png", "WEBP": "WebP", "TIFF": "Tiff", "BMP": "Bmp", "DIB": "Bmp",
    "GIF": "Gif", "AVIF": "Avif", "HEIF": "", "JPEG2000": "Jpeg2K", "PPM": "Ppm", "TGA": "Tga",
}  # fmt: skip
"""What is read, whatever a file's name says, and Pillow's module for it (HEIF's comes from
elsewhere). Some of Pillow's other formats start programs."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")


class _PillowLimit:
    """Pillow's own, lower limit on pixels, a global of its module, which some formats check again
    when they are decoded: it is out of the way while any thread is at it, and then as before."""

    def __init__(self) -> None:
        self._lock, self._loading = threading.Lock(), 0
        self._before: int | None = None

    def header(self, file: BinaryIO) -> PIL.Image.Image:
        """`PIL.Image.open` of any size."""
        with self._lock:
            limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
            try:
                return PIL.Image.open(file, formats=_known_formats())
            finally:
                PIL.Image.MAX_IMAGE_PIXELS = limit

    @contextmanager
    def raised(self) -> Iterator[None]:
        """It is `MAX_PIXELS` inside."""
        with self._lock:
            if not self._loading:
                self._before, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, MAX_PIXELS
            self._loading += 1
        try:
            yield
        finally:
            with self._lock:
                self._loading -= 1
                if not self._loading:
                    PIL.Image.MAX_IMAGE_PIXELS = self._before


_pillow_limit = _PillowLimit()


def check_file(path: str | os.PathLike[str]) -> os.stat_result:
    """What the system says of a file that could be a picture.

    Raises ImageError for what is not there, is no regular file (reading a pipe or a device could
    wait for ever), has no bytes or too many.
    """
    path = os.fspath(path)
    heic.prepare(path)
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(not_there(path)) from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read it; change its rights.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be opened: {error}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path} is a folder; give the path of a picture in it.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is a pipe or a device; save what comes from it as a file first.")
    if status.st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes); copy or download it again.")
    if status.st_size > MAX_FILE:
        raise ImageError(
            f"{path} has {status.st_size:,} bytes, more than the {MAX_FILE:,} that covis reads; "
            "make it smaller first."
        )
    return status


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, PIL.Image.Image]]:
    """The file and its header as Pillow reads it; what goes wrong inside becomes ImageError."""
    path = os.fspath(path)
    check_file(path)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise ImageError(not_there(path)) from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read it; change its rights.") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error}.") from None
    with file, damage_reported(path):
        try:
            picture = _pillow_limit.header(file)
        except PIL.UnidentifiedImageError:
            file.seek(0)
            if file.read(4).startswith(_SIGNATURES):
                raise
            raise ImageError(
                f"{path} is not a picture covis can read; convert it to JPEG or PNG."
            ) from None
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(
                f"{path} claims {picture.width}x{picture.height} pixels, more than the "
                f"{MAX_PIXELS // 1_000_000} million covis decodes; make it smaller first."
            )
        with picture, _pillow_limit.raised():
            yield file, picture


@contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged data, which can be anything, into ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(
            f"{name} takes more memory than there is; make it smaller first."
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(
            f"{name} is damaged or cut short ({reason}); copy or download it again."
        ) from error


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise the ImageError of `load_image` for a file whose header already tells it; fast."""
    with opened(path):
        pass


def _known_formats() -> list[str]:
    """Those of `FORMATS` that are at hand."""
    _import_plugins()
    return [name for name in FORMATS if name in PIL.Image.OPEN]


@cache
def _import_plugins() -> None:
    for module in filter(None, FORMATS.values()):
        with suppress(ImportError):  # AVIF came with Pillow 11.3.
            importlib.import_module(f"PIL.{module}ImagePlugin")
