"""Where a camera stands, from points of its picture whose places in the world are known.

PoseLib's LO-RANSAC finds the pose. What is done around it here:
- an unknown focal length: PoseLib 2.0.5 cannot estimate one in its RANSAC, so a ladder of them is
  tried, and the best is refined together with the pose; one that is known roughly, as from EXIF,
  holds back the refinement by as much as it is trusted;
- the covariance, from the Jacobian at the inliers and the residuals that they have there;
- whether to believe it: see `covis.geometry.pose_confidence`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import poselib
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.geometry.camera import CalibratedCamera
from covis.geometry.checks import best_first, checked_threshold, number_rows, ransac_options
from covis.geometry.pose import Pose
from covis.geometry.pose_confidence import POSE_CONFIDENCE, PoseConfidence, surprise
from covis.types import BoolArray, Matrix

EXIF_DEVIATION = 0.03
"""How far off EXIF's focal length commonly is, as a share."""
LADDER = np.geomspace(0.45, 3.2, 11)
"""Focal lengths tried for an unknown one, in longer sides: 96 to 18 degrees along that side."""

THRESHOLD_PER_SIDE = 1 / 100
"""The default inlier threshold in longer sides: 6.4 pixels at 640, 12 at 1200."""


@dataclass(frozen=True, eq=False)
class AbsolutePose:
    """A camera's pose among points of the world, or why there is none.

    pose: None where none can be told, or none that can be believed; `note` says why.
    camera: that took it, its focal length as refined. inliers: (N,) bool, one a point given.
    confidence: that the pose is right, 0..1, see `PoseConfidence`.
    covariance: (6, 6), of the rotation about the camera's axes in radians, and of its position
        along them in the world's unit; None without a pose. See SHARED for what it was measured
        to be worth. It knows of the points' scatter in the picture, not of a map that is bent.
        Of a camera that is not known, the principal point may be off by CENTRE_DEVIATION.
    focal_deviation: of `camera.focal`, as a share; 0 where it was known.
    """

    pose: Pose | None
    camera: CalibratedCamera
    inliers: BoolArray
    confidence: float = 0.0
    covariance: Matrix | None = None
    focal_deviation: float = 0.0
    note: str = ""

    @property
    def rotation_deviation(self) -> Matrix:
        """(3,): about the camera's x, y and z, in degrees; infinite without a pose."""
        return np.degrees(self._deviations[:3])

    @property
    def position_deviation(self) -> Matrix:
        """(3,): along the camera's x, y and z, in the world's unit; infinite without a pose."""
        return self._deviations[3:]

    @property
    def _deviations(self) -> Matrix:
        if self.covariance is None:
            return np.full(6, np.inf)
        return np.sqrt(np.diag(self.covariance))


SHARED = 1e-3
"""The part of the variance of keypoints that all of a picture share, so that more than a thousand
of them gain little. Measured with photos left out of their maps and located in them by 20 to 3,400
of their points, cameras known: squared errors of the position, normalised by the covariance. 43
photos of five sets with exact or good true poses: 0.9 to 1.4 times what they should be (with
nothing shared 1.4 at 50 points, 3.3 at all). 12 of 7-Scenes, against their poses in the whole map:
2.1 times; the poses that come with it are 5 cm off that map, and no covariance tells."""

CENTRE_DEVIATION = 0.005
"""How far a camera's principal point commonly is from the middle, in longer sides, each way."""

LEAST_DEVIATION = 0.5
"""Pixels; keypoints are not better than that, however well a handful of them fits."""


def default_threshold(camera: CalibratedCamera) -> float:
    """The distance in pixels up to which a point agrees with a pose, where none is given."""
    return max(3.0, THRESHOLD_PER_SIDE * max(camera.width, camera.height))


