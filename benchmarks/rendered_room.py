"""Photos of a room that exists only as numbers: exact poses, and whatever lens is asked for.

The room is a box of 6 by 4 by 8 metres, its walls full of blobs and rectangles drawn by code.
Cameras stand in it and look at its far end, or at the side of it. Pixels' rays are met with the
walls; a lens of any of COLMAP's models will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose import Pose
from covis.types import Matrix

SIDES = np.array([6.0, 4.0, 8.0])
"""Metres: x right, y down, z away; the middle is the origin."""
PER_METRE = 200
FINER = 2
"""Rays a pixel along each side."""


@dataclass(frozen=True)
class Room:
    """walls: by axis and side, (h, w, 3) uint8 each."""

    walls: dict[tuple[int, int], NDArray[np.uint8]]

    @classmethod
    def furnished(cls, seed: int) -> Room:
        """A room whose walls depend on the seed."""
        walls = {}
        for axis in range(3):
            across, down = (SIDES[other] for other in range(3) if other != axis)
            for side in (-1, 1):
                rng = np.random.default_rng([seed, axis, side + 1])
                walls[axis, side] = _wall(rng, round(across * PER_METRE), round(down * PER_METRE))
        return cls(walls)

    def seen_by(self, lens: CalibratedCamera, pose: Pose) -> NDArray[np.uint8]:
        """(h, w, 3): the picture that a camera takes there."""
        y, x = np.mgrid[: lens.height * FINER, : lens.width * FINER]
        pixels = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1) / FINER
        rays = lens.rays(pixels) @ pose.rotation
        place = pose.position
        with np.errstate(divide="ignore"):
            reach = (np.sign(rays) * SIDES / 2 - place) / rays
        axis = np.nan_to_num(reach, nan=np.inf).argmin(axis=1)
        met = place + rays * np.take_along_axis(reach, axis[:, None], axis=1)
        shape = lens.height * FINER, lens.width * FINER
        picture = np.zeros((*shape, 3), np.uint8)
        for (number, side), wall in self.walls.items():
            here = ((axis == number) & (np.sign(rays[:, number]) == side)).reshape(shape)
            first, second = (other for other in range(3) if other != number)
            across, down = (
                ((met[:, other] + SIDES[other] / 2) * PER_METRE - 0.5)
                .astype(np.float32)
                .reshape(shape)
                for other in (first, second)
            )
            colours = cv2.remap(wall, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            picture[here] = colours[here]
        size = lens.width, lens.height
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def standing(rng: np.random.Generator) -> Pose:
    """A camera somewhere in the nearer half of the room that looks at its far end."""
    place = rng.uniform([-1.6, -0.8, -2.6], [1.6, 0.8, -0.6])
    aim = rng.uniform([-1.2, -0.7, 4.0], [1.2, 0.7, 4.0])
    return looking(place, aim, np.radians(rng.uniform(-5, 5)))


def looking(place: Matrix, aim: Matrix, roll: float = 0.0) -> Pose:
    """The pose of a camera at a place that looks at another, its y axis down but for the roll."""
    z = (aim - place) / np.linalg.norm(aim - place)
    x = np.cross([0, 1.0, 0], z)
    x /= np.linalg.norm(x)
    level = np.array([x, np.cross(z, x), z])
    sine, cosine = np.sin(roll), np.cos(roll)
    rotation = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]) @ level
    return Pose(rotation, -rotation @ place)


def save(pixels: NDArray[np.uint8], path: Path, seed: int, exif_focal: float | None = None) -> None:
    """Write a photo with noise, as a JPEG. exif_focal: what EXIF says, in pixels; None: nothing."""
    noisy = pixels + np.random.default_rng(seed).normal(0, 2, pixels.shape)
    exif = PIL.Image.Exif()
    if exif_focal is not None:
        # 10 pixels a millimetre: 254 an inch, the unit that EXIF has by itself.
        exif.get_ifd(0x8769).update({0x920A: exif_focal / 10, 0xA20E: 254.0})
    picture = PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    picture.save(path, quality=93, exif=exif)


def _wall(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.float32)
    for cell in (6, 12, 25, 60, 150):
        grid = rng.random((height // cell + 3, width // cell + 3, 3), np.float32)
        soft = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        picture += soft[:height, :width]
    for _ in range(width * height // 4000):
        corner = (rng.random(2) * [width, height]).astype(int)
        end = corner + rng.integers(8, 70, 2)
        colour = (rng.random(3) * 5).tolist()
        cv2.rectangle(picture, corner.tolist(), end.tolist(), colour, -1)
    return np.clip(picture * 51, 0, 255).astype(np.uint8)
