"""Where a camera stands, from points of its picture whose places in the world are known.

PoseLib's LO-RANSAC finds the pose. What is done around it here:
- an unknown focal length: PoseLib 2.0.5 cannot estimate one in its RANSAC, so a ladder of them is
  tried, and the best is refined together with the pose; one that is known roughly, as from EXIF,
  holds back the refinement by as much as it is trusted;
- the covariance, from the Jacobian at the inliers and the residuals that they have there;
- whether to believe it: see `PoseConfidence`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import poselib
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.geometry.camera import Camera
from covis.geometry.two_view import log10_expected_models, whole
from covis.types import BoolArray, Matrix

MODELS = {
    "SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8,
    "OPENCV_FISHEYE": 8, "FULL_OPENCV": 12,
}  # fmt: skip
"""COLMAP's camera models that PoseLib knows, and how many numbers each takes."""

_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")

EXIF_DEVIATION = 0.03
"""How far off EXIF's focal length commonly is, as a share."""
LADDER = np.geomspace(0.45, 3.2, 11)
"""Focal lengths tried for an unknown one, in longer sides: 96 to 18 degrees along that side."""

THRESHOLD_PER_SIDE = 1 / 100
"""The default inlier threshold in longer sides: 6.4 pixels at 640, 12 at 1200."""


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
        return poselib.Camera(self.model, list(self.params), self.width, self.height)


@dataclass(frozen=True, eq=False)
class Pose:
    """cam_from_world, as COLMAP has it: x right, y down, z ahead.

    rotation: (3, 3). translation: (3,), in the world's unit.
    """

    rotation: Matrix
    translation: Matrix

    @classmethod
    def from_quaternion(cls, quaternion: ArrayLike, translation: ArrayLike) -> Self:
        """quaternion: (w, x, y, z), of any length but zero."""
        w, x, y, z = q = np.asarray(quaternion, np.float64)
        if not q @ q > 0:
            raise ArgumentError("a rotation's quaternion must not be zero.")
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        rotation = np.eye(3) + 2 / (q @ q) * (w * cross + cross @ cross)
        return cls(rotation, np.array(translation, np.float64))

    @property
    def position(self) -> Matrix:
        """(3,): where the camera stands in the world."""
        position: Matrix = -self.rotation.T @ self.translation
        return position

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """(w, x, y, z), unit length, w not negative."""
        (a, b, c), (d, e, f), (g, h, i) = self.rotation
        # The largest of the four, which no rotation makes small, determines the others.
        squares = np.array([[1 + a + e + i, h - f, c - g, d - b],
                            [h - f, 1 + a - e - i, b + d, c + g],
                            [c - g, b + d, 1 - a + e - i, f + h],
                            [d - b, c + g, f + h, 1 - a - e + i]])  # fmt: skip
        row = squares[np.argmax(np.diag(squares))]
        row = row / np.linalg.norm(row) * (-1 if row[0] < 0 else 1)
        return float(row[0]), float(row[1]), float(row[2]), float(row[3])


@dataclass(frozen=True, eq=False)
class AbsolutePose:
    """A camera's pose among points of the world, or why there is none.

    pose: None where none can be told, or none that can be believed; `note` says why.
    lens: the camera, its focal length as refined. inliers: (N,) bool, one a point given.
    confidence: that the pose is right, 0..1, see `PoseConfidence`.
    covariance: (6, 6), of the rotation about the camera's axes in radians, and of its position
        along them in the world's unit; None without a pose. See SHARED for what it was measured
        to be worth. It knows of the points' scatter in the picture, not of a map that is bent.
        Of a camera that is not known, the principal point may be off by CENTRE_DEVIATION.
    focal_deviation: of `lens.focal`, as a share; 0 where it was known.
    """

    pose: Pose | None
    lens: CalibratedCamera
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


@dataclass(frozen=True)
class PoseConfidence:
    """When a pose is believed.

    Points side by side are one witness: their places in the world are side by side as well, and
    they agree or disagree together. So cells of the picture are counted, GRID a side, not points:
    those with a point, and those of them with an inlier. The surprise is -log10 of how many poses
    with as many such cells chance would bring, see `log10_expected_models`; the confidence that
    of log-odds weight * (log(1 + surprise) - log(1 + even)).

    Measured on 7-Scenes: 80 pictures of other places, with nearest neighbours and with LightGlue,
    have a surprise of at most 5.7, the scene's own of 271 and more. Of poses whose inliers were
    thinned out and gathered in a part of the picture, 38 of 39 are right (0.25 m, 5 degrees) from 8
    on, 10 of 20 between 0 and 8.

    least: inliers below which no pose is told. believed: the least confidence of one.
    even: the surprise at which a pose is as often right as wrong.
    """

    least: int = 12
    believed: float = 0.5
    even: float = 8.0
    weight: float = 3.0

    def confidence(self, surprise: float) -> float:
        odds = self.weight * (math.log1p(max(surprise, 0.0)) - math.log1p(self.even))
        return 1 / (1 + math.exp(-odds))


