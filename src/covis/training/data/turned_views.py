"""Two views of one photograph, turned by any angle and zoomed, in different light.

Points are (x, y) pixels here, the centre of the top-left pixel at (0, 0), as OpenCV has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.training.data.photometric import degrade

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Turning:
    """How far the views may be from the upright photo. Angles in degrees."""

    rotation: float = 15.0
    """Standard deviation."""
    any_rotation_probability: float = 0.3
    """How often the angle is drawn from the full circle instead."""
    zoom: float = 2.0
    """The largest enlargement and reduction of a view; two views differ by its square at most."""
    aspect: float = 0.15
    """Largest logarithm of width over height."""
    tilt: float = 0.2
    """How far the view's corners move, as a share of its side."""
    shift: float = 0.2
    """How far from the pair's middle a view may look, as a share of its side."""
    light: float = 1.0
    """Strength of the photometric changes, 0 for none."""


@dataclass(frozen=True, eq=False)
class TurnedPair:
    """Two views of a photo.

    index: which photo. views: (2, S, S) uint8, grey, relit. clean: (2, S, S) uint8, the same
    without the change of light. views_from_photo: (2, 3, 3) homographies.
    """

    index: int
    views: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    views_from_photo: NDArray[np.float64]


def render_turned(
    photos: list[Pixels], size: int, turning: Turning, rng: np.random.Generator
) -> TurnedPair:
    """Two views of `size` x `size` pixels of a random one of `photos` (BGR)."""
    index = int(rng.integers(len(photos)))
    photo = photos[index]
    height, width = photo.shape[:2]
    # A view that is mostly not the photo teaches little.
    least = max(1 / turning.zoom, 0.7 * size / min(height, width))
    ratio = turning.zoom ** rng.uniform(0, 2)
    small = _between(np.log(least), np.log(turning.zoom / ratio), rng)
    scales = rng.permutation(np.exp([small, small + np.log(ratio)])).tolist()
    margin = 0.35 * size / max(scales)
    middle = np.array([_between(margin, side - margin, rng) for side in (width, height)])
    clean, views, warps = [], [], []
    for scale in scales:
        looked_at = middle + rng.uniform(-turning.shift, turning.shift, 2) * size / max(scales)
        warp = _warp(looked_at, scale, size, turning, rng)
        drawn = _drawn(photo, warp, scale, size, photos[rng.integers(len(photos))])
        clean.append(degrade(drawn, 0, rng))
        views.append(degrade(drawn, turning.light, rng))
        warps.append(warp)
    return TurnedPair(index, np.stack(views), np.stack(clean), np.stack(warps))


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(low, high)) if low < high else (low + high) / 2


def _warp(
    middle: NDArray[np.float64],
    scale: float,
    size: int,
    turning: Turning,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The homography, view from photo, that brings `middle` to the view's."""
    angle = rng.normal(0, np.radians(turning.rotation))
    if rng.random() < turning.any_rotation_probability:
        angle = rng.uniform(-np.pi, np.pi)
    stretch = np.exp(rng.uniform(-turning.aspect, turning.aspect) / 2)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.array([[cos, -sin], [sin, cos]]) @ np.diag([stretch, 1 / stretch]) * scale
    centre = np.full(2, (size - 1) / 2)
    similarity = np.eye(3)
    similarity[:2, :2] = turned
    similarity[:2, 2] = centre - turned @ middle
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    moved = corners + rng.uniform(-turning.tilt, turning.tilt, (4, 2)).astype(np.float32) * size / 2
    return np.asarray(cv2.getPerspectiveTransform(corners, moved), np.float64) @ similarity


def _drawn(
    photo: Pixels, warp: NDArray[np.float64], scale: float, size: int, behind: Pixels
) -> Pixels:
    """The photo in the view, before another one."""
    if scale < 0.85:
        photo = cv2.GaussianBlur(photo, (0, 0), 0.45 * float(np.sqrt(scale**-2 - 1)))
    canvas = cv2.resize(behind, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.warpPerspective(
        photo, warp, (size, size), canvas, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
    )
