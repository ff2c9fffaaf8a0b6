"""Cameras: what turns pixels into viewing directions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import poselib
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.types import Matrix

FOCAL_PER_SIDE = 1.2
"""The focal length assumed for an unknown camera, in longer sides: a phone's main camera has
about 0.75, a short telephoto 2, and 1.2 is the usual guess of structure-from-motion."""

MODELS = {
    "SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8,
    "OPENCV_FISHEYE": 8, "FULL_OPENCV": 12,
}  # fmt: skip
"""COLMAP's camera models that PoseLib knows, and how many numbers each takes."""

_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")


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


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera in COLMAP's words.

    model: one of MODELS. width, height: of the picture in pixels. params: in COLMAP's order, focal
    length or lengths first, in pixels, the top-left one's centre being (0.5, 0.5).

    Raises ArgumentError on another model, another count, or numbers that are not a camera's.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ArgumentError(f"no camera model '{self.model}'; there are: {', '.join(MODELS)}.")
        if len(self.params) != MODELS[self.model]:
            raise ArgumentError(
                f"a camera {self.model} has {MODELS[self.model]} parameters, not "
                f"{len(self.params)}."
            )
        if not all(map(math.isfinite, self.params)) or min(self.params[: self._focals]) <= 0:
            raise ArgumentError(f"no camera has the parameters {self.params}.")
        if min(self.width, self.height) < 1:
            raise ArgumentError(f"a camera's picture cannot be {self.width}x{self.height}.")

    @classmethod
    def of(cls, camera: Camera, size: tuple[int, int]) -> Self:
        """A pinhole camera. size: (width, height) in pixels."""
        focal, centre = (camera.focal_x, camera.focal_y), (camera.centre_x, camera.centre_y)
        return cls("PINHOLE", *size, (*focal, *centre))

    @classmethod
    def parse(cls, text: str, size: tuple[int, int]) -> Self:
        """From "MODEL,p1,p2,..."; spaces do as well. size: (width, height) in pixels."""
        model, *numbers = text.replace(",", " ").split() or [""]
        try:
            return cls(model.upper(), *size, tuple(float(number) for number in numbers))
        except ValueError:
            raise ArgumentError(
                f"'{text}' is no camera; give its COLMAP model and parameters, as in "
                "PINHOLE,525,525,320,240."
            ) from None

    @property
    def focal(self) -> float:
        """In pixels, the mean where there are two."""
        return sum(self.params[: self._focals]) / self._focals

    @property
    def centre(self) -> Matrix:
        """(2,): the principal point."""
        return np.array(self.params[self._focals : self._focals + 2])

    def scaled(self, factor: float) -> Self:
        """With focal lengths so many times as long."""
        focals = tuple(f * factor for f in self.params[: self._focals])
        return replace(self, params=focals + self.params[self._focals :])

    @property
    def _focals(self) -> int:
        return 1 if self.model in _ONE_FOCAL else 2

    def to_poselib(self) -> Any:
        """The `poselib.Camera`."""
        return poselib.Camera(self.model, list(self.params), self.width, self.height)
