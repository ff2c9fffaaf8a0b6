"""Light, lens and sensor: what changes between two photos of one thing besides the view."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Light = NDArray[Any]


def degrade(
    image: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn a BGR view (H, W, 3) into a grey one (H, W) as another camera might have seen it.

    strength: 0 leaves the light alone, 1 is the published recipe's range, more is harder.
    """
    mix = np.full(3, 1 / 3) + rng.uniform(-0.2, 0.2, 3) * min(strength, 1)
    grey: Light = cv2.transform(image, (mix / mix.sum())[None].astype(np.float32)).astype(
        np.float32
    )
    grey = grey.reshape(image.shape[:2]) / 255
    if strength <= 0:
        return _to_bytes(grey)

    if rng.random() < 0.3:
        grey = grey * _shadow(grey.shape, rng, strength)
    if rng.random() < 0.3:
        grey = grey * _gradient(grey.shape, rng, strength)
    grey = np.clip(grey, 1e-4, 1) ** np.float32(np.exp(rng.uniform(-0.5, 0.5) * strength))
    contrast = np.exp(rng.uniform(-0.5, 0.3) * strength)
    grey = (grey - 0.5) * contrast + 0.5 + rng.uniform(-0.2, 0.2) * strength
    if rng.random() < 0.1 * strength:
        grey = cv2.equalizeHist(_to_bytes(grey)).astype(np.float32) / 255
    if rng.random() < 0.3 * strength:
        grey = _blur(grey, rng, strength)
    if rng.random() < 0.5 * strength:
        grey = grey + _noise(grey.shape, rng, strength)
    return _to_bytes(grey)


def _to_bytes(grey: Light) -> NDArray[np.uint8]:
    return np.clip(np.rint(grey * 255), 0, 255).astype(np.uint8)


def _shadow(shape: tuple[int, int], rng: np.random.Generator, strength: float) -> Light:
    """A few soft-edged polygons that darken what they cover."""
    height, width = shape
    light = np.ones(shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        outline = (rng.uniform(-0.2, 1.2, (int(rng.integers(3, 6)), 2)) * (width, height)).astype(
            np.int32
        )
        cv2.fillPoly(light, [outline], float(np.exp(-rng.uniform(0.2, 1.0) * strength)))
    return cv2.blur(light, (int(rng.integers(3, 25)),) * 2)


def _gradient(shape: tuple[int, int], rng: np.random.Generator, strength: float) -> Light:
    """Light that falls off across the view."""
    corners = np.exp(rng.uniform(-0.7, 0.3, (2, 2)) * strength).astype(np.float32)
    return cv2.resize(corners, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _blur(grey: Light, rng: np.random.Generator, strength: float) -> Light:
    """Out of focus, or moved."""
    if rng.random() < 0.6:
        return cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.4, 0.6 + 1.4 * strength))
    length = int(rng.integers(3, 5 + int(6 * strength))) | 1
    kernel = np.zeros((length, length), np.float32)
    half = length // 2
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * half
    ends = np.rint(np.array([half - reach, half + reach])).astype(int)
    cv2.line(kernel, tuple(ends[0].tolist()), tuple(ends[1].tolist()), 1.0)
    return cv2.filter2D(grey, -1, kernel / kernel.sum())


def _noise(shape: tuple[int, int], rng: np.random.Generator, strength: float) -> Light:
    """Sensor noise, sometimes correlated over a few pixels."""
    sigma = rng.uniform(0.005, 0.04) * strength
    noise: Light = rng.standard_normal(shape, np.float32) * np.float32(sigma)
    if rng.random() < 0.4:
        noise = cv2.blur(noise, (3, 3)) * 2
    return noise
