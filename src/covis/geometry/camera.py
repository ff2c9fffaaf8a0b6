"""Cameras: what turns pixels into viewing directions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import poselib
from numpy.typing import ArrayLike

from covis.errors import ArgumentError, CovisError
from covis.images.exif import plausible_focal
from covis.messages import extra
from covis.types import Matrix

FOCAL_PER_SIDE = 1.2
"""The focal length assumed for an unknown camera, in longer sides: a phone's main camera has
about 0.75, a short telephoto 2, and 1.2 is the usual guess of structure-from-motion."""

POSELIB_MODELS = {
    "SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8,
    "OPENCV_FISHEYE": 8, "FULL_OPENCV": 12,
}  # fmt: skip
"""COLMAP's camera models that PoseLib knows, and how many numbers each takes."""

MODELS = POSELIB_MODELS | {
    "SIMPLE_FISHEYE": 3, "FISHEYE": 4, "SIMPLE_RADIAL_FISHEYE": 4, "RADIAL_FISHEYE": 5, "FOV": 5,
    "SIMPLE_DIVISION": 4, "DIVISION": 5, "EUCM": 6, "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16, "EQUIRECTANGULAR": 2,
}  # fmt: skip
"""All of COLMAP's; those that PoseLib does not know need pycolmap."""

BENDING = {"SIMPLE_PINHOLE": 3, "SIMPLE_RADIAL": 3, "OPENCV_FISHEYE": 4}
"""Models whose first radial term can be adjusted, and its place among the parameters; one of
SIMPLE_PINHOLE becomes SIMPLE_RADIAL."""

FISHEYES = (*(name for name in MODELS if "FISHEYE" in name), "FOV", "EUCM")
"""Models of lenses that see far more than 90 degrees."""

_NO_FOCAL = ("EQUIRECTANGULAR",)
_ONE_FOCAL = (
    "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_FISHEYE", "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE", "SIMPLE_DIVISION",
)  # fmt: skip


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
    def parse(cls, text: str, size: tuple[int, int]) -> Self:
        """From "f", the principal point then being in the middle, or "fx,fy,cx,cy".

        size: (width, height) of the picture in pixels. Raises ArgumentError for anything else.
        """
        try:
            numbers = [float(number) for number in text.replace(",", " ").split()]
        except ValueError:
            numbers = []
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], size[0] / 2, size[1] / 2)
        if len(numbers) == 4:
            return cls(*numbers)
        raise ArgumentError(
            f"'{text}' are no intrinsics; give f, or fx,fy,cx,cy in pixels, as in 525,525,320,240."
        )

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


def as_camera(given: Camera | ArrayLike | None) -> Camera | None:
    """A `Camera`, a 3 x 3 matrix of intrinsics, or None. Raises ArgumentError for anything else."""
    if given is None or isinstance(given, Camera):
        return given
    return Camera.from_matrix(given)