GRID = 16
"""Cells along each side of the picture."""

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


def picture_cells(points: Matrix, size: tuple[int, int]) -> NDArray[np.int64]:
    """(N,): the number of the cell that each of (N, 2) points lies in."""
    places = np.clip(points / np.array(size) * GRID, 0, GRID - 1).astype(np.int64)
    cells: NDArray[np.int64] = places @ np.array([1, GRID])
    return cells


def surprise(
    points: Matrix, inliers: BoolArray, size: tuple[int, int], threshold: float, sample: int = 3
) -> float:
    """How little a pose with these inliers looks like chance, see `PoseConfidence`; never negative.

    points: (N, 2). inliers: (N,) bool. size: (width, height). threshold: in pixels.
    sample: how many points determine a pose.
    """
    cells = picture_cells(points, size)
    there, agreeing = len(np.unique(cells)), len(np.unique(cells[inliers]))
    alone = min(math.pi * threshold**2 / math.prod(size), 1.0)
    chance = 1 - (1 - alone) ** (len(points) / max(there, 1))
    return max(-log10_expected_models(sample, 4, there, agreeing, chance), 0.0)


POSE_CONFIDENCE = PoseConfidence()


def default_threshold(lens: CalibratedCamera) -> float:
    """The distance in pixels up to which a point agrees with a pose, where none is given."""
    return max(3.0, THRESHOLD_PER_SIDE * max(lens.width, lens.height))


