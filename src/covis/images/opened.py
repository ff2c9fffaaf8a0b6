"""Picture files opened with Pillow, with one limit on their size and one line for what is wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import PIL.Image

from covis.errors import ImageError
from covis.images import heic
from covis.messages import not_there

MAX_PIXELS = 300_000_000
"""Files that claim more pixels than this are refused before they are decoded."""

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
                return PIL.Image.open(file)
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


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, PIL.Image.Image]]:
    """The file and its header as Pillow reads it; what goes wrong inside becomes ImageError."""
    path = os.fspath(path)
    heic.prepare(path)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(not_there(path)) from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder; give the path of a picture in it.") from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read it; change its rights.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be opened: {error}.") from None
    with file, damage_reported(path):
        if os.fstat(file.fileno()).st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes); copy or download it again.")
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
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(
            f"{name} is damaged or cut short ({reason}); copy or download it again."
        ) from error


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise the ImageError of `load_image` for a file whose header already tells it; fast."""
    with opened(path):
        pass
