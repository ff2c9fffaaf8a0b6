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
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import numpy as np
import poselib
from numpy.typing import ArrayLike

from covis.errors import ArgumentError
from covis.geometry.a_contrario import log10_expected_models
from covis.geometry.camera import FOCAL_PER_SIDE, Camera, as_camera
from covis.geometry.checks import (
    best_first,
    checked_threshold,
    number_rows,
    ransac_options,
    whole,
)
from covis.images.exif import plausible_focal
from covis.images.orientation import Orientation
from covis.types import Geometry, GeometryKind, Matrix


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


MIRRORED = Orientation(mirrored=True)
NO_POSE = "image 1 is mirrored: no camera that moves sees that, so there is no pose"
"""Of an essential matrix."""


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
    camera0: Camera | ArrayLike | None = None,
    camera1: Camera | ArrayLike | None = None,
    focal0: float | None = None,
    focal1: float | None = None,
    scores: ArrayLike | None = None,
    seed: int = 0,
    max_iterations: int = 10_000,
    min_iterations: int = 1000,
    mirrored: bool = False,
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
    camera0, camera1: for an essential matrix only; a `Camera`, or its 3 x 3 matrix. Where one is
        None, the principal point is taken as the middle, and the focal length from focal0 /
        focal1 (pixels, as EXIF tells, if a lens can have it), else as 1.2 longer sides; the note
        says so.
    scores: (N,), larger is better; then the better matches are tried first, which finds models
        of few matches sooner. None: all alike.
    seed: 0 .. 2**64 - 1. max_iterations: the most samples tried, at least 1. min_iterations: how
        many are tried where fewer would do, too.
    mirrored: whether image 1 is a mirrored picture; points and model are those of it as it is.
        No homography that a camera sees and no pose turns a picture over: without this none is
        found, and with it no essential matrix.

    Raises ArgumentError for anything else.
    """
    x0, x1 = number_rows(points0, 2, "points0"), number_rows(points1, 2, "points1")
    views = (
        _View(0, size0, as_camera(camera0), focal0),
        _View(1, size1, as_camera(camera1), focal1),
    )
    _check(kind, x0, x1, views)
    threshold = checked_threshold(threshold, default_threshold(kind, size0, size1))
    options = ransac_options(threshold, seed, max_iterations, min_iterations)
    order = np.arange(len(x0))
    if scores is not None:
        order = best_first(scores, len(x0))
        options["progressive_sampling"] = True
    if kind == "none":
        return Geometry("none", None, np.ones(len(x0), bool))
    model = _MODELS[kind]
    x0, x1 = x0[order], x1[order]
    few = _too_few(model, x0, x1)
    if few:
        return _no_model(kind, len(x0), few)
    if mirrored and kind == "essential":
        return _no_model(kind, len(x0), NO_POSE)
    if mirrored:
        x1 = MIRRORED.of_points(x1, size1)
    found = _fit(kind, x0, x1, views, options)
    problem = _doubt(model, found, x0, x1, threshold, views)
    if problem:
        return _no_model(kind, len(x0), "; ".join(filter(None, [problem, found.note])))
    note = found.note
    if len(x0) == model.sample:
        unchecked = f"{model.sample} matches determine {model.name}: none is left to check it"
        note = "; ".join(filter(None, [unchecked, note]))
    inliers = np.empty_like(found.inliers)
    inliers[order] = found.inliers
    matrix = _turned_over(found, size1) if mirrored else found.matrix
    return replace(found, matrix=matrix, inliers=inliers, note=note)


def _check(kind: GeometryKind, x0: Matrix, x1: Matrix, views: _Views) -> None:
    if kind not in get_args(GeometryKind):
        known = ", ".join(get_args(GeometryKind))
        raise ArgumentError(f"No geometry of kind {kind!r}; there are {known}.")
    if len(x0) != len(x1):
        raise ArgumentError(
            f"points0 and points1 belong together, but there are {len(x0)} and {len(x1)}."
        )
    for view in views:
        _check_size(view.size, f"size{view.number}")
    for view in views:
        focal = view.focal
        if focal is not None and not (math.isfinite(focal) and focal > 0):
            name = f"focal{view.number}"
            raise ArgumentError(f"{name} must be a positive number of pixels, not {focal}.")


def _too_few(model: _Model, x0: Matrix, x1: Matrix) -> str:
    """Why these points do not determine a model, in words; empty where they might."""
    different = min(len(np.unique(x, axis=0)) for x in (x0, x1))
    if different >= model.sample:
        return ""
    apart = " at different places" if different < len(x0) else ""
    are = "there is 1" if different == 1 else f"there are {different}"
    return f"not enough matches: {model.name} needs {model.sample}{apart}, {are}"


class _View(NamedTuple):
    """A picture and what is known of its camera. number: 0 or 1. size: (width, height)."""

    number: int
    size: tuple[int, int]
    camera: Camera | None
    focal: float | None

    def known(self) -> tuple[Camera, str]:
        """The camera, and where it was not given, in words what was taken for it."""
        if self.camera is not None:
            return self.camera, ""
        focal = self.focal
        if focal is None or not plausible_focal(focal, self.size):
            unused = "" if focal is None else f"image {self.number}: {focal:.0f} px cannot be; "
            return Camera.from_size(self.size), (
                f"{unused}image {self.number}: focal length assumed as {FOCAL_PER_SIDE} times the "
                f"longer side, {FOCAL_PER_SIDE * max(self.size):.0f} px"
            )
        return Camera.from_size(self.size, focal), (
            f"image {self.number}: focal length {focal:.0f} px as given, principal point in the "
            "middle"
        )


_Views = tuple[_View, _View]


def _fit(
    kind: GeometryKind, x0: Matrix, x1: Matrix, views: _Views, options: dict[str, Any]
) -> Geometry:
    """What PoseLib finds, whatever it is worth, and a note on the cameras that it was told."""
    if kind == "essential":
        return _fit_essential(x0, x1, views, options)
    if kind == "homography":
        matrix, info = poselib.estimate_homography(x0, x1, options, {})
        if abs(matrix[2, 2]) > 1e-12:
            matrix = matrix / matrix[2, 2]
    else:
        matrix, info = poselib.estimate_fundamental(x0, x1, options, {})
    return Geometry(kind, np.array(matrix, np.float64), np.array(info["inliers"], bool))


def _turned_over(found: Geometry, size1: tuple[int, int]) -> Matrix | None:
    """The matrix for points of image 1 as it is, where it was fitted to those of it mirrored."""
    if found.matrix is None:
        return None
    over = MIRRORED.homography(size1)
    if found.kind != "homography":
        return over.T @ found.matrix
    matrix = over @ found.matrix
    return matrix / matrix[2, 2] if abs(matrix[2, 2]) > 1e-12 else matrix


def _fit_essential(x0: Matrix, x1: Matrix, views: _Views, options: dict[str, Any]) -> Geometry:
    (camera0, note0), (camera1, note1) = (view.known() for view in views)
    pinholes = _pinhole(camera0, views[0].size), _pinhole(camera1, views[1].size)
    pose, info = poselib.estimate_relative_pose(x0, x1, *pinholes, options, {})
    rotation = np.array(pose.R, np.float64)
    length = np.linalg.norm(pose.t)
    translation = np.array(pose.t, np.float64) / (length if length > 0 else np.nan)
    return Geometry(
        "essential",
        _cross(translation) @ rotation,
        np.array(info["inliers"], bool),
        "; ".join(filter(None, [note0, note1])),
        rotation,
        translation,
    )


def _doubt(
    model: _Model, found: Geometry, x0: Matrix, x1: Matrix, threshold: float, views: _Views
) -> str:
    """Why a model cannot be trusted, in words; empty when it can."""
    inliers, count = found.inliers, int(found.inliers.sum())
    if found.matrix is None or not np.isfinite(found.matrix).all() or count < model.sample:
        return f"no model: the matches agree on none that {model.sample} of them support"
    if any(_distance_from_a_line(x[inliers]) < threshold for x in (x0, x1)):
        return f"degenerate matches: they lie on one line, which does not determine {model.name}"
    sizes = views[0].size, views[1].size
    alarms = log10_false_alarms(found.kind, len(x0), count, threshold, *sizes)
    if len(x0) > model.sample and alarms >= 0:
        return f"too weak: {count} of {len(x0)} matches agree, as many as chance would bring"
    return ""


def log10_false_alarms(
    kind: GeometryKind,
    count: int,
    inliers: int,
    threshold: float,
    size0: tuple[int, int],
    size1: tuple[int, int],
    *,
    matches_each: float = 1.0,
) -> float:
    """How many models with as many inliers are expected among unrelated matches, as log10.

    The a-contrario bound of Moisan and Stival (2004), in which a match agrees with a model by
    accident as often as its threshold's neighbourhood fills the picture. 0 for as few matches as
    determine the model: none is left to be surprised by.

    kind: not "none". count: of all matches. threshold: in pixels, see `estimate_geometry`.
    matches_each: how many matches stand behind each that is counted, any of which may agree.
    """
    model = _MODELS[kind]
    if count <= model.sample:
        return 0.0
    if kind == "homography":
        chance = math.pi * threshold**2 / math.prod(size1)
    else:
        chance = max(2 * threshold * math.hypot(*size) / math.prod(size) for size in (size0, size1))
    chance = 1 - (1 - min(chance, 1)) ** matches_each
    return log10_expected_models(model.sample, model.solutions, count, inliers, chance)


def _distance_from_a_line(points: Matrix) -> float:
    """Root mean square distance in pixels of (N, 2) points from the line that fits them best."""
    spread = np.cov(points, rowvar=False, bias=True)
    return float(np.sqrt(max(np.linalg.eigvalsh(spread)[0], 0.0)))


def _no_model(kind: GeometryKind, count: int, note: str) -> Geometry:
    return Geometry(kind, None, np.zeros(count, bool), note)


def _pinhole(camera: Camera, size: tuple[int, int]) -> dict[str, Any]:
    """The camera as PoseLib takes it; only the given points' frame matters to it."""
    parameters = [camera.focal_x, camera.focal_y, camera.centre_x, camera.centre_y]
    return {"model": "PINHOLE", "width": size[0], "height": size[1], "params": parameters}


def _cross(v: Matrix) -> Matrix:
    """(3,) -> (3, 3): the matrix that takes the cross product with v."""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], np.float64)


def _check_size(size: tuple[int, int], name: str) -> None:
    if len(size) != 2:
        raise ArgumentError(f"{name} must be (width, height), not {size}.")
    for value in size:
        whole(value, name, 1, 2**31 - 1)
