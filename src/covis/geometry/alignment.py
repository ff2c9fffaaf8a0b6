"""A warp that lays one picture onto another, from their matches, and how far off it is.

A homography where one holds; else, as of scenes with depth, a homography and on top of it a
thin-plate spline of what is left. How far either is off, and so which is taken, is measured at
matches that it was not fitted to: each fifth of them in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import CovisError
from covis.geometry.polygon import area, clipped, corners
from covis.geometry.two_view import estimate_geometry
from covis.messages import counted
from covis.options import WarpKind, choice
from covis.types import Matches, Matrix

LEAST = 20
"""Matches that must agree."""
FOLDS = 5
BETTER, SLACK = 0.75, 0.1
"""A smooth warp is taken where its error is below so much of the homography's, and by so many
pixels, too."""
STIFFNESS = 1e-4, 1e-2, 1.0
"""Of the spline, as SciPy's `smoothing` in units of longer sides: the best of these is taken."""
MOST_POINTS = 600
"""The spline is fitted to so many matches, the best: its cost grows with their third power."""
NEIGHBOURS, OUTLYING = 8, 4.0
"""A match that differs from the median of so many around it by so many times as much as most do,
and by a pixel, does not bend the spline."""
CELLS = 64
"""The spline is evaluated at so many places along the longer side, and linearly between them."""

Size = tuple[int, int]
_Spline = Callable[[Matrix], Matrix]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where each place of image 0 lies in image 1.

    kind: "homography" or "smooth". size0, size1: (width, height) of the full-size images.
    homography_1from0: (3, 3) float64. shifts: (rows, columns, 2) float32, what the spline adds to
    it, in pixels of image 1, at places spread evenly over image 0 from corner to corner; None for
    a homography.
    error, error90: the median and the 90th percentile of how far matches that it was not fitted to
    are off, in pixels of image 0. matches: how many there were.
    outline: (N, 2) float64, the part of image 0 that image 1 covers; for a smooth warp the convex
    hull of the matches, beyond which it says nothing. share: of image 0, 0..1.
    """

    kind: Literal["homography", "smooth"]
    size0: Size
    size1: Size
    homography_1from0: Matrix
    shifts: NDArray[np.float32] | None
    error: float
    error90: float
    matches: int
    outline: Matrix
    share: float

    def to_image1(self, points0: Matrix) -> Matrix:
        """(N, 2) places of image 0, in full-size pixels -> theirs in image 1; NaN for what lies
        behind the camera."""
        mapped = _mapped(self.homography_1from0, points0)
        if self.shifts is None:
            return mapped
        from scipy.ndimage import map_coordinates

        rows, columns = self.shifts.shape[:2]
        row_column = (points0 * (np.array([columns - 1, rows - 1]) / self.size0)).T[::-1]
        for axis in (0, 1):
            shift = self.shifts[:, :, axis]
            mapped[:, axis] += map_coordinates(shift, row_column, order=1, mode="nearest")
        return mapped

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and words, ready for JSON, without `shifts`."""
        return {
            "kind": self.kind,
            "homography_1from0": self.homography_1from0.tolist(),
            "error": self.error,
            "error90": self.error90,
            "matches": self.matches,
            "share": self.share,
            "outline": self.outline.tolist(),
        }

    def describe(self) -> str:
        """A sentence for people."""
        kind = "a homography" if self.kind == "homography" else "a smooth warp"
        return (
            f"Aligned by {kind}: {self.error:.2f} pixels off in the median and {self.error90:.2f} "
            f"at the 90th percentile, at {counted(self.matches, 'match', 'matches')} that it was "
            f"not fitted to; covers {100 * self.share:.0f} % of image 0."
        )


def estimate_alignment(
    matches: Matches, size0: Size, size1: Size, *, kind: WarpKind = "auto", seed: int = 0
) -> Alignment:
    """Fit the warp to the matches that agree with their geometry.

    size0, size1: (width, height) of the full-size images in pixels. kind: "homography", "smooth",
        or "auto" for the one that is less far off. seed: of the robust estimation.

    Raises CovisError where fewer than `LEAST` matches agree or no homography is near,
    ArgumentError for a kind that there is not.
    """
    choice("kind", kind, get_args(WarpKind))
    inliers = matches.inliers
    points0, points1 = (
        points[inliers].astype(np.float64) for points in (matches.points0, matches.points1)
    )
    if len(points0) < LEAST:
        raise CovisError(
            f"{counted(len(points0), 'match', 'matches')} agree, {LEAST} or more are needed to "
            "align the pictures; more keypoints or another matcher may find them."
        )

    def homography(p0: Matrix, p1: Matrix) -> Matrix:
        found = estimate_geometry(
            p0, p1, "homography", size0=size0, size1=size1, seed=seed, mirrored=matches.mirrored
        ).matrix
        if found is None:
            # A scene with depth may have no plane that chance would not bring as well.
            median = cv2.findHomography(p0, p1, cv2.LMEDS)[0]
            found = None if median is None else np.asarray(median, np.float64)
        if found is None or abs(np.linalg.det(found)) < 1e-12:
            raise CovisError("no homography is near the matches: the pictures cannot be aligned.")
        return found

    h_1from0 = homography(points0, points1)
    folds = np.arange(len(points0)) % FOLDS
    planes = [homography(points0[folds != n], points1[folds != n]) for n in range(FOLDS)]
    plane = np.empty(len(points0))
    for n in range(FOLDS):
        held = folds == n
        left = _mapped(planes[n], points0[held]) - points1[held]
        plane[held] = _off(left, points0[held], h_1from0)
    errors, spline = plane, None
    if kind != "homography":
        bent, found = _bent(points0, points1, planes, h_1from0, folds, size0)
        limit = min(BETTER * np.median(plane), np.median(plane) - SLACK)
        if kind == "smooth" or np.median(bent) < limit:
            errors, spline = bent, found
    shifts = None if spline is None else _sampled(spline, size0)
    outline = _covered(h_1from0, points0, size0, size1, smooth=spline is not None)
    return Alignment(
        kind="homography" if spline is None else "smooth",
        size0=size0,
        size1=size1,
        homography_1from0=h_1from0,
        shifts=shifts,
        error=float(np.median(errors)),
        error90=float(np.percentile(errors, 90)),
        matches=len(points0),
        outline=outline,
        share=area(outline) / (size0[0] * size0[1]),
    )