def estimate_absolute_pose(
    points: ArrayLike,
    world: ArrayLike,
    camera: CalibratedCamera,
    *,
    focal_deviation: float = 0.0,
    threshold: float | None = None,
    scores: ArrayLike | None = None,
    seed: int = 0,
    max_iterations: int = 10_000,
    trust: PoseConfidence = POSE_CONFIDENCE,
) -> AbsolutePose:
    """The pose that most points agree with, which of them do, and how sure it is.

    Too few points, or a pose that is not to be believed, give an AbsolutePose without `pose` and
    a note that says why. The same input gives the same output.

    points: (N, 2), pixels of the picture. world: (N, 3), where those points lie.
    camera: that took it. focal_deviation: how far off its focal length may be, as a share: 0 where
        it is known, math.inf where it is not, and then `camera` need only say the rest.
    threshold: in pixels; None for `default_threshold`.
    scores: (N,), larger is better; then the better ones are tried first.
    seed: 0 .. 2**64 - 1. max_iterations: the most samples tried (for each focal length).

    Raises ArgumentError for anything else.
    """
    x, places = number_rows(points, 2, "points"), number_rows(world, 3, "world")
    if len(x) != len(places):
        raise ArgumentError(f"points and world belong together: {len(x)} and {len(places)}.")
    if not focal_deviation >= 0:
        raise ArgumentError(f"focal_deviation must not be negative, but is {focal_deviation}.")
    threshold = checked_threshold(threshold, default_threshold(camera))
    options = ransac_options(threshold, seed, max_iterations, min(100, max_iterations))
    order = np.arange(len(x))
    if scores is not None:
        order = best_first(scores, len(x))
        options["progressive_sampling"] = True
    sample = 3 + (focal_deviation > 0)
    none = AbsolutePose(None, camera, np.zeros(len(x), bool))
    different = min(len(np.unique(x, axis=0)), len(np.unique(places, axis=0)))
    if different < max(trust.least, sample + 1):
        return replace(
            none,
            note=f"cannot say: {different} points of the map are recognised, {trust.least} needed",
        )
    found = _ransac(x[order], places[order], _ladder(camera, focal_deviation), options)
    if found is None:
        return replace(none, note="cannot say: no pose that the points agree with")
    fit = _Fit(*found, focal_deviation, camera).refined_with_its_inliers(
        x, places, threshold, sample
    )
    return _judged(fit, x, places, threshold, sample, trust)


def _judged(
    fit: _Fit, x: Matrix, places: Matrix, threshold: float, sample: int, trust: PoseConfidence
) -> AbsolutePose:
    """A fit as the answer, if it is to be believed. sample: how many points determine a pose."""
    inliers = fit.errors(x, places) <= threshold
    count = int(inliers.sum())
    size = fit.camera.width, fit.camera.height
    confidence = trust.confidence(surprise(x, inliers, size, threshold, sample))
    none = AbsolutePose(None, fit.camera, inliers, confidence)
    if count < trust.least:
        return replace(
            none, note=f"cannot say: {count} of {len(x)} points agree, {trust.least} needed"
        )
    covariance = fit.covariance(x[inliers], places[inliers], threshold)
    if covariance is None:
        return replace(none, note="cannot say: the points that agree leave the pose undetermined")
    if confidence < trust.believed:
        return replace(
            none,
            note=f"cannot say: {count} of {len(x)} points agree, no more than unrelated pictures "
            "bring, or too close together",
        )
    deviation = math.sqrt(covariance[6, 6]) if fit.deviation > 0 else 0.0
    return replace(none, pose=fit.pose, covariance=covariance[:6, :6], focal_deviation=deviation)


def _ladder(camera: CalibratedCamera, deviation: float) -> list[CalibratedCamera]:
    """The cameras to try, the most likely first."""
    if deviation == 0:
        return [camera]
    if math.isinf(deviation):
        side = max(camera.width, camera.height)
        return [camera.scaled(float(share) * side / camera.focal) for share in LADDER]
    return [camera.scaled(math.exp(step * deviation)) for step in (0, -1, 1, -2, 2)]


