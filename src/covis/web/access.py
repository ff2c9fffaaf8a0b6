"""What may be read: the stores, maps, folders and pictures that were given, and what was uploaded.

The page names pictures by ids that only this server can make, never by paths; each is looked at
again whenever it is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covis.errors import CovisError, ImageError
from covis.images.picture_files import PICTURE_SUFFIXES

UPLOAD = 200_000_000
"""Bytes of an uploaded picture at most."""
UPLOADS, UPLOADED = 2_000_000_000, 500
"""Bytes of all of them, and how many there are; the oldest go first."""
AT_A_TIME = 4
"""Uploads that are taken at a time; others wait."""
STALLED, SLOWEST = 20.0, 10_000
"""Seconds without a byte, and bytes a second on the whole, with which an upload is given up: it
holds the place of another."""
KNOWN = 200_000
"""Ids that are remembered at most."""


class NoSuchError(CovisError):
    """An id that there is not."""


@dataclass(frozen=True)
class Picture:
    """A file that may be read: by whom it was named, and as it was then.

    name: for people. real: where its links lead. size, modified: of the file, in bytes and ns.
    """

    id: str
    path: str
    name: str
    real: str
    size: int
    modified: int


class Access:
    """The pictures of one server that have an id."""

    def __init__(self, uploads: Path) -> None:
        """uploads: an empty folder of the server's own."""
        self._key = secrets.token_bytes(32)
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._uploads = uploads
        self._uploaded: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = asyncio.Semaphore(AT_A_TIME)

    def admit(self, path: str, *, within: str | None = None, name: str = "") -> Picture:
        """Give a file an id. within: a folder that its links must not lead out of; None for a file
        that the user named, or added to a store, himself.

        Raises ImageError for what is no file, or lies elsewhere.
        """
        path = os.path.abspath(path)
        real = os.path.realpath(path)
        if within is not None and not _inside(real, os.path.realpath(within)):
            raise ImageError(f"{path} leads out of {within}; covis does not follow it.")
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            raise ImageError(f"{path}: no such file; check the path.") from None
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is no file.")
        told = f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
        digest = hmac.new(self._key, told, hashlib.sha256).hexdigest()[:24]
        shown = name or os.path.basename(path)
        found = Picture(digest, path, shown, real, status.st_size, status.st_mtime_ns)
        with self._lock:
            self._pictures[digest] = found
            self._pictures.move_to_end(digest)
            while len(self._pictures) > KNOWN:
                self._pictures.popitem(last=False)
        return found

    def picture(self, name: object) -> Picture:
        """The picture of an id, if it still is what it was.

        Raises NoSuchError for an id that this server did not make, ImageError for a file that
        changed or is gone.
        """
        found = self._pictures.get(name) if isinstance(name, str) else None
        if found is None:
            raise NoSuchError("no such picture here; load the page again.")
        try:
            status = os.stat(found.path)
        except OSError:
            raise ImageError(f"{found.name} is no longer there.") from None
        now = os.path.realpath(found.path), status.st_size, status.st_mtime_ns
        if now != (found.real, found.size, found.modified):
            raise ImageError(f"{found.name} has changed since it was found; load the page again.")
        return found

    async def upload(self, name: str, length: int | None, body: AsyncIterator[bytes]) -> Picture:
        """Keep what is sent, up to `UPLOAD` bytes. length: as announced.

        Raises ImageError where it is too large; then nothing is kept.
        """
        async with self._turns:
            return await self._upload(name, length, body)

    async def _upload(self, name: str, length: int | None, body: AsyncIterator[bytes]) -> Picture:
        shown = _plain_name(name)
        too_large = ImageError(
            f"{shown} is larger than {UPLOAD // 1_000_000} MB, the most this page takes; give its "
            "folder to 'covis web' instead."
        )
        if length is not None and length > UPLOAD:
            raise too_large
        suffix = os.path.splitext(shown)[1].lower()
        suffix = suffix if suffix in PICTURE_SUFFIXES else ".bin"
        path = self._uploads / f"{secrets.token_hex(12)}{suffix}"
        size = 0
        try:
            with path.open("xb") as file:
                async for part in _flowing(body, shown):
                    size += len(part)
                    if size > UPLOAD:
                        raise too_large
                    file.write(part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._make_room(str(path), size)
        return self.admit(str(path), within=str(self._uploads), name=shown)

    def keep(self, name: str, content: bytes) -> Picture:
        """A picture that covis itself made, as if it had been uploaded."""
        path = self._uploads / f"{secrets.token_hex(12)}.png"
        path.write_bytes(content)
        self._make_room(str(path), len(content))
        return self.admit(str(path), within=str(self._uploads), name=name)

    @property
    def folder(self) -> Path:
        """Where this server may put files of its own; it is removed at the end."""
        return self._uploads

    def forget(self, picture: Picture) -> None:
        """Drop an upload that turned out to be no picture."""
        with self._lock:
            self._pictures.pop(picture.id, None)
            if self._uploaded.pop(picture.path, None) is not None:
                Path(picture.path).unlink(missing_ok=True)

    def _make_room(self, path: str, size: int) -> None:
        with self._lock:
            self._uploaded[path] = size
            while len(self._uploaded) > (1 if self._full() else UPLOADED):
                Path(self._uploaded.popitem(last=False)[0]).unlink(missing_ok=True)

    def _full(self) -> bool:
        return sum(self._uploaded.values()) > UPLOADS


@contextmanager
def named(*pictures: Picture) -> Iterator[None]:
    """Errors that name uploads as their owners do, not by where this server keeps them."""
    try:
        yield
    except CovisError as error:
        words = str(error)
        for picture in pictures:
            if os.path.basename(picture.path) != picture.name:
                words = words.replace(picture.path, picture.name)
        raise type(error)(words) from None


async def _flowing(body: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """What is sent, as long as it flows. Raises ImageError where it does no more."""
    until = time.monotonic() + STALLED
    while True:
        left = min(STALLED, until - time.monotonic())
        try:
            part = await asyncio.wait_for(anext(body), max(0.0, left))
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ImageError(
                f"{name} did not arrive: for {STALLED:g} seconds too little came; send it again."
            ) from None
        until += len(part) / SLOWEST
        yield part


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _plain_name(name: str) -> str:
    """What people called their file, without folders and without what is no letter."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(letter for letter in last if letter.isprintable())
    return kept.strip(". ")[:120] or "picture"
