"""Pages of rendered words, on one template."""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont


def page(seed, lines=14, size=(420, 560)):
    """(h, w, 3) uint8: a letterhead that all pages have, and lines of words of its own."""
    sheet = PIL.Image.new("RGB", size, "white")
    draw = PIL.ImageDraw.Draw(sheet)
    draw.rectangle((30, 25, 80, 65), "navy")
    draw.text((95, 30), "Northern Water Works", "navy", PIL.ImageFont.load_default(26))
    draw.text(
        (30, size[1] - 30), "12 Mill Lane, account 4411", "navy", PIL.ImageFont.load_default(14)
    )
    rng = np.random.default_rng(seed)
    for row in range(lines):
        words = [
            "".join(rng.choice(list("abdeghiklmnoprstu"), rng.integers(3, 9))) for _ in range(6)
        ]
        draw.text((30, 95 + 28 * row), " ".join(words), "black", PIL.ImageFont.load_default(18))
    return np.array(sheet)


def written_over(picture, text="ON MONDAYS"):
    """(h, w, 3) uint8 with large white letters that have a dark edge."""
    sheet = PIL.Image.fromarray(picture)
    size = picture.shape[1] // 8
    PIL.ImageDraw.Draw(sheet).text(
        (picture.shape[1] // 2, picture.shape[0] // 2),
        text,
        "white",
        PIL.ImageFont.load_default(size),
        anchor="mm",
        stroke_width=size // 10,
        stroke_fill="black",
    )
    return np.array(sheet)


def jpeg(picture, quality):
    """(h, w, 3) uint8 as JPEG leaves it."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)
