"""A corner of two walls and a floor, rendered with known cameras."""

from __future__ import annotations

import cv2
import numpy as np

from helpers.textures import clouds

WIDTH, HEIGHT, FOCAL = 480, 360, 420.0
SIDE = 900
"""Pixels of a wall's texture."""


def texture(seed):
    rng = np.random.default_rng(seed)
    picture = clouds(rng, SIDE, SIDE, (6, 12, 25, 60))
    for _ in range(250):
        corner = rng.integers(0, SIDE, 2)
        size = rng.integers(8, 60, 2)
        colour = rng.random(3) * 4
        cv2.rectangle(picture, corner.tolist(), (corner + size).tolist(), colour.tolist(), -1)
    return np.clip(picture * 64, 0, 255).astype(np.uint8)


# A wall's corner and its two sides, in metres: x right, y down, z away.
WALLS = [
    (np.array([-3.0, -2.0, 0.0]), np.array([3.0, 0, 3.0]), np.array([0, 3.0, 0])),
    (np.array([0.0, -2.0, 3.0]), np.array([3.0, 0, -3.0]), np.array([0, 3.0, 0])),
    (np.array([-3.0, 1.0, 0.0]), np.array([3.0, 0, 3.0]), np.array([3.0, 0, -3.0])),
]


def look(centre, target):
    """(3, 3): the rotation of a camera that looks at a point, its y axis down."""
    z = (target - centre) / np.linalg.norm(target - centre)
    x = np.cross([0, 1.0, 0], z)
    x /= np.linalg.norm(x)
    return np.array([x, np.cross(z, x), z])


def render(rotation, centre, textures):
    k = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    scale = 2
    finer = np.diag([scale, scale, 1.0])
    picture = np.full((HEIGHT * scale, WIDTH * scale, 3), 90, np.uint8)
    for (corner, right, down), pixels in zip(WALLS, textures, strict=True):
        plane = np.column_stack([right / SIDE, down / SIDE, corner - centre])
        homography = np.linalg.inv(half) @ finer @ k @ rotation @ plane @ half
        cv2.warpPerspective(
            pixels,
            homography,
            (WIDTH * scale, HEIGHT * scale),
            dst=picture,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    return cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
