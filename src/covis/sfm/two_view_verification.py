"""Which matches of a pair of photos agree with a two-view geometry, as COLMAP's mappers need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.geometry import Camera, estimate_geometry
from covis.geometry.independent_places import PLACES, covered_surprise
from covis.types import BoolArray, Matrix

if TYPE_CHECKING:
    import pycolmap

Indices = NDArray[np.int64]
Size = tuple[int, int]

ROBUST_FROM = 500
"""The geometry is estimated from at most so many of the best matches; all are then judged by it.
That takes a fifth of the time on easy pairs, and finds the same inliers."""
MIN_ITERATIONS, MAX_ITERATIONS = 100, 1000
SIDE_SHARE = 1 / 400
"""The inlier threshold as a share of the longer side: 4 pixels of 1600, as COLMAP has it."""
LEAST_THRESHOLD = 1.0
"""In pixels: keypoints of small pictures are not found more accurately than that."""
STILL = 1 / 4
"""Of the inlier threshold, but a pixel at least: matches that move no further may be printed over
both photos."""
LEAST_EVIDENCE = 6.0
"""The least `covered_surprise` of a pair of one place: of 3,784
pairs of different photographs, 480 to 1,200 pixels wide, the most had 5.4."""


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
    evidence: float = LEAST_EVIDENCE,
    seed: int = 0,
) -> Verified:
    """Estimate the geometry of a pair; none where unrelated photos would agree as well.

    What is printed over both photos has no part in it.

    keypoints0, keypoints1: (N, 2), in the files' frames. indices: (K, 2), the best match first.
    camera0, camera1: an essential matrix is estimated where both focal lengths
        are known beforehand, by EXIF or by the user, else a fundamental matrix.
    least: with fewer inliers there is no geometry. evidence: with less, see LEAST_EVIDENCE.
    """
    none = Verified(indices, np.zeros(len(indices), bool))
    if len(indices) < least:
        return none
    x0, x1 = keypoints0[indices[:, 0]], keypoints1[indices[:, 1]]
    sizes = (camera0.width, camera0.height), (camera1.width, camera1.height)
    threshold = max(LEAST_THRESHOLD, SIDE_SHARE * min(max(size) for size in sizes))
    printed = _printed_over(keypoints0, x0, x1, sizes, threshold)
    spherical = camera0.is_spherical() or camera1.is_spherical()
    calibrated = camera0.has_prior_focal_length and camera1.has_prior_focal_length and not spherical
    kind: Literal["fundamental", "essential"] = "essential" if calibrated else "fundamental"
    pinhole0 = pinhole1 = None
    if calibrated:
        x0, pinhole0 = _undistorted(x0, camera0)
        x1, pinhole1 = _undistorted(x1, camera1)
    known = ~printed & np.isfinite(x0).all(1) & np.isfinite(x1).all(1)
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
    seen = keypoints0[indices[known, 0]], keypoints1[indices[known, 1]]
    surprise = covered_surprise(kind, *seen, inliers[known], threshold, *sizes)
    # A fundamental matrix holds in a part of a panorama alone, which says too little of the rest.
    if surprise < evidence and not spherical:
        return none
    return Verified(
        indices, inliers, kind, found.matrix, found.rotation_1from0, found.translation_1from0
    )


def _printed_over(
    keypoints0: Matrix, x0: Matrix, x1: Matrix, sizes: tuple[Size, Size], threshold: float
) -> BoolArray:
    """(N,): which matches lie in what is printed over both photos: a logo, a bar with the time.

    That is where matches stay at the same pixel, and around it. Where they do so in half of what
    has keypoints at all, the camera stood still.
    """
    if sizes[0] != sizes[1]:
        return np.zeros(len(x0), bool)
    still = np.linalg.norm(x1 - x0, axis=1) <= max(1.0, STILL * threshold)
    scale = PLACES / max(sizes[0])
    cells = np.zeros((PLACES, PLACES), np.uint8)

    def place(points: Matrix) -> tuple[Indices, Indices]:
        column, row = np.clip(points * scale, 0, PLACES - 1).astype(np.int64).T
        return row, column

    cells[place(keypoints0)] = 1
    used = cells.sum()
    cells[:] = 0
    cells[place(x0[still])] = 1
    if 2 * cells.sum() > used:
        return np.zeros(len(x0), bool)
    around = cv2.dilate(cells, np.ones((5, 5), np.uint8)) > 0
    return around[place(x0)] & around[place(x1)]


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
