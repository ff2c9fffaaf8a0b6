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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import poselib
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.geometry.camera import CalibratedCamera
from covis.geometry.checks import best_first, checked_threshold, number_rows, ransac_options
from covis.geometry.pose import Pose
from covis.geometry.pose_confidence import (
    POSE_CONFIDENCE,
    PoseConfidence,
    surprise,
    surprise_of_points,
)
from covis.geometry.pose_fit import CameraPrior, PoseFit, reprojection_errors
from covis.geometry.ray_ransac import pose_from_rays
from covis.types import BoolArray, Matrix

EXIF_DEVIATION = 0.03
"""How far off EXIF's focal length commonly is, as a share."""
NEAR = 0.015
"""A focal length that is off by no more need not be searched."""
LADDER = np.geomspace(0.45, 3.2, 11)
"""Focal lengths tried for an unknown one, in longer sides: 96 to 18 degrees along that side."""
DISTORTION_DEVIATION = 0.1
"""How far from 0 the first radial term k of an unknown lens commonly is."""
SAMPLE = 3
"""Points that determine a pose where the camera is known."""
ENOUGH = 1000
"""Points, the surest ones, that tell which focal length fits."""
STARTS = 4
"""Focal lengths, the likeliest, with which cameras of another kind than the first are tried."""
WIDER = 5.0
"""Thresholds within which points pull at a camera of another kind than the one that found them."""
HOPELESS = 0.1
"""The confidence below which no camera of another kind is tried."""
CONTRADICTED = 16.0
"""By how much less likely than the best what was known beforehand may make the points: in squared
deviations, so by four deviations."""

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


def default_threshold(camera: CalibratedCamera) -> float:
    """The distance in pixels up to which a point agrees with a pose, where none is given."""
    return max(3.0, THRESHOLD_PER_SIDE * max(camera.width, camera.height))


