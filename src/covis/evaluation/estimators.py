"""The robust estimators that papers measure with, behind one call.

poselib: covis' own, PoseLib's LO-RANSAC (`covis.geometry`). poselib-prosac: the same, which tries
    the better matches first, as `covis match` does.
opencv: OpenCV's RANSAC. opencv-magsac: its USAC with MAGSAC++ scoring.
dlt: no RANSAC: the direct linear transform of all matches, weighted by their scores; homographies.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.evaluation.benchmark import ESTIMATORS
from covis.evaluation.datasets.pairs import HomographyPair, Pair, PosePair
from covis.geometry import default_threshold, estimate_geometry
from covis.types import FloatArray, Geometry, GeometryKind, Matrix

CONFIDENCE = 0.99999
HOMOGRAPHY_ITERATIONS = 3000
POSE_ITERATIONS = 1000
"""OpenCV's own number, which published figures of its RANSAC come with."""
FAR = 1e9
"""Triangulated points count as in front of the cameras up to here, in baselines."""

_METHODS = {"opencv": cv2.RANSAC, "opencv-magsac": cv2.USAC_MAGSAC}


def estimate(
    estimator: str,
    pair: Pair,
    points0: FloatArray,
    points1: FloatArray,
    scores: FloatArray | None,
    threshold: float | None,
    seed: int,
) -> Geometry:
    """The pair's homography or relative pose, from (N, 2) points in its pixels.

    scores: (N,), larger is better; for poselib-prosac and dlt.
    threshold: in pixels: of image 1 for a homography, the Sampson distance
        otherwise; None for `default_threshold`. seed: draws other samples.

    Raises ArgumentError for an estimator that there is not, or not for such pairs.
    """
    if estimator not in ESTIMATORS:
        raise ArgumentError(f"no estimator '{estimator}'; there are: {', '.join(ESTIMATORS)}.")
    if estimator == "poselib":
        scores = None
    if estimator in ("poselib", "poselib-prosac"):
        return estimate_geometry(
            points0,
            points1,
            _kind(pair),
            size0=pair.size0,
            size1=pair.size1,
            threshold=threshold,
            camera0=getattr(pair, "camera0", None),
            camera1=getattr(pair, "camera1", None),
            scores=scores,
            seed=seed,
        )
    if isinstance(pair, PosePair) and estimator == "dlt":
        raise ArgumentError("the estimator 'dlt' is for homographies; use another for poses.")
    if estimator == "dlt":
        weights = np.ones(len(points0), np.float32) if scores is None else scores
        matrix = weighted_dlt(points0, points1, weights)
        return Geometry("homography", matrix, np.full(len(points0), matrix is not None))
    if threshold is None:
        kind = _kind(pair)
        threshold = default_threshold(kind, pair.size0, pair.size1)
    # OpenCV draws the same samples for ever: another order makes them others.
    order = np.random.default_rng(seed).permutation(len(points0))
    moved = [points[order].astype(np.float64) for points in (points0, points1)]
    if isinstance(pair, HomographyPair):
        found = _homography(moved[0], moved[1], _METHODS[estimator], threshold)
    else:
        found = _pose(pair, moved[0], moved[1], _METHODS[estimator], threshold)
    found.inliers[order] = found.inliers.copy()
    return found


def weighted_dlt(points0: FloatArray, points1: FloatArray, weights: FloatArray) -> Matrix | None:
    """(3, 3) homography 1-from-0 that minimises the weighted algebraic error; None for no such.

    points0, points1: (N, 2), normalised before they are used. weights: (N,), of the squared
    errors.
    """
    count = np.count_nonzero(weights > 0)
    if count < 4:
        return None
    normal0, normal1 = _normalising(points0), _normalising(points1)
    if normal0 is None or normal1 is None:
        return None
    x, y = (_apply(normal, points) for normal, points in ((normal0, points0), (normal1, points1)))
    zeros = np.zeros_like(x)
    rows = np.concatenate(
        [
            np.hstack([x, zeros, -y[:, :1] * x]),
            np.hstack([zeros, x, -y[:, 1:2] * x]),
        ]
    )
    values, vectors = np.linalg.eigh((rows * np.tile(weights, 2)[:, None]).T @ rows)
    # A second solution as good as the first: the points determine none.
    if not values[1] > 1e-12 * values[-1]:
        return None
    matrix = np.linalg.inv(normal1) @ vectors[:, 0].reshape(3, 3) @ normal0
    return matrix / matrix[2, 2] if abs(matrix[2, 2]) > 1e-12 else matrix


def _homography(x0: Matrix, x1: Matrix, method: int, threshold: float) -> Geometry:
    if len(x0) < 4:
        return _none("homography", len(x0))
    try:
        matrix, mask = cv2.findHomography(
            x0, x1, method, threshold, maxIters=HOMOGRAPHY_ITERATIONS, confidence=CONFIDENCE
        )
    except cv2.error:
        return _none("homography", len(x0))
    if matrix is None:
        return _none("homography", len(x0))
    return Geometry("homography", matrix.astype(np.float64), mask.ravel().astype(bool))


def _pose(pair: PosePair, x0: Matrix, x1: Matrix, method: int, threshold: float) -> Geometry:
    if len(x0) < 5:
        return _none("essential", len(x0))
    cameras = pair.camera0, pair.camera1
    focal = np.mean([value for camera in cameras for value in (camera.focal_x, camera.focal_y)])
    # As if one camera had taken both; in pixels, for MAGSAC++ is four times worse with a focal
    # length of 1.
    rays0, rays1 = (
        focal * (x - (camera.centre_x, camera.centre_y)) / (camera.focal_x, camera.focal_y)
        for x, camera in zip((x0, x1), cameras, strict=True)
    )
    intrinsics = np.diag([focal, focal, 1.0])
    try:
        stacked, mask = cv2.findEssentialMat(
            rays0,
            rays1,
            intrinsics,
            method=method,
            prob=CONFIDENCE,
            threshold=threshold,
            maxIters=POSE_ITERATIONS,
        )
    except cv2.error:
        return _none("essential", len(x0))
    if stacked is None:
        return _none("essential", len(x0))
    count, best = -1, _none("essential", len(x0))
    for matrix in stacked.astype(np.float64).reshape(-1, 3, 3):
        agree, rotation, translation, _, _ = cv2.recoverPose(
            matrix, rays0, rays1, intrinsics, distanceThresh=FAR, mask=mask.copy()
        )
        if agree > count:
            inliers = mask.ravel().astype(bool)
            pose = rotation.astype(np.float64), translation.astype(np.float64).ravel()
            count, best = agree, Geometry("essential", matrix, inliers, "", *pose)
    return best


def _kind(pair: Pair) -> GeometryKind:
    return "homography" if isinstance(pair, HomographyPair) else "essential"


def _none(kind: GeometryKind, count: int) -> Geometry:
    return Geometry(kind, None, np.zeros(count, bool))


def _normalising(points: FloatArray) -> Matrix | None:
    """(3, 3) that moves points' mean to 0 and their mean distance from it to the root of 2."""
    centre = points.mean(axis=0, dtype=np.float64)
    spread = np.linalg.norm(points - centre, axis=1).mean()
    if not spread > 0:
        return None
    scale = np.sqrt(2) / spread
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1]])


def _apply(matrix: Matrix, points: FloatArray) -> NDArray[np.float64]:
    """(N, 3): homogeneous points, mapped."""
    return np.column_stack([points, np.ones(len(points))]) @ matrix.T
