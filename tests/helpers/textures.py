"""Pictures with something to find in them, made by code."""

from __future__ import annotations

import cv2
import numpy as np


def noise(height, width, seed=0):
    """(height, width, 3) uint8, every pixel by itself."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def soft_noise(rows, columns, size=(240, 180), seed=0):
    """Noise of rows x columns blown up to a size (width, height): smooth blobs of every colour."""
    return cv2.resize(noise(rows, columns, seed), size, interpolation=cv2.INTER_CUBIC)


def clouds(rng, height, width, cells, power=0.0):
    """(height, width, 3) float32: the sum of soft noise in 0..1, one for each size of cells in
    pixels, weighted by that size to a power."""
    total = np.zeros((height, width, 3), np.float32)
    for cell in cells:
        grid = rng.random((height // cell + 2, width // cell + 2, 3), np.float32)
        large = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += large[:height, :width] * cell**power
    return total


def draw_texture(height, width, seed=0):
    """(height, width, 3) uint8 with detail at every scale."""
    picture = clouds(np.random.default_rng(seed), height, width, (4, 8, 16, 32, 64), 0.5)
    low, high = np.percentile(picture, (1, 99))
    return np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8)
