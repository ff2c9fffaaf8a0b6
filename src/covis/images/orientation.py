"""The eight ways a picture can be turned by quarters and mirrored, one group.

What EXIF says of a file, how a copy stands to its original, and how a picture is turned before
features are found in it, which know one way up. Turns are clockwise, as seen, in degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.types import Image, Matrix

TURNS = (90, 180, 270)

Element = TypeVar("Element", bound=np.generic)
Coordinate = TypeVar("Coordinate", bound=np.floating[Any])


@dataclass(frozen=True)
class Orientation:
    """How a picture is changed: mirrored left to right where `mirrored`, then turned clockwise.

    turn: 0, 90, 180 or 270 degrees.
    """

    turn: int = 0
    mirrored: bool = False

    @classmethod
    def from_exif(cls, value: object) -> Orientation:
        """What makes a file's pixels upright; `UPRIGHT` for a value that EXIF does not have."""
        known = isinstance(value, int) and 1 <= value <= 8
        return _OF_EXIF[value - 1] if known and isinstance(value, int) else UPRIGHT

    @classmethod
    def from_homography(cls, h_1from0: Matrix, around: tuple[float, float]) -> Orientation:
        """What makes image 1 stand as image 0 does, by their homography near a point of image 0."""
        x, y = around
        corner = np.array([[x, y], [x + 1, y], [x, y + 1]], np.float64)
        origin, *ends = cv2.perspectiveTransform(corner[:, None], h_1from0)[:, 0]
        across, down = (end - origin for end in ends)
        mirrored = bool(across[0] * down[1] < across[1] * down[0])
        angle = math.atan2(across[1], -across[0] if mirrored else across[0])
        return cls(round(-math.degrees(angle) / 90) * 90 % 360, mirrored)

    @property
    def exif(self) -> int:
        """EXIF's value for a file that this makes upright, 1 to 8."""
        return _OF_EXIF.index(self) + 1

    @property
    def inverse(self) -> Orientation:
        """What undoes it."""
        # A mirrored turn is its own inverse.
        return self if self.mirrored else Orientation((360 - self.turn) % 360)

    def then(self, other: Orientation) -> Orientation:
        """This and after it the other, as one."""
        turn = -self.turn if other.mirrored else self.turn
        return Orientation((turn + other.turn) % 360, self.mirrored != other.mirrored)

    def of_image(self, array: NDArray[Element]) -> NDArray[Element]:
        """An array (H, W), (H, W, 3) or (H, W, 4) changed so; itself if `UPRIGHT`."""
        if self == UPRIGHT:
            return array
        changed: NDArray[Any] = array.view(np.uint8) if array.dtype == np.bool_ else array
        if self.turn % 180:
            changed = cv2.transpose(changed)
        code = _FLIPS[self]
        changed = changed if code is None else cv2.flip(changed, code)
        return changed.view(array.dtype)

    def of_points(self, points: NDArray[Coordinate], size: tuple[int, int]) -> NDArray[Coordinate]:
        """Where points of a picture come to lie when it is changed so, (N, 2) both.

        (x, y) in pixels, the top-left pixel's centre at (0.5, 0.5). size: (width, height) of the
        picture before.
        """
        if self == UPRIGHT:
            return points
        (x, y), (width, height) = points.T, size
        if self.mirrored:
            x = width - x
        if self.turn == 90:
            x, y = height - y, x
        elif self.turn == 180:
            x, y = width - x, height - y
        elif self.turn == 270:
            x, y = y, width - x
        return np.stack([x, y], axis=1).astype(points.dtype, copy=False)

    def homography(self, size: tuple[int, int]) -> Matrix:
        """(3, 3) float64: what `of_points` does. size: (width, height) of the picture before."""
        corners = np.array([[0, 0], [1, 0], [0, 1]], np.float64)
        origin, *ends = self.of_points(corners, size)
        matrix = np.eye(3)
        matrix[:2] = np.column_stack([*(end - origin for end in ends), origin])
        return matrix

    def of_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of a picture of that size when it is changed so."""
        return size[::-1] if self.turn % 180 else size

    def of_picture(self, image: Image) -> Image:
        """A picture and its mask changed so; itself if `UPRIGHT`."""
        if self == UPRIGHT:
            return image
        width, height = self.of_size((image.width, image.height))
        mask = None if image.mask is None else self.of_image(image.mask)
        pixels = self.of_image(image.pixels)
        return replace(image, pixels=pixels, mask=mask, width=width, height=height)


UPRIGHT = Orientation()
ORIENTATIONS = tuple(
    Orientation(turn, mirrored) for mirrored in (False, True) for turn in (0, *TURNS)
)

# By EXIF's values, from 1.
_OF_EXIF = tuple(
    Orientation(turn, mirrored)
    for turn, mirrored in (
        (0, False), (0, True), (180, False), (180, True),
        (270, True), (90, False), (90, True), (270, False),
    )
)  # fmt: skip

# What is left to flip after turns by a quarter have swapped rows and columns, as cv2.flip has it.
_FLIPS = dict(zip(_OF_EXIF, (None, 1, -1, 0, None, 1, -1, 0), strict=True))