def estimate_absolute_pose(
    points: ArrayLike,
    world: ArrayLike,
    lens: CalibratedCamera,
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
    lens: the camera. focal_deviation: how far off its focal length may be, as a share: 0 where it
        is known, math.inf where it is not, and then `lens` need only say the rest.
    threshold: in pixels; None for `default_threshold`.
    scores: (N,), larger is better; then the better ones are tried first.
    seed: 0 .. 2**64 - 1. max_iterations: the most samples tried (for each focal length).

    Raises ArgumentError for anything else.
    """
    x, places = _array(points, 2, "points"), _array(world, 3, "world")
    if len(x) != len(places):
        raise ArgumentError(f"points and world belong together: {len(x)} and {len(places)}.")
    if not focal_deviation >= 0:
        raise ArgumentError(f"focal_deviation must not be negative, but is {focal_deviation}.")
    threshold = default_threshold(lens) if threshold is None else threshold
    if not (math.isfinite(threshold) and threshold > 0):
        raise ArgumentError(f"The threshold must be a positive number of pixels, not {threshold}.")
    options: dict[str, Any] = {
        "seed": whole(seed, "seed", 0, 2**64 - 1),
        "max_iterations": whole(max_iterations, "max_iterations", 1, 2**31 - 1),
        "min_iterations": min(100, max_iterations),
        "max_reproj_error": threshold,
    }
    order = np.arange(len(x))
    if scores is not None:
        order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        options["progressive_sampling"] = True
    sample = 3 + (focal_deviation > 0)
    nobody = AbsolutePose(None, lens, np.zeros(len(x), bool))
    different = min(len(np.unique(x, axis=0)), len(np.unique(places, axis=0)))
    if different < max(trust.least, sample + 1):
        return replace(
            nobody,
            note=f"cannot say: {different} points of the map are recognised, {trust.least} needed",
        )

    found = _ransac(x[order], places[order], _ladder(lens, focal_deviation), options)
    if found is None:
        return replace(nobody, note="cannot say: no pose that the points agree with")
    fit = _Fit(*found, focal_deviation, lens)
    for _ in range(3):
        inliers = fit.errors(x, places) <= threshold
        if inliers.sum() <= sample:
            break
        fit = fit.refined(x[inliers], places[inliers], threshold)
    inliers = fit.errors(x, places) <= threshold
    count = int(inliers.sum())

    size = lens.width, lens.height
    confidence = trust.confidence(surprise(x, inliers, size, threshold, sample))
    told = replace(nobody, lens=fit.lens, inliers=inliers, confidence=confidence)
    if count < trust.least:
        return replace(
            told, note=f"cannot say: {count} of {len(x)} points agree, {trust.least} needed"
        )
    covariance = fit.covariance(x[inliers], places[inliers], threshold)
    if covariance is None:
        return replace(told, note="cannot say: the points that agree leave the pose undetermined")
    if confidence < trust.believed:
        return replace(
            told,
            note=f"cannot say: {count} of {len(x)} points agree, no more than unrelated pictures "
            "bring, or too close together",
        )
    return replace(
        told,
        pose=fit.pose,
        covariance=covariance[:6, :6],
        focal_deviation=math.sqrt(covariance[6, 6]) if focal_deviation > 0 else 0.0,
    )


def _ladder(lens: CalibratedCamera, deviation: float) -> list[CalibratedCamera]:
    """The cameras to try, the most likely first."""
    if deviation == 0:
        return [lens]
    if math.isinf(deviation):
        side = max(lens.width, lens.height)
        return [lens.scaled(float(share) * side / lens.focal) for share in LADDER]
    return [lens.scaled(math.exp(step * deviation)) for step in (0, -1, 1, -2, 2)]


def _ransac(
    x: Matrix, places: Matrix, lenses: Sequence[CalibratedCamera], options: dict[str, Any]
) -> tuple[Pose, CalibratedCamera] | None:
    """The pose, and the camera of those given, that most points agree with."""
    threshold = options["max_reproj_error"]
    if len(lenses) > 1:
        # Among these the one that fits will do: it is refined, and not by as much as it is off.
        options = options | {"max_iterations": max(options["max_iterations"] // 5, 1)}
    bundle = {"loss_type": "CAUCHY", "loss_scale": threshold / 3}
    best, least = None, math.inf
    for lens in lenses:
        found, _ = poselib.estimate_absolute_pose(x, places, lens.to_poselib(), options, bundle)
        pose = Pose(np.array(found.R), np.array(found.t))
        if not (np.isfinite(pose.rotation).all() and np.isfinite(pose.translation).all()):
            continue
        # PoseLib's own score is in camera coordinates, where a short lens has larger errors.
        errors = np.minimum(reprojection_errors(pose, lens, x, places), threshold)
        if (cost := float((errors**2).sum())) < least:
            best, least = (pose, lens), cost
    return best


def reprojection_errors(
    pose: Pose, lens: CalibratedCamera, points: Matrix, world: Matrix
) -> Matrix:
    """(N,): pixels between points (N, 2) and where their places appear; infinite behind."""
    local = world @ pose.rotation.T + pose.translation
    ahead = local[:, 2] > 1e-9
    errors = np.full(len(points), np.inf)
    flat = local[ahead, :2] / local[ahead, 2:]
    seen = np.array(lens.to_poselib().project(flat)).reshape(-1, 2)
    errors[ahead] = np.linalg.norm(seen - points[ahead], axis=1)
    return errors


@dataclass(frozen=True, eq=False)
class _Fit:
    """A pose and a camera, and how points pull at them.

    deviation: of the focal length before any point was seen, as a share. prior: the camera then.
    """

    pose: Pose
    lens: CalibratedCamera
    deviation: float
    prior: CalibratedCamera

    def errors(self, x: Matrix, places: Matrix) -> Matrix:
        return reprojection_errors(self.pose, self.lens, x, places)

    def linear(self, x: Matrix, places: Matrix) -> tuple[Matrix, Matrix]:
        """Residuals (N, 2) in pixels and their derivatives (N, 2, 7) by the rotation about the
        camera's axes, its position along them, and the focal length's logarithm.
        """
        local = places @ self.pose.rotation.T + self.pose.translation
        depth = np.maximum(local[:, 2], 1e-9)
        flat = local[:, :2] / depth[:, None]
        seen, bent = self.lens.to_poselib().project_with_jac(flat)
        seen = np.array(seen).reshape(-1, 2)
        projection = np.zeros((len(x), 2, 3))
        projection[:, 0, 0] = projection[:, 1, 1] = 1 / depth
        projection[:, :, 2] = -flat / depth[:, None]
        projection = np.array(bent).reshape(-1, 2, 2) @ projection
        turned = np.cross(np.eye(3), local[:, None]).transpose(0, 2, 1)
        derivatives = np.concatenate(
            [projection @ turned, -projection, (seen - self.lens.centre)[:, :, None]], axis=2
        )
        return seen - x, derivatives

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
        size = self.lens.width, self.lens.height
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
        return math.log(self.lens.focal / self.prior.focal)

    def _moved(self, step: Matrix) -> _Fit:
        angle = float(np.linalg.norm(step[:3]))
        half = np.sinc(angle / 2 / np.pi) / 2
        turn = Pose.from_quaternion([math.cos(angle / 2), *(half * step[:3])], np.zeros(3)).rotation
        rotation = turn @ self.pose.rotation
        translation = turn @ (self.pose.translation - step[3:6])
        lens = self.lens.scaled(math.exp(float(np.clip(step[6], -1, 1)))) if len(step) > 6 else None
        return replace(self, pose=Pose(rotation, translation), lens=lens or self.lens)


def _array(values: ArrayLike, width: int, name: str) -> Matrix:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be an (N, {width}) array of numbers.") from error
    if array.ndim != 2 or array.shape[1] != width:
        raise ArgumentError(f"{name} must be an (N, {width}) array, not {array.shape}.")
    if not np.isfinite(array).all():
        raise ArgumentError(f"{name} must be finite.")
    return array