def check_focal(camera: Camera, size: tuple[int, int], name: str) -> None:
    """Raise ArgumentError unless a picture of (width, height) can be of such a focal length."""
    for focal in (camera.focal_x, camera.focal_y):
        if not plausible_focal(focal, size):
            raise ArgumentError(
                f"{name}: a focal length of {focal:g} pixels cannot be of a picture of "
                f"{size[0]}x{size[1]}; 0.1 to 10 longer sides can. Was it made for another size?"
            )


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera in COLMAP's words.

    model: one of MODELS. width, height: of the picture in pixels. params: in COLMAP's order, focal
    length or lengths first, in pixels, the top-left one's centre being (0.5, 0.5). A panorama
    (EQUIRECTANGULAR) has no focal length, but its own width and height in pixels.

    Raises ArgumentError on another model, another count, or numbers that are not a camera's;
    CovisError where a model needs pycolmap and it is not installed.
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
        positive = self.params[: self._focals or 2]
        if not all(map(math.isfinite, self.params)) or min(positive) <= 0:
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
        """In pixels, the mean where there are two; of a panorama, of its middle."""
        if not self._focals:
            return self.params[0] / (2 * math.pi)
        return sum(self.params[: self._focals]) / self._focals

    @property
    def centre(self) -> Matrix:
        """(2,): the principal point."""
        if not self._focals:
            return np.array(self.params) / 2
        return np.array(self.params[self._focals : self._focals + 2])

    @property
    def distortion(self) -> float:
        """The first radial term of those of BENDING; 0 of others."""
        at = BENDING.get(self.model, 0)
        return self.params[at] if 0 < at < len(self.params) else 0.0

    def scaled(self, factor: float) -> Self:
        """With focal lengths so many times as long."""
        focals = tuple(f * factor for f in self.params[: self._focals])
        return replace(self, params=focals + self.params[self._focals :])

    def bent(self, more: float) -> Self:
        """With so much more of the first radial term, of those of BENDING."""
        at = BENDING[self.model]
        term = self.distortion + more
        if self.model == "SIMPLE_PINHOLE":
            return replace(self, model="SIMPLE_RADIAL", params=(*self.params, term))
        return replace(self, params=(*self.params[:at], term, *self.params[at + 1 :]))

    def by_distortion(self, local: Matrix) -> Matrix:
        """(N, 2): the derivative of `pixels` by the first radial term, of those of BENDING."""
        flat = local[:, :2] / np.maximum(local[:, 2:], 1e-9)
        radius = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        bent = np.arctan(radius) if self.model == "OPENCV_FISHEYE" else radius
        found: Matrix = self.params[: self._focals] * flat / radius * bent**3
        return found

    def shifted(self, x: float, y: float) -> Self:
        """With the principal point moved by so many pixels."""
        if not (x or y):
            return self
        at = self._focals
        moved = self.params[at] + x, self.params[at + 1] + y
        return replace(self, params=(*self.params[:at], *moved, *self.params[at + 2 :]))

    @property
    def _focals(self) -> int:
        return 0 if self.model in _NO_FOCAL else 1 if self.model in _ONE_FOCAL else 2

    @property
    def with_poselib(self) -> bool:
        """Whether PoseLib knows the model."""
        return self.model in POSELIB_MODELS

    def to_poselib(self) -> Any:
        """The `poselib.Camera`, of a model that it knows."""
        return poselib.Camera(self.model, list(self.params), self.width, self.height)

    def pixels(self, local: Matrix) -> Matrix:
        """(N, 2): where points (N, 3) in front of the camera appear; NaN where it sees none."""
        if not self.with_poselib:
            return np.asarray(self._colmap.img_from_cam(local), np.float64).reshape(-1, 2)
        ahead = local[:, 2] > 1e-9
        seen = np.full((len(local), 2), np.nan)
        flat = local[ahead, :2] / local[ahead, 2:]
        seen[ahead] = np.array(self.to_poselib().project(flat)).reshape(-1, 2)
        return seen

    def derivatives(self, local: Matrix) -> Matrix:
        """(N, 2, 3): of `pixels` by the points."""
        if self.with_poselib:
            depth = np.maximum(local[:, 2], 1e-9)
            flat = local[:, :2] / depth[:, None]
            _, by_flat = self.to_poselib().project_with_jac(flat)
            by_point = np.zeros((len(local), 2, 3))
            by_point[:, 0, 0] = by_point[:, 1, 1] = 1 / depth
            by_point[:, :, 2] = -flat / depth[:, None]
            found: Matrix = np.array(by_flat).reshape(-1, 2, 2) @ by_point
            return found
        step = 1e-6 * np.linalg.norm(local, axis=1)[:, None]
        columns = [
            self.from_to(self.pixels(local - step * axis), self.pixels(local + step * axis))
            / (2 * step)
            for axis in np.eye(3)
        ]
        return np.stack(columns, axis=2)

    def from_to(self, start: Matrix, end: Matrix) -> Matrix:
        """(N, 2): the way between pixels; of a panorama the shorter one around."""
        way = end - start
        if self.model == "EQUIRECTANGULAR":
            way[:, 0] -= self.params[0] * np.round(way[:, 0] / self.params[0])
        return way

    def rays(self, pixels: Matrix) -> Matrix:
        """(N, 3): the directions (x right, y down, z ahead) of pixels (N, 2), of unit length."""
        if self.with_poselib:
            flat = np.array(self.to_poselib().unproject(pixels)).reshape(-1, 2)
            rays = np.column_stack([flat, np.ones(len(flat))])
            return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True), np.float64)
        return np.asarray(self._colmap.cam_ray_from_img(pixels), np.float64).reshape(-1, 3)

    @property
    def _colmap(self) -> Any:
        try:
            import pycolmap
        except ModuleNotFoundError:
            raise CovisError(f"cameras {self.model} need pycolmap: {extra('map')}") from None
        return pycolmap.Camera(
            model=self.model, width=self.width, height=self.height, params=list(self.params)
        )
