"""A picture that shows the query beside each hit, and why it is one."""

from __future__ import annotations

import os
from dataclasses import replace

import cv2
import numpy as np

from covis.draw.canvas import FONT, TEXT, WHITE, Colour, Pixels, blank
from covis.draw.matches import draw_matches
from covis.errors import ImageError
from covis.images.decode import load_image
from covis.messages import STATES, turned
from covis.search.retrieve import Hit, Region, SearchResult
from covis.types import Image, Matches, Source

TILE = 800
"""Width of a hit's tile in pixels."""
COLUMNS = 2
MARGIN = 12
TITLE = 28

_PAPER: Colour = (16, 17, 20)
_COLOURS: dict[str, Colour] = {
    "same": (98, 201, 132),
    "unsure": (226, 184, 84),
    "different": (150, 152, 158),
}


def draw_hits(
    query: Source, found: SearchResult, *, region: Region | None = None, max_lines: int = 80
) -> Pixels:
    """Each hit in a tile: the query on its left, lines between what matches, a title above.

    region: (x, y, width, height) of the query, in its pixels, to draw a frame around.

    Returns (h, w, 3) uint8, RGB. Raises ImageError when the query cannot be loaded; a hit whose
    file is gone or has changed gets an empty tile.
    """
    image = load_image(query, max_size=TILE)
    if region is not None:
        image = _framed(image, region)
    tiles = [_tile(image, hit, rank, max_lines) for rank, hit in enumerate(found.hits, 1)]
    rows = [tiles[begin : begin + COLUMNS] for begin in range(0, len(tiles), COLUMNS)]
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    width = MARGIN + (TILE + MARGIN) * min(COLUMNS, max(len(tiles), 1))
    sheet = blank(MARGIN + sum(heights) + MARGIN * max(len(rows), 1), width, _PAPER)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = MARGIN + column * (TILE + MARGIN)
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        top += height + MARGIN
    return sheet


def _framed(image: Image, region: Region) -> Image:
    rows, columns = image.pixels.shape[:2]
    across, down = columns / image.width, rows / image.height
    x, y, width, height = region
    corners = (
        (round(x * across), round(y * down)),
        (round((x + width) * across) - 1, round((y + height) * down) - 1),
    )
    pixels = image.pixels.copy()
    for thickness, colour in ((5, _PAPER), (3, WHITE)):
        cv2.rectangle(pixels, *corners, colour, thickness)
    return replace(image, pixels=pixels)


def _tile(query: Image, hit: Hit, rank: int, max_lines: int) -> Pixels:
    try:
        if hit.state != "there":
            raise ImageError(hit.path)
        image = load_image(hit.path, max_size=TILE)
    except ImageError:
        image = Image(blank(240, 320, (60, 60, 60)), hit.width, hit.height, name=hit.path)
    nothing = np.empty((0, 2), np.float32)
    matches = hit.matches or Matches(nothing, nothing, np.empty(0, np.float32))
    if matches.geometry is not None and not hit.certain:
        # The lines may say something, the outline of a doubtful model does not.
        matches = replace(matches, geometry=replace(matches.geometry, matrix=None))
    picture = draw_matches(query, image, matches, max_lines=max_lines, max_side=TILE)
    tile = blank(TITLE + picture.shape[0], TILE, _PAPER)
    left = (TILE - picture.shape[1]) // 2
    tile[TITLE:, left : left + picture.shape[1]] = picture
    label = hit.verdict.label if hit.verdict is not None else "not checked"
    reasons = [f"similarity {hit.similarity:.2f}", label, *turned(hit.turn, hit.mirrored)]
    reasons += [STATES[hit.state]] if hit.state in STATES else []
    words = "   ".join([f"{rank}. {os.path.basename(hit.path)}", *reasons])
    scale = 0.55
    natural = cv2.getTextSize(words, FONT, scale, 1)[0][0]
    scale *= min(1.0, (TILE - 16) / natural)
    cv2.putText(tile, words, (8, TITLE - 9), FONT, scale, _COLOURS.get(label, TEXT), 1, cv2.LINE_AA)
    return tile
