"""What the pictures share: a canvas, its colours, lines, text, resizing and saving.

Pictures are (h, w, 3) uint8, RGB; places on them are in pixels, the centre of the top-left one at
(0.5, 0.5).
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from covis.errors import CovisError, ImageError
from covis.files.atomic import replacing
from covis.types import Image

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Size = tuple[int, int]
Places = NDArray[np.floating[Any]]

BACKGROUND: Colour = (24, 26, 30)
TEXT: Colour = (232, 234, 237)
WHITE: Colour = (255, 255, 255)
SHADOW: Colour = (18, 18, 20)
GAP = 6
"""Pixels between two pictures."""
WIDEST = 1.5
"""How far to a side cameras are drawn to see at most, in lengths of their pyramids."""
FONT = cv2.FONT_HERSHEY_DUPLEX
SHIFT = 4
"""Bits behind the point of the coordinates that OpenCV draws at."""


def blank(height: int, width: int, colour: Colour = BACKGROUND) -> Pixels:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def resized(pixels: Pixels, size: Size) -> NDArray[Any]:
    """The picture at a size of (width, height)."""
    shrinks = size[0] < pixels.shape[1]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def side_by_side(
    image0: Image, image1: Image, height: int, max_side: int, caption: int = 0
) -> tuple[Pixels, Size, Size]:
    """The two images at one height, and the sizes (width, height) they then have.

    height: in pixels, at most; less where the result's longest side would exceed max_side.
    caption: how high a strip of background below them is.
    """
    aspects = [image.width / image.height for image in (image0, image1)]
    height = max(1, min(height, max_side - caption, int((max_side - GAP) / sum(aspects))))
    size0, size1 = ((max(1, int(height * aspect)), height) for aspect in aspects)
    canvas = blank(height + caption, size0[0] + GAP + size1[0])
    canvas[:height, : size0[0]] = resized(image0.pixels, size0)
    canvas[:height, size0[0] + GAP :] = resized(image1.pixels, size1)
    return canvas, size0, size1


def fixed_point(points: Places) -> NDArray[np.int32]:
    """Points (N, 2) as OpenCV's drawing takes them with SHIFT; far ones are moved nearer."""
    far = np.clip((points - 0.5) * 2**SHIFT, -(2**24), 2**24)
    fixed: NDArray[np.int32] = np.rint(far).astype(np.int32)
    return fixed


def draw_dot(picture: Pixels, point: Places, radius: float, colour: Colour) -> None:
    """A filled circle around a point (2,); the radius in pixels."""
    _ring(picture, fixed_point(np.asarray(point)[None])[0].tolist(), radius, colour, -1)


def draw_ring(picture: Pixels, point: Places, radius: float) -> None:
    """A white circle around a point (2,), dark at its edges."""
    centre = fixed_point(np.asarray(point)[None])[0].tolist()
    for thickness, colour in ((4, SHADOW), (2, WHITE)):
        _ring(picture, centre, radius, colour, thickness)


def _ring(
    picture: Pixels, centre: Sequence[int], radius: float, colour: Colour, thickness: int
) -> None:
    size = round(radius * 2**SHIFT)
    cv2.circle(picture, centre, size, colour, thickness, cv2.LINE_AA, SHIFT)


def draw_path(
    picture: Pixels, points: Places, colour: Colour, thickness: int = 1, *, closed: bool = False
) -> None:
    """Lines from each of the points (N, 2) to the next."""
    cv2.polylines(picture, [fixed_point(points)], closed, colour, thickness, cv2.LINE_AA, SHIFT)