def _ransac(
    x: Matrix, places: Matrix, cameras: Sequence[CalibratedCamera], options: dict[str, Any]
) -> tuple[Pose, CalibratedCamera] | None:
    """The pose, and the camera of those given, that most points agree with."""
    threshold = options["max_reproj_error"]
    if len(cameras) > 1:
        # Among these the one that fits will do: it is refined, and not by as much as it is off.
        options = options | {"max_iterations": max(options["max_iterations"] // 5, 1)}
    bundle = {"loss_type": "CAUCHY", "loss_scale": threshold / 3}
    best, least = None, math.inf
    for camera in cameras:
        found, _ = poselib.estimate_absolute_pose(x, places, camera.to_poselib(), options, bundle)
        pose = Pose(np.array(found.R), np.array(found.t))
        if not (np.isfinite(pose.rotation).all() and np.isfinite(pose.translation).all()):
            continue
        # PoseLib's own score is in camera coordinates: a short focal length has larger errors.
        errors = np.minimum(reprojection_errors(pose, camera, x, places), threshold)
        if (cost := float((errors**2).sum())) < least:
            best, least = (pose, camera), cost
    return best


def reprojection_errors(
    pose: Pose, camera: CalibratedCamera, points: Matrix, world: Matrix
) -> Matrix:
    """(N,): pixels between points (N, 2) and where their places appear; infinite behind."""
    local = world @ pose.rotation.T + pose.translation
    ahead = local[:, 2] > 1e-9
    errors = np.full(len(points), np.inf)
    flat = local[ahead, :2] / local[ahead, 2:]
    seen = np.array(camera.to_poselib().project(flat)).reshape(-1, 2)
    errors[ahead] = np.linalg.norm(seen - points[ahead], axis=1)
    return errors


@dataclass(frozen=True, eq=False)
class _Fit:
    """A pose and a camera, and how points pull at them.

    deviation: of the focal length before any point was seen, as a share. prior: the camera then.
    """

    pose: Pose
    camera: CalibratedCamera
    deviation: float
    prior: CalibratedCamera

    def errors(self, x: Matrix, places: Matrix) -> Matrix:
        return reprojection_errors(self.pose, self.camera, x, places)

    def linear(self, x: Matrix, places: Matrix) -> tuple[Matrix, Matrix]:
        """Residuals (N, 2) in pixels and their derivatives (N, 2, 7) by the rotation about the
        camera's axes, its position along them, and the focal length's logarithm.
        """
        local = places @ self.pose.rotation.T + self.pose.translation
        depth = np.maximum(local[:, 2], 1e-9)
        flat = local[:, :2] / depth[:, None]
        seen, bent = self.camera.to_poselib().project_with_jac(flat)
        seen = np.array(seen).reshape(-1, 2)
        projection = np.zeros((len(x), 2, 3))
        projection[:, 0, 0] = projection[:, 1, 1] = 1 / depth
        projection[:, :, 2] = -flat / depth[:, None]
        projection = np.array(bent).reshape(-1, 2, 2) @ projection
        turned = np.cross(np.eye(3), local[:, None]).transpose(0, 2, 1)
        derivatives = np.concatenate(
            [projection @ turned, -projection, (seen - self.camera.centre)[:, :, None]], axis=2
        )
        return seen - x, derivatives

    def refined_with_its_inliers(
        self, x: Matrix, places: Matrix, threshold: float, sample: int
    ) -> _Fit:
        """Refined by the points that agree with it, thrice, as others agree after that.

        sample: with no more of them than that, nothing is refined.
        """
        fit = self
        for _ in range(3):
            inliers = fit.errors(x, places) <= threshold
            if inliers.sum() <= sample:
                break
            fit = fit.refined(x[inliers], places[inliers], threshold)
        return fit

    def refined(self, x: Matrix, places: Matrix, threshold: float) -> _Fit:
        """The best fit near this one to points (N, 2) that agree with it, outliers damped."""
        fit, damping = self, 1e-4
        cost = self._cost(x, places, threshold)
        for _ in range(30):
            residuals, derivatives = fit.linear(x, places)
            weights = 1 / (1 + (residuals**2).sum(1) / (threshold / 3) ** 2)
            normal, pull = fit._normal(residuals, derivatives, weights, (threshold / 3) ** 2)
            normal[np.diag_indices(len(normal))] *= 1 + damping
            try:
                moved = fit._moved(np.asarray(np.linalg.solve(normal, -pull), np.float64))
            except np.linalg.LinAlgError:
                break
            now = moved._cost(x, places, threshold)
            if not now < cost:
                damping *= 10
                if damping > 1e6:
                    break
                continue
            gained, fit, cost, damping = cost - now, moved, now, damping / 10
            if gained < 1e-7 * cost:
                break
        return fit

    def covariance(self, x: Matrix, places: Matrix, threshold: float) -> Matrix | None:
        """(6, 6), or (7, 7) with an unknown focal length; None where it is not determined.

        That of an M-estimate (Huber, Robust Statistics, section 7.6) with the weights of `refined`.
        """
        residuals, derivatives = self.linear(x, places)
        unknowns = 6 + (self.deviation > 0)
        squares = (residuals**2).sum(1)
        weights = 1 / (1 + squares / (threshold / 3) ** 2)
        variance = (weights**2 * squares).sum() / max(2 * len(x) - unknowns, 1)
        variance = max(variance / (weights**2).mean() ** 2, LEAST_DEVIATION**2)
        variance *= 1 + SHARED * len(x)
        size = self.camera.width, self.camera.height
        normal, _ = self._normal(residuals, derivatives, np.ones(len(x)), variance)
        # Lengths of the world's unit are as good as any other: scaled before the test.
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), 1e-300))
        scaled = normal * scale[:, None] * scale
        if not np.isfinite(scaled).all() or np.linalg.cond(scaled) > 1e12:
            return None
        inverse = np.linalg.inv(scaled) * scale[:, None] * scale
        covariance: Matrix = inverse * variance
        if self.deviation > 0:
            drawn = inverse @ derivatives[:, :, :unknowns].sum(0).T
            covariance += drawn @ drawn.T * (CENTRE_DEVIATION * max(size)) ** 2
        return covariance

    def _normal(
        self, residuals: Matrix, derivatives: Matrix, weights: Matrix, variance: float
    ) -> tuple[Matrix, Matrix]:
        """The normal equations, with what was known of the focal length beforehand."""
        unknowns = 6 + (self.deviation > 0)
        derivatives = derivatives[:, :, :unknowns]
        weighted = (weights[:, None, None] * derivatives).reshape(-1, unknowns).T
        normal = weighted @ derivatives.reshape(-1, unknowns)
        pull = weighted @ residuals.ravel()
        if self.deviation > 0 and math.isfinite(self.deviation):
            normal[6, 6] += variance / self.deviation**2
            pull[6] += variance * self._stretch / self.deviation**2
        return normal, pull

    def _cost(self, x: Matrix, places: Matrix, threshold: float) -> float:
        scale = (threshold / 3) ** 2
        errors = self.errors(x, places)
        cost = float(scale * np.log1p(errors**2 / scale).sum())
        if self.deviation > 0 and math.isfinite(self.deviation):
            cost += scale * (self._stretch / self.deviation) ** 2
        return cost

    @property
    def _stretch(self) -> float:
        return math.log(self.camera.focal / self.prior.focal)

    def _moved(self, step: Matrix) -> _Fit:
        angle = float(np.linalg.norm(step[:3]))
        half = np.sinc(angle / 2 / np.pi) / 2
        turn = Pose.from_quaternion([math.cos(angle / 2), *(half * step[:3])], np.zeros(3)).rotation
        rotation = turn @ self.pose.rotation
        translation = turn @ (self.pose.translation - step[3:6])
        camera = (
            self.camera.scaled(math.exp(float(np.clip(step[6], -1, 1)))) if len(step) > 6 else None
        )
        return replace(self, pose=Pose(rotation, translation), camera=camera or self.camera)
