"""Pictures that show what was found: matches, places, masks, maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from covis.errors import ArgumentError, ImageError
from covis.messages import counted
from covis.types import BoolArray, FloatArray, Image, Matches, Matrix

Pixels = NDArray[np.uint8]
Step = tuple[float, float]

_BACKGROUND = (24, 26, 30)
_TEXT = (232, 234, 237)
_OUTLINE = (255, 255, 255)
_SHADOW = (18, 18, 20)
_GAP = 6
_SHIFT = 4
_ENLARGED = 4


def draw_matches(
    image0: Image, image1: Image, matches: Matches, *, max_lines: int = 300, max_side: int = 1600
) -> Pixels:
    """The two images side by side, their inlier matches joined by lines, a caption below.

    A match's colour follows its place in image 0: hue from left to right, lightness from top
    to bottom. Outliers are left out. Where the geometry is a homography, the outline of image 0
    is drawn in image 1.

    max_lines: of more inliers, so many spread evenly over the ranking are drawn.
    max_side: the result's longest side in pixels at most.

    Returns (h, w, 3) uint8, RGB. Raises ArgumentError for a max_lines below 0 or a max_side
    below 64.
    """
    if max_lines < 0:
        raise ArgumentError(f"max_lines is {max_lines}; it must not be negative.")
    if max_side < 64:
        raise ArgumentError(f"max_side is {max_side}; it must be at least 64.")
    caption_height = min(max(16, max_side // 36), 44)
    size0, size1 = _sizes(image0, image1, max_side, caption_height)
    height = size0[1]
    left1 = size0[0] + _GAP
    canvas = np.empty((height + caption_height, left1 + size1[0], 3), np.uint8)
    canvas[:] = _BACKGROUND
    picture0, picture1 = canvas[:height, : size0[0]], canvas[:height, left1:]
    picture0[:] = _resized(image0.pixels, size0)
    picture1[:] = _resized(image1.pixels, size1)

    full0, full1 = np.array([image0.width, image0.height]), np.array([image1.width, image1.height])
    drawn = np.flatnonzero(matches.inliers)
    if len(drawn) > max_lines:
        drawn = drawn[np.linspace(0, len(drawn) - 1, max_lines).astype(int)]
    place0 = matches.points0[drawn] / full0
    place1 = matches.points1[drawn] / full1
    geometry = matches.geometry
    if geometry is not None and geometry.kind == "homography" and geometry.matrix is not None:
        _draw_outline(picture1, _outline(image0, geometry.matrix) / full1 * size1)
    ends = place1 * size1 + (left1, 0)
    _draw_lines(canvas[:height], place0 * size0, ends, _colours(place0))
    _write_caption(canvas[height:], matches)
    return canvas


def draw_transfer(
    image0: Image, image1: Image, points0: FloatArray, points1: FloatArray, *, max_side: int = 1600
) -> Pixels:
    """The two images side by side and places (N, 2) of them, in full-size pixels of each: a pair
    has one number, one colour, and a line between. Returns (h, w, 3) uint8, RGB, small images
    enlarged so that the numbers fit."""
    aspect0, aspect1 = image0.width / image0.height, image1.width / image1.height
    height = min(
        _ENLARGED * max(image0.pixels.shape[0], image1.pixels.shape[0]),
        max_side,
        int((max_side - _GAP) / (aspect0 + aspect1)),
    )
    size0, size1 = ((max(1, int(height * aspect)), height) for aspect in (aspect0, aspect1))
    canvas = np.full((size0[1], size0[0] + _GAP + size1[0], 3), _BACKGROUND, np.uint8)
    canvas[:, : size0[0]] = _resized(image0.pixels, size0)
    canvas[:, size0[0] + _GAP :] = _resized(image1.pixels, size1)
    place0 = points0 / (image0.width, image0.height)
    starts = place0 * size0
    ends = points1 / (image1.width, image1.height) * size1 + (size0[0] + _GAP, 0)
    colours = _hues(len(place0))
    _draw_lines(canvas, starts, ends, colours)
    for number, (pair, colour) in enumerate(zip(np.stack([starts, ends], 1), colours, strict=True)):
        for point in pair:
            _write_number(canvas, str(number + 1), point, colour)
    return canvas


def draw_labels(image: Image, labels: NDArray[Any], palette: Sequence[int] | None = None) -> Pixels:
    """An image with the places of each label (H, W) but 0 tinted and outlined.

    palette: red, green and blue of each label, one after the other; without it colours are chosen.
    Returns (h, w, 3) uint8, RGB, of the size of `image.pixels`.
    """
    picture = image.pixels.copy()
    height, width = picture.shape[:2]
    shown = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    for number, label in enumerate(np.setdiff1d(shown, 0).tolist()):
        colour = _hues(number + 1)[-1]
        if palette is not None and 3 * label + 3 <= len(palette):
            colour = tuple(palette[3 * label : 3 * label + 3])  # type: ignore[assignment]
        _tint(picture, shown == label, colour)
    return picture


def draw_box(image: Image, box: Sequence[float], cells: BoolArray, step: Step) -> Pixels:
    """An image with a box (left, top, right, bottom) and the cells (h, w) of an object tinted.

    step: (x, y), full-size pixels from a cell to the next. Returns RGB as `draw_labels` does.
    """
    picture = image.pixels.copy()
    part = _laid(cells.astype(np.uint8), step, image, cv2.INTER_NEAREST) > 0
    _tint(picture, part, _hues(1)[0])
    scale = picture.shape[1] / image.width, picture.shape[0] / image.height
    corners = np.array([box[:2], (box[2], box[1]), box[2:], (box[0], box[3])]) * scale
    _draw_outline(picture, np.clip(corners, 1, np.array(picture.shape[1::-1]) - 1.0))
    return picture


def draw_map(image: Image, colours: Pixels, step: Step) -> Pixels:
    """Colours of cells (h, w, 3) where they lie, as large as `image.pixels`."""
    laid: Pixels = _laid(colours, step, image, cv2.INTER_NEAREST)
    return laid


def draw_heat(image: Image, heat: FloatArray, step: Step, point: FloatArray) -> Pixels:
    """An image in grey under the heat of its cells (h, w), from their 2nd to their 98th percentile,
    and a ring around the point (x, y), in full-size pixels."""
    low, high = np.percentile(heat, (2, 98))
    level = np.rint(255 * np.clip((heat - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[:, :, ::-1]
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)[:, :, None].repeat(3, axis=2)
    laid = _laid(np.ascontiguousarray(colours), step, image, cv2.INTER_LINEAR)
    picture: NDArray[Any] = cv2.addWeighted(laid, 0.7, grey, 0.3, 0)
    height, width = grey.shape[:2]
    (centre,) = _fixed(np.reshape(point, (1, 2)) * (width / image.width, height / image.height))
    radius = round(max(height, width) / 70 * 2**_SHIFT)
    for thickness, colour in ((4, _SHADOW), (2, _OUTLINE)):
        cv2.circle(picture, centre.tolist(), radius, colour, thickness, cv2.LINE_AA, _SHIFT)
    return picture


def beside(pictures: Sequence[Pixels], captions: Sequence[str], *, max_side: int = 1600) -> Pixels:
    """Pictures of one size in a row, a caption below each."""
    height, width = pictures[0].shape[:2]
    count = len(pictures)
    scale = min(1.0, (max_side - (count - 1) * _GAP) / (count * width), max_side / height)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    caption_height = min(max(16, max_side // 50), 44)
    canvas = np.full(
        (size[1] + caption_height, count * (size[0] + _GAP) - _GAP, 3), _BACKGROUND, np.uint8
    )
    for number, (picture, words) in enumerate(zip(pictures, captions, strict=True)):
        place = slice(number * (size[0] + _GAP), number * (size[0] + _GAP) + size[0])
        canvas[: size[1], place] = _resized(picture, size)
        _write_words(canvas[size[1] :, place], words)
    return canvas


def save_picture(picture: Pixels, path: str | os.PathLike[str]) -> None:
    """Write (h, w, 3) uint8 RGB to a file; the suffix says how (.png, .jpg, .webp, ...).

    Raises ImageError as `check_drawable` does, and where the file cannot be written.
    """
    check_drawable(path)
    try:
        PIL.Image.fromarray(picture).save(path, quality=92)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_drawable(path: str | os.PathLike[str]) -> None:
    """Raise ImageError where the folder does not exist or the suffix is unknown."""
    path = Path(path)
    if PIL.Image.registered_extensions().get(path.suffix.lower()) not in PIL.Image.SAVE:
        raise ImageError(
            f"{path}: cannot write pictures with the suffix {path.suffix!r}; use .png or .jpg."
        )
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist; create it first.")


def _sizes(
    image0: Image, image1: Image, max_side: int, caption_height: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) at which the pictures are shown: at one height, the larger of the two."""
    aspect0, aspect1 = image0.width / image0.height, image1.width / image1.height
    height = min(
        max(image0.pixels.shape[0], image1.pixels.shape[0]),
        max_side - caption_height,
        int((max_side - _GAP) / (aspect0 + aspect1)),
    )
    height = max(1, height)
    return (max(1, int(height * aspect0)), height), (max(1, int(height * aspect1)), height)


