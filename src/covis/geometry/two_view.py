"""Robust two-view models from matches, estimated by PoseLib's LO-RANSAC.

What PoseLib 2.0.5 does, found by experiment, and what is done about it here:
- with too few matches it returns uninitialised memory and an inlier list of another length:
  they are counted first;
- it keeps the order of the matches and is deterministic for a seed, but progressive sampling
  expects the best match first: they are sorted before and put back after;
- a non-finite coordinate spoils every model: refused here;
- matches without any structure get a model that a few of them support: told apart by how many
  would agree by chance;
- a refined pose's translation need not have unit length: made so here;
- inliers are those of the last model before its final refinement, so a match may be a few
  hundredths of the threshold off on either side.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
import poselib
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.geometry.camera import FOCAL_PER_SIDE, Camera
from covis.types import BoolArray, Geometry, GeometryKind, Matrix

Points = NDArray[np.float64]


class _Model(NamedTuple):
    """What a kind of geometry asks for.

    sample: how many matches determine it. solutions: how many models one sample can give.
    side_share: the default threshold as a share of a picture's longer side. floor: in pixels.
    """

    name: str
    sample: int
    solutions: int
    side_share: float
    floor: float


_MODELS: Mapping[str, _Model] = {
    "homography": _Model("a homography", 4, 1, 1 / 250, 2.0),
    "fundamental": _Model("a fundamental matrix", 7, 3, 1 / 640, 1.0),
    "essential": _Model("an essential matrix", 5, 10, 1 / 640, 1.0),
}


def default_threshold(kind: GeometryKind, size0: tuple[int, int], size1: tuple[int, int]) -> float:
    """The inlier threshold in full-size pixels where none is given.

    It grows with the pictures, so that a pair behaves alike at any resolution: 1/250 of image 1's
    longer side for a homography (its error lies in image 1), 1/640 of the shorter of the two
    longer sides otherwise (the smaller picture rules a Sampson distance), at least 2 and 1 pixels.

    size0, size1: (width, height) in pixels. Infinite for kind "none".
    """
    if kind == "none":
        return math.inf
    model = _MODELS[kind]
    side = max(size1) if kind == "homography" else min(max(size0), max(size1))
    return max(model.floor, side * model.side_share)


def estimate_geometry(
    points0: ArrayLike,
    points1: ArrayLike,
    kind: GeometryKind,
    *,
    size0: tuple[int, int],
    size1: tuple[int, int],
    threshold: float | None = None,
    camera0: Camera | None = None,
    camera1: Camera | None = None,
    focal0: float | None = None,
    focal1: float | None = None,
    scores: ArrayLike | None = None,
    seed: int = 0,
    max_iterations: int = 10_000,
    min_iterations: int = 1000,
) -> Geometry:
    """The model of `kind` that most matches agree with, and which of them do.

    Too few matches, degenerate ones, or a model that no more matches support than chance would
    bring give a Geometry without a matrix, no inliers, and a note that says why. The same input
    gives the same output.

    points0, points1: (N, 2), (x, y) in full-size pixels, the top-left pixel's centre (0.5, 0.5).
    kind: "homography", "fundamental", "essential", or "none" for no model and all inliers.
    size0, size1: (width, height) of the full-size images in pixels.
    threshold: in full-size pixels: the distance in image 1 for a homography, the Sampson
        distance otherwise (for an essential matrix, taken to camera coordinates by the mean of
        both inverse focal lengths). None for `default_threshold`.
    camera0, camera1: for an essential matrix only. Where one is None, the principal point is
        taken as the middle, and the focal length from focal0 / focal1 (pixels, as EXIF tells),
        else as 1.2 longer sides; the note says so.
    scores: (N,), larger is better; then the better matches are tried first, which finds models
        of few matches sooner. None: all alike.
    seed: 0 .. 2**64 - 1. max_iterations: the most samples tried, at least 1. min_iterations: how
        many are tried where fewer would do, too.

    Raises ArgumentError for anything else.
    """
    if kind not in get_args(GeometryKind):
        known = ", ".join(get_args(GeometryKind))
        raise ArgumentError(f"No geometry of kind {kind!r}; there are {known}.")
    x0, x1 = _points(points0, "points0"), _points(points1, "points1")
    if len(x0) != len(x1):
        raise ArgumentError(
            f"points0 and points1 belong together, but there are {len(x0)} and {len(x1)}."
        )
    _check_size(size0, "size0")
    _check_size(size1, "size1")
    if threshold is None:
        threshold = default_threshold(kind, size0, size1)
    elif not (math.isfinite(threshold) and threshold > 0):
        raise ArgumentError(f"The threshold must be a positive number of pixels, not {threshold}.")
    for name, focal in (("focal0", focal0), ("focal1", focal1)):
        if focal is not None and not (math.isfinite(focal) and focal > 0):
            raise ArgumentError(f"{name} must be a positive number of pixels, not {focal}.")
    options = {
        "seed": whole(seed, "seed", 0, 2**64 - 1),
        "max_iterations": whole(max_iterations, "max_iterations", 1, 2**31 - 1),
        "min_iterations": whole(min_iterations, "min_iterations", 0, 2**31 - 1),
        "max_reproj_error": threshold,
        "max_epipolar_error": threshold,
    }
    order = None
    if scores is not None:
        order = np.argsort(-_scores(scores, len(x0)), kind="stable")
        x0, x1 = x0[order], x1[order]
        options["progressive_sampling"] = True

    if kind == "none":
        return Geometry("none", None, np.ones(len(x0), bool))
    model = _MODELS[kind]
    different = min(len(x0), _count_different(x0), _count_different(x1))
    if different < model.sample:
        apart = " at different places" if different < len(x0) else ""
        return _no_model(
            kind,
            len(x0),
            f"not enough matches: {model.name} needs {model.sample}{apart}, {_are(different)}",
        )

    notes: list[str] = []
    rotation = translation = None
    if kind == "homography":
        matrix, info = poselib.estimate_homography(x0, x1, options, {})
    elif kind == "fundamental":
        matrix, info = poselib.estimate_fundamental(x0, x1, options, {})
    else:
        if camera0 is None:
            notes.append(_focal_note(0, size0, focal0))
            camera0 = Camera.from_size(size0, focal0)
        if camera1 is None:
            notes.append(_focal_note(1, size1, focal1))
            camera1 = Camera.from_size(size1, focal1)
        pose, info = poselib.estimate_relative_pose(
            x0, x1, _pinhole(camera0, size0), _pinhole(camera1, size1), options, {}
        )
        rotation = np.array(pose.R, np.float64)
        length = np.linalg.norm(pose.t)
        translation = np.array(pose.t, np.float64) / (length if length > 0 else np.nan)
        matrix = _cross(translation) @ rotation

    inliers = np.array(info["inliers"], bool)
    problem = _doubt(model, kind, x0, x1, inliers, matrix, threshold, size0, size1)
    if problem:
        return _no_model(kind, len(x0), "; ".join([problem, *notes]))
    if len(x0) == model.sample:
        notes.insert(0, f"{model.sample} matches determine {model.name}: none is left to check it")
    if kind == "homography" and abs(matrix[2, 2]) > 1e-12:
        matrix = matrix / matrix[2, 2]
    if order is not None:
        inliers[order] = inliers.copy()
    return Geometry(
        kind, np.array(matrix, np.float64), inliers, "; ".join(notes), rotation, translation
    )


def _doubt(
    model: _Model,
    kind: GeometryKind,
    x0: Points,
    x1: Points,
    inliers: BoolArray,
    matrix: Matrix,
    threshold: float,
    size0: tuple[int, int],
    size1: tuple[int, int],
) -> str:
    """Why a model cannot be trusted, in words; empty when it can."""
    count = int(inliers.sum())
    if not np.isfinite(matrix).all() or count < model.sample:
        return f"no model: the matches agree on none that {model.sample} of them support"
    if any(_distance_from_a_line(x[inliers]) < threshold for x in (x0, x1)):
        return f"degenerate matches: they lie on one line, which does not determine {model.name}"
    checked = len(x0) > model.sample
    if checked and log10_false_alarms(kind, len(x0), count, threshold, size0, size1) >= 0:
        return f"too weak: {count} of {len(x0)} matches agree, as many as chance would bring"
    return ""


def log10_false_alarms(
    kind: GeometryKind,
    count: int,
    inliers: int,
    threshold: float,
    size0: tuple[int, int],
    size1: tuple[int, int],
) -> float:
    """How many models with as many inliers are expected among unrelated matches, as log10.

    The a-contrario bound of Moisan and Stival (2004), in which a match agrees with a model by
    accident as often as its threshold's neighbourhood fills the picture. 0 for as few matches as
    determine the model: none is left to be surprised by.

    kind: not "none". count: of all matches. threshold: in pixels, see `estimate_geometry`.
    """
    model = _MODELS[kind]
    if count <= model.sample:
        return 0.0
    if kind == "homography":
        chance = math.pi * threshold**2 / math.prod(size1)
    else:
        chance = max(2 * threshold * math.hypot(*size) / math.prod(size) for size in (size0, size1))
    return log10_expected_models(model.sample, model.solutions, count, inliers, chance)


def log10_expected_models(
    sample: int, solutions: int, count: int, inliers: int, chance: float
) -> float:
    """How many models with as many inliers unrelated points bring, as log10; see above.

    sample: how many points determine a model. solutions: how many models one sample can give.
    chance: that a point agrees with a model by accident.
    """
    if count <= sample or inliers < sample:
        return 0.0
    return (
        math.log10(solutions * (count - sample))
        + _log10_choose(count, inliers)
        + _log10_choose(inliers, sample)
        + (inliers - sample) * math.log10(min(chance, 1))
    )


def _log10_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)


def _distance_from_a_line(points: Points) -> float:
    """Root mean square distance in pixels of (N, 2) points from the line that fits them best."""
    spread = np.cov(points, rowvar=False, bias=True)
    return float(np.sqrt(max(np.linalg.eigvalsh(spread)[0], 0.0)))


def _count_different(points: Points) -> int:
    return len(np.unique(points, axis=0))


def _are(count: int) -> str:
    return "there is 1" if count == 1 else f"there are {count}"


def _no_model(kind: GeometryKind, count: int, note: str) -> Geometry:
    return Geometry(kind, None, np.zeros(count, bool), note)


def _focal_note(image: int, size: tuple[int, int], focal: float | None) -> str:
    if focal is None:
        return (
            f"image {image}: focal length assumed as {FOCAL_PER_SIDE} times the longer side, "
            f"{FOCAL_PER_SIDE * max(size):.0f} px"
        )
    return f"image {image}: focal length {focal:.0f} px as given, principal point in the middle"


def _pinhole(camera: Camera, size: tuple[int, int]) -> dict[str, Any]:
    """The camera as PoseLib takes it; only the given points' frame matters to it."""
    parameters = [camera.focal_x, camera.focal_y, camera.centre_x, camera.centre_y]
    return {"model": "PINHOLE", "width": size[0], "height": size[1], "params": parameters}


