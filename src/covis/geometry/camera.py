"""A pinhole camera: what turns pixels into viewing directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.types import Matrix

FOCAL_PER_SIDE = 1.2
"""The focal length assumed for an unknown camera, in longer sides: a phone's main camera has
about 0.75, a short telephoto 2, and 1.2 is the usual guess of structure-from-motion."""


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics without skew or distortion, in full-size pixels.

    focal_x, focal_y: positive.
    centre_x, centre_y: the principal point, the top-left pixel's centre being (0.5, 0.5).

    Raises ArgumentError when a value is not finite or a focal length is not positive.
    """

    focal_x: float
    focal_y: float
    centre_x: float
    centre_y: float

    def __post_init__(self) -> None:
        values = (self.focal_x, self.focal_y, self.centre_x, self.centre_y)
        if not all(math.isfinite(value) for value in values):
            raise ArgumentError(f"A camera's intrinsics must be finite numbers, not {values}.")
        if self.focal_x <= 0 or self.focal_y <= 0:
            raise ArgumentError(
                f"A camera's focal lengths must be positive, not {self.focal_x}, {self.focal_y}."
            )

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Self:
        """The camera of a 3 x 3 matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].

        Raises ArgumentError for any other matrix.
        """
        try:
            k = np.asarray(matrix, np.float64)
        except (TypeError, ValueError) as error:
            raise ArgumentError("Intrinsics must be a 3 x 3 matrix of numbers.") from error
        if k.shape != (3, 3):
            raise ArgumentError(f"Intrinsics must be a 3 x 3 matrix, not {k.shape}.")
        if k[0, 1] or k[1, 0] or k[2].tolist() != [0, 0, 1]:
            raise ArgumentError(
                "Intrinsics must look like [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "
                f"without skew, not {k.tolist()}."
            )
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))

    @classmethod
    def from_size(cls, size: tuple[int, int], focal: float | None = None) -> Self:
        """A camera that looks through the middle of a picture of `size` = (width, height).

        focal: in pixels; None for FOCAL_PER_SIDE times the longer side.
        """
        if focal is None:
            focal = FOCAL_PER_SIDE * max(size)
        return cls(focal, focal, size[0] / 2, size[1] / 2)

    def scaled(self, factor: float) -> Self:
        """The camera of a picture that many times as large."""
        return type(self)(
            self.focal_x * factor,
            self.focal_y * factor,
            self.centre_x * factor,
            self.centre_y * factor,
        )

    @property
    def matrix(self) -> Matrix:
        """(3, 3): camera coordinates to homogeneous pixels."""
        return np.array(
            [[self.focal_x, 0, self.centre_x], [0, self.focal_y, self.centre_y], [0, 0, 1]],
            np.float64,
        )
