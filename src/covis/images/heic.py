"""HEIC pictures, which Pillow reads with the extra "heic" (pillow-heif)."""

from __future__ import annotations

import os
from functools import cache

from covis.errors import ImageError
from covis.messages import extra

SUFFIXES = (".heic", ".heif")


def prepare(path: str | os.PathLike[str]) -> None:
    """Let Pillow read the file, if its name is a HEIC picture's.

    Raises ImageError where the extra is missing.
    """
    path = os.fspath(path)
    if path.lower().endswith(SUFFIXES) and os.path.isfile(path) and not _registered():
        raise ImageError(
            f"{path}: reading HEIC needs pillow-heif, {extra('heic')}; or convert it to JPEG."
        )


@cache
def _registered() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