def draw_lines(
    picture: Pixels,
    starts: Places,
    ends: Places,
    colours: Sequence[Colour],
) -> None:
    """Lines from starts (N, 2) to ends (N, 2), the more the fainter, with dots at both."""
    thickness = max(1, round(picture.shape[0] / 900))
    radius = max(2.0, picture.shape[0] / 240)
    pairs = list(
        zip(fixed_point(starts).tolist(), fixed_point(ends).tolist(), colours, strict=True)
    )
    lines = picture.copy()
    for start, end, colour in pairs:
        cv2.line(lines, start, end, colour, thickness, cv2.LINE_AA, SHIFT)
    opacity = float(np.clip(6 / np.sqrt(max(1, len(pairs))), 0.3, 0.7))
    cv2.addWeighted(lines, opacity, picture, 1 - opacity, 0, dst=picture)
    for start, end, colour in pairs:
        for point in (start, end):
            for size, tint in ((radius + 1, SHADOW), (radius, colour)):
                _ring(picture, point, size, tint, -1)


def draw_outline(picture: Pixels, outline: Places) -> None:
    """A closed white line through the points (N, 2), dark at its edges."""
    reach = 20 * max(picture.shape)
    points = np.clip(outline, -reach, reach)
    thickness = max(2, round(picture.shape[0] / 360))
    for width, colour in ((thickness + 2, SHADOW), (thickness, WHITE)):
        draw_path(picture, points, colour, width, closed=True)


def write_words(strip: Pixels, words: str) -> None:
    """In the middle of (h, w, 3), as large as fits."""
    height, width = strip.shape[:2]
    (natural, tall), _ = cv2.getTextSize(words, FONT, 1, 1)
    scale = min(0.42 * height / tall, 0.9 * width / natural)
    corner = (round((width - natural * scale) / 2), round((height + tall * scale) / 2))
    cv2.putText(strip, words, corner, FONT, scale, TEXT, 1, cv2.LINE_AA)


def hues(count: int) -> list[Colour]:
    """So many RGB colours, far apart in hue even when they are next to each other."""
    degrees = (15 + 137.508 * np.arange(count)) % 360
    hsv = np.stack([degrees, np.full(count, 0.75), np.ones(count)], axis=1).astype(np.float32)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] if count else hsv
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rgb.tolist()]


def beside(pictures: Sequence[Pixels], captions: Sequence[str], *, max_side: int = 1600) -> Pixels:
    """Pictures of one size in a row, a caption below each."""
    height, width = pictures[0].shape[:2]
    count = len(pictures)
    scale = min(1.0, (max_side - (count - 1) * GAP) / (count * width), max_side / height)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    caption_height = min(max(16, max_side // 50), 44)
    canvas = blank(size[1] + caption_height, count * (size[0] + GAP) - GAP)
    for number, (picture, words) in enumerate(zip(pictures, captions, strict=True)):
        place = slice(number * (size[0] + GAP), number * (size[0] + GAP) + size[0])
        canvas[: size[1], place] = resized(picture, size)
        write_words(canvas[size[1] :, place], words)
    return canvas


def save_picture(picture: Pixels, path: str | os.PathLike[str]) -> None:
    """Write (h, w, 3) uint8 RGB to a file; the suffix says how (.png, .jpg, .webp, ...).

    What was there before stays until the new file is whole. Raises ImageError as `check_drawable`
    does, and where the file cannot be written.
    """
    check_drawable(path)
    format_ = PIL.Image.registered_extensions()[Path(path).suffix.lower()]
    # Into memory first: what Pillow writes to a file itself may end early and say nothing.
    encoded = io.BytesIO()
    try:
        PIL.Image.fromarray(picture).save(encoded, format_, quality=92)
        with replacing(path) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error}.") from error
    except CovisError as error:
        raise ImageError(str(error)) from error


def check_drawable(path: str | os.PathLike[str]) -> None:
    """Raise ImageError where the folder does not exist or the suffix is unknown."""
    path = Path(path)
    if PIL.Image.registered_extensions().get(path.suffix.lower()) not in PIL.Image.SAVE:
        raise ImageError(
            f"{path}: cannot write pictures with the suffix {path.suffix!r}; use .png or .jpg."
        )
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist; create it first.")
