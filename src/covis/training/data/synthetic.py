"""Pairs of views with exact correspondences, rendered from photographs.

A scene is a stack of textured planes, far to near. Each plane has a homography into each
view, so one plane gives a homography pair and several give parallax and occlusion. View 1
may also be bent by a thin-plate spline. Under the planes lies an unrelated photo that is
different in the two views, so that what has no counterpart is textured too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.training.data.photometric import degrade

Pixels = NDArray[Any]
"""uint8; OpenCV's annotations promise no more than an array."""

CELL = 8
"""Correspondences are given for every point (8 j, 8 i) of view 1."""

NO_PLANE = 255


@dataclass(frozen=True)
class Difficulty:
    """How far apart the two views of a pair may be. Angles in degrees."""

    rotation: float = 30.0
    zoom: float = 2.0
    """The largest ratio of scales between the views, either way."""
    tilt: float = 35.0
    """The largest angle between a plane's normal and a view's axis."""
    shift: float = 0.12
    """How far each camera may look past the scene's middle, in its distance."""
    bend: float = 0.03
    """Thin-plate displacement, as a share of the view's side."""
    bend_probability: float = 0.3
    planes_probability: float = 0.5
    """How often a scene has several planes rather than one."""
    any_rotation_probability: float = 0.0
    """How often the rotation is drawn from the full circle instead."""
    light: float = 1.0
    """Strength of the photometric changes, 0 for none."""


@dataclass(frozen=True)
class Pair:
    """Two views and where the cells of view 1 lie in view 0.

    views: (2, S, S) uint8, grey.
    points0: (S/8, S/8, 2) float32, the point of view 0 that shows what view 1 shows at
        pixel (8 j, 8 i); the centre of the top-left pixel is (0, 0).
    visible: (S/8, S/8) bool, whether it is seen in both views.
    """

    views: NDArray[np.uint8]
    points0: NDArray[np.float32]
    visible: NDArray[np.bool_]