def _cross(v: Matrix) -> Matrix:
    """(3,) -> (3, 3): the matrix that takes the cross product with v."""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], np.float64)


def _points(values: ArrayLike, name: str) -> Points:
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be an (N, 2) array of numbers.") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise ArgumentError(f"{name} must be an (N, 2) array, not {points.shape}.")
    finite = np.isfinite(points).all(1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ArgumentError(f"{name} must be finite, but row {row} is {points[row].tolist()}.")
    return points


def _scores(values: ArrayLike, count: int) -> Points:
    try:
        scores = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError("scores must be an (N,) array of numbers.") from error
    if scores.shape != (count,):
        raise ArgumentError(f"scores must be one a match, ({count},), not {scores.shape}.")
    if np.isnan(scores).any():
        raise ArgumentError("scores must be numbers, but some are NaN.")
    return scores


def _check_size(size: tuple[int, int], name: str) -> None:
    if len(size) != 2:
        raise ArgumentError(f"{name} must be (width, height), not {size}.")
    for value in size:
        whole(value, name, 1, 2**31 - 1)


def whole(value: int, name: str, least: int, most: int) -> int:
    """`value` as an int, if it is a whole number between both bounds."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentError(f"{name} must be a whole number, not {value!r}.") from error
    if not least <= number <= most:
        raise ArgumentError(f"{name} must be between {least} and {most}, not {value}.")
    return number
