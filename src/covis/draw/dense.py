"""Pictures of dense features: keypoints moved, labels, boxes, heat, colours of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.draw.canvas import (
    FONT,
    GAP,
    SHADOW,
    Colour,
    Pixels,
    Places,
    draw_lines,
    draw_outline,
    draw_ring,
    hues,
    side_by_side,
)
from covis.types import BoolArray, FloatArray, Image

if TYPE_CHECKING:
    from covis.dense import FoundObject

Step = tuple[float, float]

_ENLARGED = 4


def draw_transfer(
    image0: Image, image1: Image, points0: FloatArray, points1: FloatArray, *, max_side: int = 1600
) -> Pixels:
    """The two images side by side and places (N, 2) of them, in full-size pixels of each: a pair
    has one number, one colour, and a line between. Returns (h, w, 3) uint8, RGB, small images
    enlarged so that the numbers fit."""
    height = _ENLARGED * max(image0.pixels.shape[0], image1.pixels.shape[0])
    canvas, size0, size1 = side_by_side(image0, image1, height, max_side)
    place0 = points0 / (image0.width, image0.height)
    starts = place0 * size0
    ends = points1 / (image1.width, image1.height) * size1 + (size0[0] + GAP, 0)
    colours = hues(len(place0))
    draw_lines(canvas, starts, ends, colours)
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
        colour = hues(number + 1)[-1]
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
    _tint(picture, part, hues(1)[0])
    _outline_box(picture, box, image)
    return picture


def draw_objects(image: Image, objects: Sequence[FoundObject]) -> Pixels:
    """An image with the masks and boxes of its objects, a colour each. Returns RGB as `draw_labels`
    does."""
    picture = image.pixels.copy()
    size = picture.shape[1::-1]
    for each, colour in zip(objects, hues(len(objects)), strict=True):
        mask = cv2.resize(each.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        _tint(picture, mask > 0, colour)
        _outline_box(picture, each.box, image)
    return picture


def draw_colours(image: Image, colours: Pixels, step: Step) -> Pixels:
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
    scale = width / image.width, height / image.height
    draw_ring(picture, np.asarray(point) * scale, max(height, width) / 70)
    return picture


def _write_number(canvas: Pixels, number: str, point: Places, colour: Colour) -> None:
    """Beside a point, within the canvas."""
    scale = max(canvas.shape[0] / 1000, 0.4)
    height, width = canvas.shape[:2]
    (wide, tall), _ = cv2.getTextSize(number, FONT, scale, 1)
    x = min(max(round(point[0] + 6 + 4 * scale), 0), width - wide)
    y = min(max(round(point[1] - 4 - 4 * scale), tall), height - 1)
    for thickness, tint in ((3, SHADOW), (1, colour)):
        cv2.putText(canvas, number, (x, y), FONT, scale, tint, thickness, cv2.LINE_AA)


def _outline_box(picture: Pixels, box: Sequence[float], image: Image) -> None:
    """box: (left, top, right, bottom), in full-size pixels of `image`."""
    scale = picture.shape[1] / image.width, picture.shape[0] / image.height
    corners = np.array([box[:2], (box[2], box[1]), box[2:], (box[0], box[3])]) * scale
    draw_outline(picture, np.clip(corners, 1, np.array(picture.shape[1::-1]) - 1.0))


def _tint(picture: Pixels, part: BoolArray, colour: Colour) -> None:
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