def _mapped(matrix: Matrix, points: Matrix) -> Matrix:
    """Under a homography; NaN for what goes to infinity or beyond."""
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    depth = homogeneous[:, 2:] * np.sign(matrix[2, 2] or 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mapped: Matrix = np.where(
            depth > 0, homogeneous[:, :2] / homogeneous[:, 2:], np.float64(np.nan)
        )
    return mapped


def _off(left: Matrix, points0: Matrix, h_1from0: Matrix) -> NDArray[np.float64]:
    """Lengths (N,) of differences (N, 2) in image 1, in pixels of image 0 at the places there;
    what is nowhere is infinitely far off."""
    depth = np.column_stack([points0, np.ones(len(points0))]) @ h_1from0[2]
    scale = np.sqrt(abs(np.linalg.det(h_1from0)) / np.abs(depth) ** 3)
    lengths = np.linalg.norm(left, axis=1) / scale
    return np.where(np.isfinite(lengths), lengths, np.inf)


def _bent(
    points0: Matrix,
    points1: Matrix,
    planes: list[Matrix],
    h_1from0: Matrix,
    folds: NDArray[np.int64],
    size0: Size,
) -> tuple[NDArray[np.float64], _Spline]:
    """How far held-out matches (N,) are off under a spline, of the best stiffness, and that spline
    of all matches."""
    best: tuple[NDArray[np.float64], float] | None = None
    for stiffness in STIFFNESS:
        errors = np.empty(len(points0))
        for n, plane in enumerate(planes):
            held = folds == n
            spline = _fitted(plane, points0[~held], points1[~held], stiffness, size0)
            moved = _mapped(plane, points0[held]) + spline(points0[held])
            errors[held] = _off(moved - points1[held], points0[held], h_1from0)
        if best is None or np.median(errors) < np.median(best[0]):
            best = errors, stiffness
    assert best is not None
    errors, stiffness = best
    return errors, _fitted(h_1from0, points0, points1, stiffness, size0)


def _fitted(
    plane: Matrix, points0: Matrix, points1: Matrix, stiffness: float, size0: Size
) -> _Spline:
    """What is to be added to a homography, (N, 2) places of image 0 -> pixels of image 1."""
    from scipy.interpolate import RBFInterpolator
    from scipy.spatial import cKDTree

    unit = max(size0)
    # One match a place: two that lie on each other have no spline.
    places = np.unique(np.round(points0), axis=0, return_index=True)[1]
    places = np.sort(places)[:MOST_POINTS]
    left = points1[places] - _mapped(plane, points0[places])
    seen = np.isfinite(left).all(axis=1)
    places, left = places[seen], left[seen]
    near = cKDTree(points0[places]).query(points0[places], NEIGHBOURS + 1)[1][:, 1:]
    apart = np.linalg.norm(left - np.median(left[near], axis=1), axis=1)
    sound = apart <= max(1.0, OUTLYING * float(np.median(apart)))
    spline = RBFInterpolator(
        points0[places][sound] / unit, left[sound], kernel="thin_plate_spline", smoothing=stiffness
    )
    return lambda points: np.asarray(spline(points / unit), np.float64)


def _sampled(spline: _Spline, size0: Size) -> NDArray[np.float32]:
    """(rows, columns, 2) over image 0, its corners included."""
    columns, rows = (max(2, round(CELLS * side / max(size0)) + 1) for side in size0)
    x, y = np.meshgrid(np.linspace(0, size0[0], columns), np.linspace(0, size0[1], rows))
    places = np.column_stack([x.ravel(), y.ravel()])
    return spline(places).reshape(rows, columns, 2).astype(np.float32)


def _covered(
    h_1from0: Matrix, points0: Matrix, size0: Size, size1: Size, *, smooth: bool
) -> Matrix:
    """The part of image 0 that image 1 covers, a convex polygon (N, 2)."""
    whole = (0.0, 0.0, float(size0[0]), float(size0[1]))
    if smooth:
        hull = cv2.convexHull(points0.astype(np.float32))[:, 0].astype(np.float64)
        return clipped(hull, whole)
    back = np.asarray(np.linalg.inv(h_1from0), np.float64)
    border = _mapped(back, corners((0.0, 0.0, float(size1[0]), float(size1[1]))))
    return clipped(border if np.isfinite(border).all() else corners(whole), whole)
