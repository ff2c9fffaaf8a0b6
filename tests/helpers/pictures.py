"""Plain pictures, and where something was drawn on them."""

from __future__ import annotations

import numpy as np

from covis.types import Image


def grey(width, height, scale=1):
    """An image of (width, height) pixels whose file is `scale` times as large."""
    return Image(np.full((height, width, 3), 128, np.uint8), scale * width, scale * height)


def changed(picture, before=128):
    """(h, w): where a picture is no longer of the grey, or the pixels, it was before."""
    return (np.abs(picture.astype(int) - before) > 3).any(axis=2)