def estimate_absolute_pose(
    points: ArrayLike,
    world: ArrayLike,
    camera: CalibratedCamera,
    *,
    focal_deviation: float = 0.0,
    distortion_deviation: float = 0.0,
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
    distortion_deviation: how far off its first radial term may be, in SIMPLE_RADIAL's k.
    threshold: in pixels; None for `default_threshold`.
    scores: (N,), larger is better; then the better ones are tried first.
    seed: 0 .. 2**64 - 1. max_iterations: the most samples tried (for each focal length).

    Raises ArgumentError for anything else.
    """
    prior = CameraPrior(camera, focal_deviation, distortion_deviation)
    return choose_absolute_pose(
        points,
        world,
        [prior],
        threshold=threshold,
        scores=scores,
        seed=seed,
        max_iterations=max_iterations,
        trust=trust,
    )[0]


def choose_absolute_pose(
    points: ArrayLike,
    world: ArrayLike,
    priors: Sequence[CameraPrior],
    *,
    threshold: float | None = None,
    scores: ArrayLike | None = None,
    seed: int = 0,
    max_iterations: int = 10_000,
    trust: PoseConfidence = POSE_CONFIDENCE,
) -> tuple[AbsolutePose, int]:
    """`estimate_absolute_pose` for a picture of which several things may be true of its camera.

    priors: at least one, of one size, the most likely first. The first one is taken that the
    points do not clearly contradict: that fits no worse than the best, by CONTRADICTED. Of those
    with unknown focal lengths all start from what the first one found.

    Returns the pose, and the place of the prior that was taken. Raises as the other one does.
    """
    x, places = number_rows(points, 2, "points"), number_rows(world, 3, "world")
    if len(x) != len(places):
        raise ArgumentError(f"points and world belong together: {len(x)} and {len(places)}.")
    camera = priors[0].camera
    threshold = checked_threshold(threshold, default_threshold(camera))
    options = ransac_options(threshold, seed, max_iterations, min(100, max_iterations))
    order = np.arange(len(x))
    if scores is not None:
        order = best_first(scores, len(x))
        options["progressive_sampling"] = True
    none = AbsolutePose(None, camera, np.zeros(len(x), bool))
    different = min(len(np.unique(x, axis=0)), len(np.unique(places, axis=0)))
    if different < max(trust.least, SAMPLE + 2):
        words = f"{different} points of the map are recognised, {trust.least} needed"
        return replace(none, note=f"cannot say: {words}"), 0
    fits: dict[int, PoseFit] = {}
    searched: list[PoseFit] = []
    hopeless, surest = False, (x[order], places[order])
    for number, prior in enumerate(priors):
        if searched and math.isinf(prior.focal_deviation):
            if hopeless:
                continue
            start = _widened(searched, prior, surest, threshold)
        else:
            found = _ransac(*surest, _ladder(prior), options)
            if not found:
                continue
            start = PoseFit(*found[0], prior)
        fits[number] = start.refined_with_its_inliers(x, places, threshold, _sample(prior))
        if math.isinf(prior.focal_deviation) and not searched:
            searched = [PoseFit(*each, prior) for each in found[:STARTS]]
            hopeless = _confidence(fits[number], x, places, threshold, trust) < HOPELESS
    if not fits:
        return replace(none, note="cannot say: no pose that the points agree with"), 0
    number = _uncontradicted(fits, x, places, threshold)
    return _judged(fits[number], x, places, threshold, trust), number


def _widened(
    searched: Sequence[PoseFit], prior: CameraPrior, surest: tuple[Matrix, Matrix], threshold: float
) -> PoseFit:
    """The best start for another kind of camera, from what was found with the first kind."""
    x, places = (rows[:ENOUGH] for rows in surest)
    starts = []
    for found in searched:
        camera = prior.camera.scaled(found.camera.focal / prior.camera.focal)
        start = PoseFit(found.pose, camera, prior)
        starts.append(start.refined_with_its_inliers(x, places, WIDER * threshold, SAMPLE + 1))
    return min(starts, key=lambda start: start.cost(x, places, threshold))


def _uncontradicted(
    fits: Mapping[int, PoseFit], x: Matrix, places: Matrix, threshold: float
) -> int:
    """The first of the fits that is hardly worse than the best."""
    costs = {number: fit.truncated_cost(x, places, threshold) for number, fit in fits.items()}
    best = min(costs, key=lambda number: costs[number])
    inliers = fits[best].errors(x, places) <= threshold
    if not inliers.any():
        return best
    variance = fits[best].variance(x[inliers], places[inliers], threshold)
    return next(n for n in costs if costs[n] <= costs[best] + CONTRADICTED * variance)


def _sample(prior: CameraPrior) -> int:
    """How many points determine a pose."""
    return SAMPLE + (not prior.known) + (prior.distortion_deviation > 0)


def _confidence(
    fit: PoseFit, x: Matrix, places: Matrix, threshold: float, trust: PoseConfidence
) -> float:
    size = fit.camera.width, fit.camera.height
    inliers = fit.errors(x, places) <= threshold
    return trust.confidence(surprise(x, inliers, size, threshold, _sample(fit.prior)))


def _judged(
    fit: PoseFit, x: Matrix, places: Matrix, threshold: float, trust: PoseConfidence
) -> AbsolutePose:
    """A fit as the answer, if it is to be believed."""
    inliers = fit.errors(x, places) <= threshold
    count = int(inliers.sum())
    size = fit.camera.width, fit.camera.height
    confidence = _confidence(fit, x, places, threshold, trust)
    none = AbsolutePose(None, fit.camera, inliers, confidence)
    if count < trust.least:
        return replace(
            none, note=f"cannot say: {count} of {len(x)} points agree, {trust.least} needed"
        )
    covariance = fit.covariance(x[inliers], places[inliers], threshold)
    if covariance is None:
        return replace(none, note="cannot say: the points that agree leave the pose undetermined")
    if confidence < trust.believed:
        apart = surprise_of_points(len(x), count, size, threshold, _sample(fit.prior))
        why = "no more than unrelated pictures bring"
        if trust.confidence(apart) >= trust.believed:
            why = "but in too few places of the picture"
        return replace(none, note=f"cannot say: {count} of {len(x)} points agree, {why}")
    deviation = math.sqrt(covariance[6, 6]) if fit.prior.focal_deviation else 0.0
    return replace(none, pose=fit.pose, covariance=covariance[:6, :6], focal_deviation=deviation)


def _ladder(prior: CameraPrior) -> list[CalibratedCamera]:
    """The cameras to try, the most likely first."""
    camera, deviation = prior.camera, prior.focal_deviation
    if deviation <= NEAR:
        return [camera]
    if math.isinf(deviation):
        side = max(camera.width, camera.height)
        return [camera.scaled(float(share) * side / camera.focal) for share in LADDER]
    return [camera.scaled(math.exp(step * deviation)) for step in (0, -1, 1, -2, 2)]


def _ransac(
    x: Matrix, places: Matrix, cameras: Sequence[CalibratedCamera], options: dict[str, Any]
) -> list[tuple[Pose, CalibratedCamera]]:
    """A pose for each of the cameras, the one that most points agree with first."""
    threshold = options["max_reproj_error"]
    if len(cameras) > 1:
        # Among these the one that fits will do: it is refined, and not by as much as it is off.
        options = options | {"max_iterations": max(options["max_iterations"] // 5, 1)}
        x, places = x[:ENOUGH], places[:ENOUGH]
    found: list[tuple[float, int, Pose, CalibratedCamera]] = []
    for camera in cameras:
        pose = _pose(x, places, camera, options)
        if pose is None:
            continue
        # PoseLib's own score is in camera coordinates: a short focal length has larger errors.
        errors = np.minimum(reprojection_errors(pose, camera, x, places), threshold)
        found.append((float((errors**2).sum()), len(found), pose, camera))
    return [(pose, camera) for _, _, pose, camera in sorted(found, key=lambda each: each[:2])]


def _pose(
    x: Matrix, places: Matrix, camera: CalibratedCamera, options: dict[str, Any]
) -> Pose | None:
    """The pose that most points agree with, None where there is none."""
    threshold = options["max_reproj_error"]
    if not camera.with_poselib:
        counts = {name: options[name] for name in ("seed", "max_iterations", "min_iterations")}
        return pose_from_rays(x, places, camera, threshold=threshold, **counts)
    bundle = {"loss_type": "CAUCHY", "loss_scale": threshold / 3}
    found, _ = poselib.estimate_absolute_pose(x, places, camera.to_poselib(), options, bundle)
    pose = Pose(np.array(found.R), np.array(found.t))
    finite = np.isfinite(pose.rotation).all() and np.isfinite(pose.translation).all()
    return pose if finite else None
