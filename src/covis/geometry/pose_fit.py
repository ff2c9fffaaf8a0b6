"""A pose and a camera adjusted together to points, by as much as the camera is not known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.geometry.camera import BENDING, CalibratedCamera
from covis.geometry.pose import Pose
from covis.types import Matrix

CENTRE_DEVIATION = 0.005
"""How far a camera's principal point commonly is from the middle, in longer sides, each way."""

SHARED = 1e-3
"""The part of the variance of keypoints that all of a picture share, so that more than a thousand
of them gain little. Measured with photos left out of their maps and located in them by 20 to 3,400
of their points, cameras known: squared errors of the position, normalised by the covariance. 43
photos of five sets with exact or good true poses: 0.9 to 1.4 times what they should be (with
nothing shared 1.4 at 50 points, 3.3 at all). 12 of 7-Scenes, against their poses in the whole map:
2.1 times; the poses that come with it are 5 cm off that map, and no covariance tells."""

LEAST_DEVIATION = 0.5
"""Pixels; keypoints are not better than that, however well a handful of them fits."""


@dataclass(frozen=True)
class CameraPrior:
    """A camera, and how far it may be off.

    focal_deviation: of its focal length, as a share: 0 where it is known, math.inf where it is not.
    distortion_deviation: of its first radial term, 0 where it is known; see BENDING.
    centre_deviation: of the principal point, in longer sides, unless the others are known.

    Raises ArgumentError where they are negative, or the camera has not what may be off.
    """

    camera: CalibratedCamera
    focal_deviation: float = 0.0
    distortion_deviation: float = 0.0
    centre_deviation: float = CENTRE_DEVIATION

    def __post_init__(self) -> None:
        for name in ("focal_deviation", "distortion_deviation", "centre_deviation"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"{name} must not be negative, but is {getattr(self, name)}.")
        model = self.camera.model
        if self.focal_deviation and model == "EQUIRECTANGULAR":
            raise ArgumentError("a panorama has no focal length that could be off.")
        if self.distortion_deviation and model not in BENDING:
            raise ArgumentError(
                f"a distortion that is not known takes {' or '.join(BENDING)}, not {model}."
            )

    @property
    def known(self) -> bool:
        return not self.focal_deviation and not self.distortion_deviation

    @property
    def deviations(self) -> Matrix:
        """(4,): of the focal length's logarithm, k, and the principal point in pixels."""
        side = max(self.camera.width, self.camera.height)
        centre = 0.0 if self.known else self.centre_deviation * side
        return np.array([self.focal_deviation, self.distortion_deviation, centre, centre])