def _resized(pixels: Pixels, size: tuple[int, int]) -> NDArray[Any]:
    shrinks = size[0] < pixels.shape[1]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _colours(places: NDArray[np.floating[Any]]) -> list[tuple[int, int, int]]:
    """One RGB colour for each place (N, 2) in 0..1: hue along x, paler towards the top."""
    if len(places) == 0:
        return []
    x, y = np.clip(places, 0, 1).T
    hsv = np.stack([x * 300, 0.5 + 0.45 * y, np.ones_like(x)], axis=1)
    rgb = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0] * 255
    return [(round(float(r)), round(float(g)), round(float(b))) for r, g, b in rgb]


def _fixed(points: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """Points (N, 2), top-left pixel's centre (0.5, 0.5), as OpenCV's drawing takes them."""
    fixed: NDArray[np.int32] = np.rint((points - 0.5) * 2**_SHIFT).astype(np.int32)
    return fixed


def _draw_lines(
    canvas: Pixels,
    starts: NDArray[np.floating[Any]],
    ends: NDArray[np.floating[Any]],
    colours: list[tuple[int, int, int]],
) -> None:
    thickness = max(1, round(canvas.shape[0] / 900))
    radius = max(2.0, canvas.shape[0] / 240)
    pairs = list(zip(_fixed(starts).tolist(), _fixed(ends).tolist(), colours, strict=True))
    lines = canvas.copy()
    for start, end, colour in pairs:
        cv2.line(lines, start, end, colour, thickness, cv2.LINE_AA, _SHIFT)
    opacity = float(np.clip(6 / np.sqrt(max(1, len(pairs))), 0.3, 0.7))
    cv2.addWeighted(lines, opacity, canvas, 1 - opacity, 0, dst=canvas)
    for start, end, colour in pairs:
        for point in (start, end):
            for size, tint in ((radius + 1, _SHADOW), (radius, colour)):
                cv2.circle(canvas, point, round(size * 2**_SHIFT), tint, -1, cv2.LINE_AA, _SHIFT)


def _outline(image: Image, h_1from0: Matrix) -> Matrix:
    """The border of image 0 in image 1, (N, 2), clipped to what lies before the camera."""
    along = np.linspace(0, 1, 65)[:-1, None]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    border = np.concatenate(
        [a + along * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    ) * (image.width, image.height)
    mapped = np.column_stack([border, np.ones(len(border))]) @ h_1from0.T
    before = mapped[:, 2] * np.sign(mapped[:, 2].mean()) > 1e-3 * np.abs(mapped[:, 2]).max()
    outline: Matrix = mapped[before, :2] / mapped[before, 2:]
    return outline


def _draw_outline(picture: Pixels, outline: Matrix) -> None:
    reach = 20 * max(picture.shape)
    points = [_fixed(np.clip(outline, -reach, reach))]
    thickness = max(2, round(picture.shape[0] / 360))
    for width, colour in ((thickness + 2, _SHADOW), (thickness, _OUTLINE)):
        cv2.polylines(picture, points, True, colour, width, cv2.LINE_AA, _SHIFT)


def _write_caption(strip: Pixels, matches: Matches) -> None:
    count, inliers = len(matches), int(matches.inliers.sum())
    words = counted(count, "match", "matches")
    if matches.geometry is not None:
        words += ", " + counted(inliers, "inlier")
    _write_words(strip, words)


def _write_words(strip: Pixels, words: str) -> None:
    """In the middle of (h, w, 3), as large as fits."""
    font = cv2.FONT_HERSHEY_DUPLEX
    height, width = strip.shape[:2]
    (natural, tall), _ = cv2.getTextSize(words, font, 1, 1)
    scale = min(0.42 * height / tall, 0.9 * width / natural)
    corner = (round((width - natural * scale) / 2), round((height + tall * scale) / 2))
    cv2.putText(strip, words, corner, font, scale, _TEXT, 1, cv2.LINE_AA)


def _write_number(
    canvas: Pixels, number: str, point: NDArray[np.floating[Any]], colour: tuple[int, int, int]
) -> None:
    """Beside a point, within the canvas."""
    scale = max(canvas.shape[0] / 1000, 0.4)
    font, (height, width) = cv2.FONT_HERSHEY_DUPLEX, canvas.shape[:2]
    (wide, tall), _ = cv2.getTextSize(number, font, scale, 1)
    x = min(max(round(point[0] + 6 + 4 * scale), 0), width - wide)
    y = min(max(round(point[1] - 4 - 4 * scale), tall), height - 1)
    for thickness, tint in ((3, _SHADOW), (1, colour)):
        cv2.putText(canvas, number, (x, y), font, scale, tint, thickness, cv2.LINE_AA)


def _hues(count: int) -> list[tuple[int, int, int]]:
    """So many RGB colours, far apart in hue even when they are next to each other."""
    hues = (15 + 137.508 * np.arange(count)) % 360
    hsv = np.stack([hues, np.full(count, 0.75), np.ones(count)], axis=1).astype(np.float32)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] if count else hsv
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rgb.tolist()]


def _tint(picture: Pixels, part: BoolArray, colour: tuple[int, int, int]) -> None:
    """Half the colour where `part` (h, w) is set, and an outline around it."""
    picture[part] = picture[part] // 2 + (np.array(colour) // 2).astype(np.uint8)
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, max(1, picture.shape[0] // 400), cv2.LINE_AA)


def _laid(cells: NDArray[Any], step: Step, image: Image, interpolation: int) -> NDArray[Any]:
    """Cells (h, w, ...) where they lie, as large as `image.pixels`, what is beyond it cut off."""
    height, width = image.pixels.shape[:2]
    scale = step[0] * width / image.width, step[1] * height / image.height
    # A pixel's centre is at a half: OpenCV's own pixels have theirs at whole numbers.
    matrix = np.array([[scale[0], 0, scale[0] / 2 - 0.5], [0, scale[1], scale[1] / 2 - 0.5]])
    return cv2.warpAffine(
        cells, matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_REPLICATE
    )