def render_pair(
    photos: list[Pixels], size: int, difficulty: Difficulty, rng: np.random.Generator
) -> Pair:
    """Render one random scene of `photos` (BGR) into two views of `size` x `size` pixels."""
    several = rng.random() < difficulty.planes_probability
    planes = int(rng.integers(2, 6)) if several else 1
    cameras = _cameras(difficulty, size, rng)
    # Without a photo behind the scene's planes every pixel would have a counterpart.
    canvases = [_backdrop(photos[rng.integers(len(photos))], size, rng) for _ in range(2)]
    labels = [np.full((size, size), NO_PLANE, np.uint8) for _ in range(2)]
    to_views: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    depths = np.sort(rng.uniform(0.6, 1.6, planes))[::-1] if several else np.ones(1)
    for index, depth in enumerate(depths):
        photo = photos[rng.integers(len(photos))]
        photo, mask, place = _plane(photo, size, float(depth), index > 0, difficulty, rng)
        maps = tuple(camera @ place for camera in cameras)
        to_views.append((_homography(maps[0], photo), _homography(maps[1], photo)))
        for view in range(2):
            warp = to_views[index][view]
            texture = _prefiltered(photo, warp, size)
            inside = cv2.warpPerspective(mask, warp, (size, size), flags=cv2.INTER_NEAREST)
            drawn = cv2.warpPerspective(
                texture, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
            cv2.copyTo(drawn, inside, canvases[view])
            cv2.copyTo(np.full_like(labels[view], index), inside, labels[view])

    bend = _bend(size, difficulty, rng)
    if bend is not None:
        # An empty second map in place of None would keep OpenCV busy for ever.
        x, y = cv2.split(pixel_grid(size) + bend)
        canvases[1] = cv2.remap(canvases[1], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    points0, visible = _correspondences(to_views, labels, bend, size)
    views = np.stack([degrade(canvas, difficulty.light, rng) for canvas in canvases])
    return Pair(views, points0, visible)


def _correspondences(
    to_views: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    labels: list[Pixels],
    bend: NDArray[np.float32] | None,
    size: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Follow each cell of view 1 back through its plane into view 0."""
    points1 = pixel_grid(size)[::CELL, ::CELL].astype(np.float64)
    if bend is not None:
        points1 = points1 + bend[::CELL, ::CELL]
    label1 = _lookup(labels[1], points1)
    points0 = np.zeros_like(points1)
    for index, (to_view0, to_view1) in enumerate(to_views):
        here = label1 == index
        if here.any():
            points0[here] = cv2.perspectiveTransform(
                points1[here][:, None], to_view0 @ np.linalg.inv(to_view1)
            )[:, 0]
    visible = (label1 != NO_PLANE) & (_lookup(labels[0], points0) == label1)
    return points0.astype(np.float32), visible


def _lookup(labels: Pixels, points: NDArray[np.float64]) -> Pixels:
    """The label under each point, NO_PLANE outside the view."""
    nearest = np.rint(points)
    inside = np.all((nearest >= 0) & (nearest < labels.shape[0]), axis=-1)
    x, y = np.where(inside[..., None], nearest, 0).astype(np.intp).transpose(2, 0, 1)
    return np.where(inside, labels[y, x], NO_PLANE).astype(np.uint8)


def _cameras(
    difficulty: Difficulty, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two projections (3 x 4) of the scene, whose planes lie about 1 unit from the origin.

    The cameras look at the point (0, 0, 1); the relative rotation, zoom and tilt between
    them are what `difficulty` allows, shared between the two.
    """
    angle = rng.uniform(-1, 1) * difficulty.rotation
    if rng.random() < difficulty.any_rotation_probability:
        angle = rng.uniform(-180, 180)
    zoom = difficulty.zoom ** rng.uniform(-1, 1)
    share = rng.uniform(0, 1)
    projections = []
    for sign in (-1, 1):
        part = share if sign < 0 else 1 - share
        tilt = np.radians(difficulty.tilt) * rng.uniform(0, 1)
        direction = rng.uniform(0, 2 * np.pi)
        axis = np.array([np.cos(direction), np.sin(direction), 0.0])
        turn, _ = cv2.Rodrigues(axis * tilt)
        roll, _ = cv2.Rodrigues(np.array([0, 0, np.radians(sign * angle * part)]))
        rotation = roll @ turn
        target = np.array([0.0, 0.0, 1.0])
        centre = target - rotation.T @ target
        centre[:2] += rng.uniform(-difficulty.shift, difficulty.shift, 2)
        focal = size * rng.uniform(0.9, 1.4) * zoom ** (sign * 0.5)
        intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
        projections.append(intrinsics @ np.column_stack([rotation, -rotation @ centre]))
    return projections[0], projections[1]


def _plane(
    photo: Pixels,
    size: int,
    depth: float,
    cut: bool,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> tuple[Pixels, Pixels, NDArray[np.float64]]:
    """A photo laid into space: its pixels, the mask that is cut from it, and (4, 3) its place.

    The place maps homogeneous texture coordinates, in -1..1 over the longer side, to space.
    """
    height, width = photo.shape[:2]
    longest = max(height, width)
    mask = np.full((height, width), 255, np.uint8)
    if cut:
        mask = _shape(height, width, rng)
        extent = rng.uniform(0.25, 0.6)
        centre = np.array([*rng.uniform(-0.4, 0.4, 2), depth])
        lean = np.radians(40)
    else:
        # A photo much larger than the view would show mostly blur, a smaller one its edge.
        extent = float(np.clip(longest / size * rng.uniform(0.35, 0.75), 0.5, 1.6)) * depth
        centre = np.array([*rng.uniform(-0.15, 0.15, 2), depth])
        lean = np.radians(15)
    tilt, _ = cv2.Rodrigues(rng.uniform(-lean, lean, 3) * (1, 1, 0.3))
    place = np.zeros((4, 3))
    place[:3, 0] = tilt[:, 0] * extent
    place[:3, 1] = tilt[:, 1] * extent
    place[:3, 2] = centre
    place[3, 2] = 1
    return photo, mask, place


def _homography(projection: NDArray[np.float64], photo: Pixels) -> NDArray[np.float64]:
    """Texture coordinates -> view, made to take the photo's own pixels."""
    height, width = photo.shape[:2]
    half = max(height, width) / 2
    unit = np.array(
        [[1 / half, 0, -width / 2 / half], [0, 1 / half, -height / 2 / half], [0, 0, 1]]
    )
    return projection @ unit


def _prefiltered(photo: Pixels, warp: NDArray[np.float64], size: int) -> Pixels:
    """Blur a photo that is about to be drawn smaller, so that it does not alias."""
    height, width = photo.shape[:2]
    middle = np.array(
        [[width / 2, height / 2], [width / 2 + 1, height / 2], [width / 2, height / 2 + 1]]
    )
    here = cv2.perspectiveTransform(middle[:, None], warp)[:, 0]
    area = abs(np.linalg.det(here[1:] - here[0]))
    shrink = 1 / np.sqrt(max(area, 1e-6))
    if shrink < 1.2:
        return photo
    return cv2.GaussianBlur(photo, (0, 0), min(0.45 * np.sqrt(shrink**2 - 1), 8))


def _shape(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A random polygon or ellipse, white on black."""
    mask = np.zeros((height, width), np.uint8)
    centre = np.array([width, height]) / 2
    if rng.random() < 0.3:
        axes = (centre * rng.uniform(0.5, 1, 2)).astype(int)
        cv2.ellipse(
            mask, tuple(centre.astype(int)), tuple(axes), rng.uniform(0, 180), 0, 360, 255, -1
        )
        return mask
    corners = int(rng.integers(4, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.6, 1, (corners, 1))
    outline = centre + radius * centre * np.column_stack([np.cos(angles), np.sin(angles)])
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255)
    return mask


def _backdrop(photo: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A random square of a photo, as large as the view."""
    side = int(min(photo.shape[:2]) * rng.uniform(0.5, 1))
    y, x = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
    return cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)


@cache
def pixel_grid(size: int) -> NDArray[np.float32]:
    """(S, S, 2): each pixel's own (x, y)."""
    axis = np.arange(size, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1)


CONTROLS = 4
"""Control points of a thin-plate spline along each side."""
SPLINE_GRID = 33
"""The spline is evaluated on so many points a side; between them it is interpolated."""


@cache
def _spline() -> NDArray[np.float64]:
    """(33 * 33, 16): what each control point's displacement does to each point of the grid."""

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        squared = ((a[:, None] - b[None]) ** 2).sum(-1)
        return squared * np.log(squared + 1e-12)

    def lattice(count: int) -> NDArray[np.float64]:
        axis = np.linspace(0, 1, count)
        return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    def affine(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.ones(len(points)), points])

    controls, points = lattice(CONTROLS), lattice(SPLINE_GRID)
    count = len(controls)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = kernel(controls, controls)
    system[:count, count:] = affine(controls)
    system[count:, :count] = affine(controls).T
    weights = np.linalg.inv(system)[:, :count]
    return np.column_stack([kernel(points, controls), affine(points)]) @ weights


def _bend(
    size: int, difficulty: Difficulty, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """(S, S, 2): how far from each pixel of view 1 its content was fetched, or None."""
    bent = rng.random() < difficulty.bend_probability
    moved = rng.normal(0, difficulty.bend * size, (CONTROLS**2, 2)).clip(-0.1 * size, 0.1 * size)
    if not bent:
        return None
    coarse = (_spline() @ moved).reshape(SPLINE_GRID, SPLINE_GRID, 2).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