@dataclass(frozen=True, eq=False)
class PoseFit:
    """A pose and a camera, and how points pull at them. prior: what was known of the camera."""

    pose: Pose
    camera: CalibratedCamera
    prior: CameraPrior

    @property
    def _free(self) -> NDArray[np.int64]:
        """Which of the ten unknowns there are: six of the pose, four of the camera."""
        return np.concatenate([np.arange(6), 6 + np.flatnonzero(self.prior.deviations)])

    @property
    def unknowns(self) -> int:
        return len(self._free)

    def errors(self, x: Matrix, places: Matrix) -> Matrix:
        """(N,): see `reprojection_errors`."""
        return reprojection_errors(self.pose, self.camera, x, places)

    def linear(self, x: Matrix, places: Matrix) -> tuple[Matrix, Matrix]:
        """Residuals (N, 2) in pixels and their derivatives (N, 2, U) by the unknowns: the rotation
        about the camera's axes, its position along them, and what is not known of the camera.
        """
        local = places @ self.pose.rotation.T + self.pose.translation
        residuals = self.camera.from_to(x, self.camera.pixels(local))
        projection = self.camera.derivatives(local)
        turned = np.cross(np.eye(3), local[:, None]).transpose(0, 2, 1)
        derivatives = np.concatenate([projection @ turned, -projection], axis=2)
        if not self.prior.known:
            from_centre = x + residuals - self.camera.centre
            bent = self.camera.by_distortion(local)
            eye = np.broadcast_to(np.eye(2), (len(x), 2, 2))
            lens = np.concatenate([from_centre[:, :, None], bent[:, :, None], eye], axis=2)
            derivatives = np.concatenate([derivatives, lens[:, :, self._free[6:] - 6]], axis=2)
        return residuals, derivatives

    def refined_with_its_inliers(
        self, x: Matrix, places: Matrix, threshold: float, sample: int
    ) -> PoseFit:
        """Refined by the points that agree with it, again while others agree after that.

        sample: with no more of them than that, nothing is refined.
        """
        fit, before = self, None
        for _ in range(3 if self.prior.known else 10):
            inliers = fit.errors(x, places) <= threshold
            if inliers.sum() <= sample or (before is not None and (inliers == before).all()):
                break
            fit, before = fit.refined(x[inliers], places[inliers], threshold), inliers
        return fit

    def refined(self, x: Matrix, places: Matrix, threshold: float) -> PoseFit:
        """The best fit near this one to points (N, 2) that agree with it, outliers damped."""
        fit, damping = self, 1e-4
        cost = self.cost(x, places, threshold)
        for _ in range(30):
            residuals, derivatives = fit.linear(x, places)
            weights = 1 / (1 + (residuals**2).sum(1) / (threshold / 3) ** 2)
            normal, pull = fit._normal(residuals, derivatives, weights, (threshold / 3) ** 2)
            normal[np.diag_indices(len(normal))] *= 1 + damping
            try:
                moved = fit._moved(np.asarray(np.linalg.solve(normal, -pull), np.float64))
            except np.linalg.LinAlgError:
                break
            now = moved.cost(x, places, threshold)
            if not now < cost:
                damping *= 10
                if damping > 1e6:
                    break
                continue
            gained, fit, cost, damping = cost - now, moved, now, damping / 10
            if gained < 1e-7 * cost:
                break
        return fit

    def variance(self, x: Matrix, places: Matrix, threshold: float) -> float:
        """Of keypoints that agree, in square pixels each way, with what they share."""
        residuals = self.camera.from_to(x, self.camera.pixels(self._local(places)))
        squares = (residuals**2).sum(1)
        weights = 1 / (1 + squares / (threshold / 3) ** 2)
        variance = (weights**2 * squares).sum() / max(2 * len(x) - self.unknowns, 1)
        variance = max(variance / (weights**2).mean() ** 2, LEAST_DEVIATION**2)
        return float(variance * (1 + SHARED * len(x)))

    def covariance(self, x: Matrix, places: Matrix, threshold: float) -> Matrix | None:
        """(U, U), of the unknowns in the order of `linear`; None where it is not determined.

        That of an M-estimate (Huber, Robust Statistics, section 7.6) with the weights of `refined`.
        """
        variance = self.variance(x, places, threshold)
        residuals, derivatives = self.linear(x, places)
        normal, _ = self._normal(residuals, derivatives, np.ones(len(x)), variance)
        # Lengths of the world's unit are as good as any other: scaled before the test.
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), 1e-300))
        scaled = normal * scale[:, None] * scale
        if not np.isfinite(scaled).all() or np.linalg.cond(scaled) > 1e12:
            return None
        inverse: Matrix = np.linalg.inv(scaled) * scale[:, None] * scale
        return inverse * variance

    def cost(self, x: Matrix, places: Matrix, threshold: float) -> float:
        """What `refined` makes least: in square pixels, those far off damped, with the prior's."""
        scale = (threshold / 3) ** 2
        errors = self.errors(x, places)
        return float(scale * np.log1p(errors**2 / scale).sum() + scale * (self._pulled**2).sum())

    def truncated_cost(self, x: Matrix, places: Matrix, threshold: float) -> float:
        """To compare fits by: points that do not agree cost all the same."""
        errors = np.minimum(self.errors(x, places), threshold)
        return float((errors**2).sum() + (threshold / 3) ** 2 * (self._pulled**2).sum())

    def _local(self, places: Matrix) -> Matrix:
        local: Matrix = places @ self.pose.rotation.T + self.pose.translation
        return local

    def _normal(
        self, residuals: Matrix, derivatives: Matrix, weights: Matrix, variance: float
    ) -> tuple[Matrix, Matrix]:
        """The normal equations, with what was known of the camera beforehand."""
        weighted = (weights[:, None, None] * derivatives).reshape(-1, self.unknowns).T
        normal = weighted @ derivatives.reshape(-1, self.unknowns)
        pull = weighted @ residuals.ravel()
        deviations = self.prior.deviations[self._free[6:] - 6]
        lens = np.arange(6, self.unknowns)
        normal[lens, lens] += variance / deviations**2
        pull[6:] += variance * self._pulled / deviations
        return normal, pull

    @property
    def _pulled(self) -> Matrix:
        """(U - 6,): how far the camera is from the prior one, in deviations."""
        moved = np.array(
            [
                math.log(self.camera.focal / self.prior.camera.focal),
                self.camera.distortion - self.prior.camera.distortion,
                *(self.camera.centre - self.prior.camera.centre),
            ]
        )
        free = self._free[6:] - 6
        pulled: Matrix = moved[free] / self.prior.deviations[free]
        return pulled

    def _moved(self, step: Matrix) -> PoseFit:
        angle = float(np.linalg.norm(step[:3]))
        half = np.sinc(angle / 2 / np.pi) / 2
        turn = Pose.from_quaternion([math.cos(angle / 2), *(half * step[:3])], np.zeros(3)).rotation
        pose = Pose(turn @ self.pose.rotation, turn @ (self.pose.translation - step[3:6]))
        lens = np.zeros(4)
        lens[self._free[6:] - 6] = np.clip(step[6:], -100, 100)
        camera = self.camera.scaled(math.exp(float(np.clip(lens[0], -1, 1))))
        if lens[1]:
            camera = camera.bent(float(np.clip(lens[1], -1, 1)))
        return replace(self, pose=pose, camera=camera.shifted(*lens[2:]))


def reprojection_errors(
    pose: Pose, camera: CalibratedCamera, points: Matrix, world: Matrix
) -> Matrix:
    """(N,): pixels between points (N, 2) and where their places appear; infinite where nowhere."""
    seen = camera.pixels(world @ pose.rotation.T + pose.translation)
    errors = np.linalg.norm(camera.from_to(points, seen), axis=1)
    return np.where(np.isfinite(errors), errors, np.inf)
