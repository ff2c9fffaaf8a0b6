"""Two images side by side, what matches between them joined by lines."""

from __future__ import annotations

import cv2
import numpy as np

from covis.draw.canvas import (
    GAP,
    Colour,
    Pixels,
    Places,
    draw_lines,
    draw_outline,
    side_by_side,
    write_words,
)
from covis.errors import ArgumentError
from covis.messages import counted, turned
from covis.types import Image, Matches, Matrix


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
    height = max(image0.pixels.shape[0], image1.pixels.shape[0])
    canvas, size0, size1 = side_by_side(image0, image1, height, max_side, caption_height)
    height, left1 = size0[1], size0[0] + GAP
    full0, full1 = np.array([image0.width, image0.height]), np.array([image1.width, image1.height])
    drawn = np.flatnonzero(matches.inliers)
    if len(drawn) > max_lines:
        drawn = drawn[np.linspace(0, len(drawn) - 1, max_lines).astype(int)]
    place0 = matches.points0[drawn] / full0
    place1 = matches.points1[drawn] / full1
    geometry = matches.geometry
    if geometry is not None and geometry.kind == "homography" and geometry.matrix is not None:
        draw_outline(canvas[:height, left1:], _outline(image0, geometry.matrix) / full1 * size1)
    ends = place1 * size1 + (left1, 0)
    draw_lines(canvas[:height], place0 * size0, ends, _colours(place0))
    _write_caption(canvas[height:], matches)
    return canvas


def _colours(places: Places) -> list[Colour]:
    """One RGB colour for each place (N, 2) in 0..1: hue along x, paler towards the top."""
    if len(places) == 0:
        return []
    x, y = np.clip(places, 0, 1).T
    hsv = np.stack([x * 300, 0.5 + 0.45 * y, np.ones_like(x)], axis=1)
    rgb = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0] * 255
    return [(round(float(r)), round(float(g)), round(float(b))) for r, g, b in rgb]


def _outline(image: Image, h_1from0: Matrix) -> Matrix:
    """The border of image 0 in image 1, (N, 2), clipped to what lies before the camera."""
    along = np.linspace(0, 1, 65)[:-1, None]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    border = np.concatenate(
        [
            start + along * (end - start)
            for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        ]
    ) * (image.width, image.height)
    mapped = np.column_stack([border, np.ones(len(border))]) @ h_1from0.T
    before = mapped[:, 2] * np.sign(mapped[:, 2].mean()) > 1e-3 * np.abs(mapped[:, 2]).max()
    outline: Matrix = mapped[before, :2] / mapped[before, 2:]
    return outline


def _write_caption(strip: Pixels, matches: Matches) -> None:
    count, inliers = len(matches), int(matches.inliers.sum())
    words = counted(count, "match", "matches")
    if matches.geometry is not None:
        words += ", " + counted(inliers, "inlier")
    if how := turned(matches.turn, matches.mirrored):
        words += f", image 1 {', '.join(how)}"
    write_words(strip, words)
