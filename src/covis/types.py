"""What flows between the rooms: images, features, matches, geometry.

Coordinates everywhere: (x, y) in the pixels of the image as a person sees it (EXIF
orientation applied, full size), the centre of the top-left pixel at (0.5, 0.5), as in COLMAP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Matrix = NDArray[np.float64]

GeometryKind = Literal["homography", "fundamental", "essential", "none"]


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded picture, perhaps smaller than its file says.

    pixels: (h, w, 3) uint8, RGB, upright.
    width, height: the full size of the upright picture in pixels; coordinates refer to it.
        `pixels` may be smaller when a maximal size was asked for.
    mask: (h, w) bool, True where the picture is to be ignored; None for nowhere.
    name: the path, or a word for an array, for messages.
    focal_length: in pixels of the full size, from EXIF; None where the file does not say.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    mask: BoolArray | None = None
    name: str = "array"
    focal_length: float | None = None


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one image, best first.

    keypoints: (N, 2) float32, (x, y) in full-size pixels, top-left pixel's centre (0.5, 0.5).
    scores: (N,) float32, larger is better.
    descriptors: (N, D) float32.
    width, height: full size of the image in pixels.
    model: name of the bundle or method that made them.
    scales: (N,) float32, the feature's size in pixels; None where the method has none.
    orientations: (N,) float32, radians clockwise as seen; None where the method has none.
    pixel_sizes: (N, 2) float32, how many full-size pixels (x, y) a pixel of the network's
        input covers at each feature; only semi-dense features have them, to be refined.
    """

    keypoints: FloatArray
    scores: FloatArray
    descriptors: FloatArray
    width: int
    height: int
    model: str
    scales: FloatArray | None = None
    orientations: FloatArray | None = None
    pixel_sizes: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class Geometry:
    """A two-view model fitted to matches.

    kind: what was asked for.
    matrix: (3, 3) float64 that maps homogeneous points of image 0: a homography H_1from0,
        or a fundamental or essential matrix with x1^T M x0 = 0. None where none was found.
        H and F take full-size pixels, E camera coordinates.
    inliers: (N,) bool, one a match.
    note: a sentence for people: why there is no model, or which focal length was assumed.
    rotation_1from0: (3, 3), essential only. translation_1from0: (3,), unit length.
    """

    kind: GeometryKind
    matrix: Matrix | None
    inliers: BoolArray
    note: str = ""
    rotation_1from0: Matrix | None = None
    translation_1from0: Matrix | None = None


@dataclass(frozen=True, eq=False)
class Matches:
    """Which points of two images show the same, best first.

    points0, points1: (N, 2) float32, full-size pixels of image 0 and image 1.
    scores: (N,) float32, 0..1, the matcher's confidence.
    indices: (N, 2) int64 into the two sets of features; None where points were refined away
        from them.
    geometry: the model fitted to the matches; None before one was asked for.
    seconds: wall time by stage. model, licence: what made them and under which terms.
    """

    points0: FloatArray
    points1: FloatArray
    scores: FloatArray
    indices: NDArray[np.int64] | None = None
    geometry: Geometry | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    licence: str = ""

    def __len__(self) -> int:
        return len(self.points0)

    @property
    def inliers(self) -> BoolArray:
        """(N,) bool: the matches the geometry agrees with; all where none was asked for."""
        if self.geometry is None:
            return np.ones(len(self), bool)
        return self.geometry.inliers
