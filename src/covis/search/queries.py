"""What a search looks for, and a few of the last pictures that were made ready for one."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from covis.geometry.polygon import Box
from covis.types import Features, Image, Source

KEPT = 8
"""Pictures that are kept ready, of some 3 MB each."""

_Key = tuple[str, int, int, Box | None]


@dataclass(frozen=True, eq=False)
class Query:
    """A picture, or a part of it, to look for.

    corner: where the part lies in the whole. features: of the part as it stands. decoding,
    extracting: the seconds that these took.
    """

    image: Image
    corner: tuple[float, float]
    features: Features
    decoding: float
    extracting: float


class Ready:
    """Those made ready. Threads may share one; a picture that is being made is waited for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Future[Query]] = OrderedDict()

    def prepare(self, source: Source, region: Box | None, make: Callable[[], Query]) -> None:
        """Keep what `make` gives for a file, as it is now. Raises as it does; of anything but a
        file nothing is kept."""
        key = _key(source, region)
        if key is None:
            return
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return
            made = self._kept[key] = Future()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        try:
            made.set_result(make())
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            made.set_exception(error)
            raise

    def get(self, source: Source, region: Box | None) -> Query | None:
        """What was made of it; None where nothing was, or where the file has changed since."""
        made = self._kept.get(key) if (key := _key(source, region)) else None
        return None if made is None else made.result()


def _key(source: Source, region: Box | None) -> _Key | None:
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        path = os.path.abspath(source)
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return path, status.st_size, status.st_mtime_ns, region
