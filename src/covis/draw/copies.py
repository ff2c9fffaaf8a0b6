"""A picture that shows groups of copies, one group below the other."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2

from covis.draw.canvas import FONT, GAP, TEXT, WHITE, Pixels, blank, resized
from covis.errors import ImageError
from covis.images.decode import load_image
from covis.messages import turned
from covis.search.duplicates import Copy, Group

TILE = 220
"""Side in pixels of what a copy is drawn in."""
CAPTION = 24
COLUMNS = 6
MOST = 50
"""Groups that are drawn at most."""


def draw_groups(groups: Sequence[Group]) -> Pixels:
    """Each group in rows of tiles, its first, the likely original, in a white frame.

    Of many groups the first MOST. Returns (h, w, 3) uint8, RGB.
    """
    rows: list[list[Pixels]] = []
    for group in groups[:MOST]:
        tiles = [_tile(copy, first=not place) for place, copy in enumerate(group)]
        rows += [tiles[begin : begin + COLUMNS] for begin in range(0, len(tiles), COLUMNS)]
    columns = max((len(row) for row in rows), default=1)
    height, width = TILE + CAPTION + GAP, TILE + GAP
    sheet = blank(GAP + height * max(len(rows), 1), GAP + width * columns)
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            top, left = GAP + down * height, GAP + across * width
            sheet[top : top + TILE + CAPTION, left : left + TILE] = tile
    return sheet


def _tile(copy: Copy, first: bool) -> Pixels:
    """(TILE + CAPTION, TILE, 3); empty for a file that went away in the meantime."""
    tile = blank(TILE + CAPTION, TILE)
    try:
        image = load_image(copy.path, max_size=TILE - 2 * GAP)
    except ImageError:
        image = None
    if image is not None:
        scale = (TILE - 2 * GAP) / max(image.width, image.height)
        size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        left, top = (TILE - size[0]) // 2, (TILE - size[1]) // 2
        tile[top : top + size[1], left : left + size[0]] = resized(image.pixels, size)
        if first:
            corner = left + size[0], top + size[1]
            cv2.rectangle(tile, (left - 2, top - 2), corner, WHITE, 2)
    words = [os.path.basename(copy.path), *turned(copy.turn, copy.mirrored)]
    line, scale = ", ".join(words), 0.45
    scale *= min(1.0, (TILE - 8) / cv2.getTextSize(line, FONT, scale, 1)[0][0])
    cv2.putText(tile, line, (4, TILE + CAPTION - 8), FONT, scale, TEXT, 1, cv2.LINE_AA)
    return tile
