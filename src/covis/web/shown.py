"""Pictures as the page shows them: upright, shrunk, never whole; a bounded number is kept."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from covis.images.decode import load_image
from covis.web.access import Picture, named

SIZES = 320, 1600
"""Longest sides in pixels: in lists, and to look at."""
KEPT = 64_000_000
"""Bytes of shrunk pictures that are remembered."""
MEASURED = 10_000
"""Sizes that are."""
AT_A_TIME = 2
"""Pictures that are decoded at a time, for all that look."""


class Shrunk:
    """Makes and remembers them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Whatever else decodes or makes pictures takes a turn as well.
        self.turns = threading.BoundedSemaphore(AT_A_TIME)
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._sizes: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def jpeg(self, picture: Picture, wanted: int) -> bytes:
        """The picture as a JPEG, its longest side the smallest of `SIZES` that is enough."""
        size = next((size for size in SIZES if size >= wanted), SIZES[-1])
        key = picture.id, size
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self.turns, named(picture):
            encoded = encode(load_image(picture.path, max_size=size).pixels, "JPEG")
        with self._lock:
            if key not in self._kept:
                self._kept[key] = encoded
                self._bytes += len(encoded)
            while self._bytes > KEPT:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return encoded

    def size(self, picture: Picture) -> tuple[int, int]:
        """(width, height) of the upright picture at full size; it is decoded to see that it can be.

        Raises ImageError, which names the file as its owner does, where it cannot.
        """
        with self._lock:
            if picture.id in self._sizes:
                return self._sizes[picture.id]
        with self.turns, named(picture):
            image = load_image(picture.path, max_size=SIZES[0])
        with self._lock:
            self._sizes[picture.id] = image.width, image.height
            while len(self._sizes) > MEASURED:
                self._sizes.popitem(last=False)
        return image.width, image.height


def encode(pixels: NDArray[np.uint8], form: str) -> bytes:
    """(h, w, 3) or (h, w, 4) uint8 as "JPEG", "PNG" or "WEBP"."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, form, quality=85)
    return file.getvalue()
