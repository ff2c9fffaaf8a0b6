"""Which matches of a pair of photos agree with a two-view geometry, as COLMAP's mappers need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from covis.geometry import Camera, estimate_geometry
from covis.types import BoolArray, Matrix

if TYPE_CHECKING:
    import pycolmap

Indices = NDArray[np.int64]

ROBUST_FROM = 500
"""The geometry is estimated from at most so many of the best matches; all are then judged by it.
That takes a fifth of the time on easy pairs, and finds the same inliers."""
MIN_ITERATIONS, MAX_ITERATIONS = 100, 1000
SIDE_SHARE = 1 / 400
"""The inlier threshold as a share of the longer side: 4 pixels of 1600, as COLMAP has it."""


@dataclass(frozen=True, eq=False)
class Verified:
    """The matches of a pair, and what they agree with.

    indices: (K, 2) int64 into the keypoints of both photos. inliers: (K,) bool.
    kind, matrix: see `Geometry`; the fundamental matrix is in the files' pixels.
    rotation_1from0: (3, 3), translation_1from0: (3,), of the essential matrix.
    """

    indices: Indices
    inliers: BoolArray
    kind: Literal["fundamental", "essential", "none"] = "none"
    matrix: Matrix | None = None
    rotation_1from0: Matrix | None = None
    translation_1from0: Matrix | None = None


def verify_pair(
    keypoints0: Matrix,
    keypoints1: Matrix,
    indices: Indices,
    camera0: pycolmap.Camera,
    camera1: pycolmap.Camera,
    *,
    least: int,
    seed: int = 0,
) -> Verified:
    """Estimate the geometry of a pair.

    keypoints0, keypoints1: (N, 2), in the files' frames. indices: (K, 2), the best match first.
    camera0, camera1: an essential matrix is estimated where both focal lengths
        are known beforehand, by EXIF or by the user, else a fundamental matrix.
    least: with fewer inliers there is no geometry.
    """
    none = Verified(indices, np.zeros(len(indices), bool))
    if len(indices) < least:
        return none
    x0, x1 = keypoints0[indices[:, 0]], keypoints1[indices[:, 1]]
    sizes = (camera0.width, camera0.height), (camera1.width, camera1.height)
    threshold = SIDE_SHARE * min(max(size) for size in sizes)
    calibrated = all(
        camera.has_prior_focal_length and not camera.is_spherical() for camera in (camera0, camera1)
    )
    kind: Literal["fundamental", "essential"] = "essential" if calibrated else "fundamental"
    pinhole0 = pinhole1 = None
    if calibrated:
        x0, pinhole0 = _undistorted(x0, camera0)
        x1, pinhole1 = _undistorted(x1, camera1)
    known = np.isfinite(x0).all(1) & np.isfinite(x1).all(1)
    best = np.flatnonzero(known)[:ROBUST_FROM]
    found = estimate_geometry(
        x0[best],
        x1[best],
        kind,
        size0=sizes[0],
        size1=sizes[1],
        threshold=threshold,
        scores=-np.arange(len(best)),
        seed=seed,
        min_iterations=MIN_ITERATIONS,
        max_iterations=MAX_ITERATIONS,
        camera0=pinhole0,
        camera1=pinhole1,
    )
    if found.matrix is None:
        return none
    matrix = found.matrix
    if pinhole0 is not None and pinhole1 is not None:
        matrix = np.linalg.inv(pinhole1.matrix).T @ matrix @ np.linalg.inv(pinhole0.matrix)
    inliers = known & (sampson(x0, x1, matrix) <= threshold)
    if inliers.sum() < least:
        return none
    return Verified(
        indices, inliers, kind, found.matrix, found.rotation_1from0, found.translation_1from0
    )


def sampson(points0: Matrix, points1: Matrix, fundamental: Matrix) -> Matrix:
    """(N,) first-order distances in pixels of (N, 2) points from an epipolar geometry."""
    x0, x1 = (np.column_stack([x, np.ones(len(x))]) for x in (points0, points1))
    lines1, lines0 = x0 @ fundamental.T, x1 @ fundamental
    slopes = (lines1[:, :2] ** 2).sum(1) + (lines0[:, :2] ** 2).sum(1)
    return np.abs((x1 * lines1).sum(1)) / np.sqrt(np.maximum(slopes, 1e-300))


def _undistorted(points: Matrix, camera: pycolmap.Camera) -> tuple[Matrix, Camera]:
    """Where a pinhole camera of the same focal length would have seen them, and that camera."""
    focal = camera.mean_focal_length()
    rays = np.asarray(camera.cam_from_img(points), np.float64).reshape(-1, 2)
    return rays * focal, Camera(focal, focal, 0.0, 0.0)
