"""What a surface looks like, by its name: a picture, the sky, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.training.data.game_maps.archives import Archives

Pixels = NDArray[Any]
Material = list[Pixels] | Literal["sky", "unseen"]
"""A picture's mip levels, each half the one before, or what is no picture."""
PLAIN = np.full((4, 4, 3), 128, np.uint8)
"""For a picture that the archives lack."""
SMALLEST = 4
"""Sides of the last mip level, at least."""
_SKY = re.compile(r"surfaceparm\s+sky\b")
_UNSEEN = re.compile(r"surfaceparm\s+nodraw\b")
_THROUGH = re.compile(r"surfaceparm\s+(trans|nonsolid|fog|water|lava|slime)\b")
_BLEND = re.compile(r"blendfunc\b")
_PICTURE = re.compile(r"\b(?:clampmap|map|qer_editorimage|animmap\s+\S+)\s+([^\s$*]\S*)")


class Materials:
    """The materials of a game's surfaces, decoded as they are asked for."""

    def __init__(self, archives: Archives) -> None:
        self._archives = archives
        self._scripts: dict[str, str] = {}
        for name in archives.names(".shader"):
            for title, body in _scripts((archives.read(name) or b"").decode("latin-1")):
                self._scripts.setdefault(title, body)
        self._known: dict[str, Material] = {}

    def __getitem__(self, name: str) -> Material:
        name = name.lower()
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Material:
        script = self._scripts.get(name, "")
        if _SKY.search(script):
            return "sky"
        if _UNSEEN.search(script) or name.startswith("textures/common/"):
            return "unseen"
        # Water, fog and glass are seen through: as a wall each would be a wrong depth.
        if _THROUGH.search(script) and _BLEND.search(script):
            return "unseen"
        for candidate in (name, *_PICTURE.findall(script)):
            picture = self._archives.picture(candidate)
            if picture is not None:
                return mip_levels(picture)
        return [PLAIN]


def mip_levels(picture: Pixels) -> list[Pixels]:
    """The picture (H, W, 3) and its halves, down to SMALLEST pixels a side."""
    levels = [picture]
    while min(levels[-1].shape[:2]) > SMALLEST:
        height, width = levels[-1].shape[:2]
        half = max(1, width // 2), max(1, height // 2)
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
    return levels


def _scripts(text: str) -> Iterator[tuple[str, str]]:
    """The names and bodies of a file of the format: name { ... { ... } ... }, in lower case."""
    text = re.sub(r"//[^\n]*", "", text).lower()
    depth, title, begin = 0, "", 0
    for token in re.finditer(r"[{}]|[^\s{}]+", text):
        if token[0] == "{":
            depth += 1
            if depth == 1:
                begin = token.end()
        elif token[0] == "}":
            depth = max(depth - 1, 0)
            if depth == 0 and title:
                yield title, text[begin : token.start()]
                title = ""
        elif depth == 0:
            title = token[0].strip('"')
