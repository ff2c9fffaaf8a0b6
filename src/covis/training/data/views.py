"""Views of one photograph as another person might have taken it: part of it, askew, elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.training.data.photometric import degrade

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Change:
    """How far a view may be from its photo. Angles in degrees."""

    zoom: float = 2.5
    """The largest enlargement over filling the view; half as much, in octaves, the other way."""
    rotation: float = 12.5
    """Standard deviation."""
    aspect: float = 0.2
    """Largest logarithm of width over height, as a square root on either side."""
    tilt: float = 0.2
    """How far corners move, as a share of half the photo's extent."""
    shift: float = 0.3
    """How much of the photo may leave the view beyond what does not fit, as a share of half."""
    cover: float = 0.25
    """How often something stands in front."""
    light: float = 1.0
    """Strength of the photometric changes, 0 for none."""


SAME = Change(zoom=1.2, rotation=2, aspect=0.05, tilt=0.03, shift=0.05, cover=0, light=0.5)
HARD = Change()
CROP = Change(zoom=1.6, rotation=0, aspect=0.15, tilt=0, shift=0, cover=0, light=0.7)
"""As published: crops with another aspect."""


def render_view(
    photo: Pixels,
    other: Pixels,
    size: tuple[int, int],
    change: Change,
    rng: np.random.Generator,
    *,
    grey: bool = True,
) -> NDArray[np.uint8]:
    """A view of `photo` before `other` or a wall; both BGR. size: (height, width).

    Returns (3, height, width) RGB, or (1, height, width) with `grey`.
    """
    height, width = size
    canvas = _surroundings(other, size, rng)
    photo, corners = _placed(photo, size, change, rng)
    tall, wide = photo.shape[:2]
    frame = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
    warp = cv2.getPerspectiveTransform(frame, corners)
    drawn = cv2.warpPerspective(photo, warp, (width, height), borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(
        np.ones((tall, wide), np.uint8), warp, (width, height), flags=cv2.INTER_NEAREST
    )
    cv2.copyTo(drawn, inside, canvas)
    if rng.random() < change.cover:
        h, w = (int(side * rng.uniform(0.15, 0.5)) for side in size)
        y, x = (int(rng.integers(0, side - s)) for side, s in zip(size, (h, w), strict=True))
        canvas[y : y + h, x : x + w] = cv2.resize(other, (w, h), interpolation=cv2.INTER_AREA)
    if grey:
        return degrade(canvas, change.light, rng)[None]
    return relight(canvas, change.light, rng)[..., ::-1].transpose(2, 0, 1)


def relight(
    image: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Another exposure, contrast, gamma and white balance; (H, W, 3) uint8 as it was."""
    gain = np.exp(rng.uniform(-0.4, 0.4) * strength + rng.uniform(-0.1, 0.1, 3) * strength)
    gamma = np.exp(rng.uniform(-0.4, 0.4) * strength)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain
    table = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)
    lit: Pixels = cv2.LUT(image, table[:, None])
    return lit


def _placed(
    photo: Pixels, size: tuple[int, int], change: Change, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]]:
    """The photo, shrunk where it will be drawn smaller, and its corners (4, 2) in the view."""
    ratios = [side / own for side, own in zip(size, photo.shape[:2], strict=True)]
    fit = min(ratios) if rng.random() < 0.5 else max(ratios)
    scale = fit * change.zoom ** rng.uniform(-0.5, 1)
    if scale < 1:
        shape = [max(round(side * scale), 1) for side in photo.shape[1::-1]]
        photo, scale = cv2.resize(photo, shape, interpolation=cv2.INTER_AREA), 1.0
    angle = np.radians(rng.normal(0, change.rotation))
    stretch = np.exp(rng.uniform(-1, 1) * change.aspect) ** np.array([1, -1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    half = np.array(photo.shape[1::-1]) / 2 * scale * stretch
    corners = signs * half @ turn.T
    extent, view = np.ptp(corners, axis=0), np.array(size[::-1])
    corners += rng.uniform(-change.tilt, change.tilt, (4, 2)) * extent / 2
    room = np.abs(extent - view) / 2 + change.shift * np.minimum(extent, view) / 2
    corners += view / 2 + rng.uniform(-1, 1, 2) * room
    return photo, corners.astype(np.float32)


def _surroundings(other: Pixels, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """What a view shows around its photo: another photo, or a wall in uneven light."""
    height, width = size
    if rng.random() < 0.5:
        return cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
    light = rng.uniform(-25, 25, (2, 2)).astype(np.float32)
    wall = cv2.resize(light, (width, height))[..., None] + rng.uniform(40, 230, 3)
    grain = rng.standard_normal((height, width, 1), np.float32) * 3
    return np.clip(wall + grain, 0, 255).astype(np.uint8)
