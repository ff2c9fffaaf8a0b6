"""Where a camera stands, and how it is turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.types import Matrix


@dataclass(frozen=True, eq=False)
class Pose:
    """cam_from_world, as COLMAP has it: x right, y down, z ahead.

    rotation: (3, 3). translation: (3,), in the world's unit.
    """

    rotation: Matrix
    translation: Matrix

    @classmethod
    def from_quaternion(cls, quaternion: ArrayLike, translation: ArrayLike) -> Self:
        """quaternion: (w, x, y, z), of any length but zero."""
        w, x, y, z = q = np.asarray(quaternion, np.float64)
        if not q @ q > 0:
            raise ArgumentError("a rotation's quaternion must not be zero.")
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        rotation = np.eye(3) + 2 / (q @ q) * (w * cross + cross @ cross)
        return cls(rotation, np.array(translation, np.float64))

    @property
    def position(self) -> Matrix:
        """(3,): where the camera stands in the world."""
        position: Matrix = -self.rotation.T @ self.translation
        return position

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """(w, x, y, z), unit length, w not negative."""
        (a, b, c), (d, e, f), (g, h, i) = self.rotation
        # The largest of the four, which no rotation makes small, determines the others.
        squares = np.array([[1 + a + e + i, h - f, c - g, d - b],
                            [h - f, 1 + a - e - i, b + d, c + g],
                            [c - g, b + d, 1 - a + e - i, f + h],
                            [d - b, c + g, f + h, 1 - a - e + i]])  # fmt: skip
        row = squares[np.argmax(np.diag(squares))]
        row = row / np.linalg.norm(row) * (-1 if row[0] < 0 else 1)
        return float(row[0]), float(row[1]), float(row[2]), float(row[3])
