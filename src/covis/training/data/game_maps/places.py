"""Two cameras that look at one thing in a level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.training.data.game_maps.level import Level
from covis.training.data.game_maps.render import Camera, Renderer, View
from covis.training.data.scenes import carried

FloatArray = NDArray[Any]
NEAR = 40.0
"""What is nearer than this, in the level's units, fills the view with one wall."""
FAR_ENOUGH = 140.0
"""The least median depth of a view."""
COARSE = 24
"""Pixels between the depths that are looked at before a view is rendered."""
MARGIN = 24.0
"""Free space that a camera needs ahead of a wall."""
DARKEST, PLAINEST, SMOOTHEST = 25.0, 18.0, 6.0
"""Of a view's grey values: the least mean, spread, and spread of the second derivative."""


@dataclass(frozen=True)
class Layout:
    """How far apart two cameras may be.

    size: (width, height) in pixels. baseline: between the cameras, in depths of what they look
    at. turn: standard deviation of the second camera's roll, in degrees. zoom: the largest ratio
    of focal lengths, either way. overlap: the least and largest share of a view that is seen in
    the other.
    """

    size: tuple[int, int] = (640, 480)
    baseline: tuple[float, float] = (0.1, 0.8)
    turn: float = 6.0
    zoom: float = 1.5
    overlap: tuple[float, float] = (0.15, 0.9)


class Pair(NamedTuple):
    """Two views. overlap: the lesser share of a view that is seen in the other."""

    cameras: tuple[Camera, Camera]
    views: tuple[View, View]
    overlap: float


def find_pair(
    level: Level, renderer: Renderer, layout: Layout, rng: np.random.Generator, tries: int = 40
) -> Pair | None:
    """Two views of one place, lit well enough and with something in them; None when no try
    finds one."""
    if not len(level.stands):
        return None
    for _ in range(tries):
        cameras = _cameras(level, renderer, layout, rng)
        if cameras is None:
            continue
        views = tuple(_exposed(renderer.view(camera)) for camera in cameras)
        if not all(map(_worth_it, views)):
            continue
        overlap = min(
            float(
                seen((cameras[i], cameras[1 - i]), (views[i].depth, views[1 - i].depth))[1].mean()
            )
            for i in (0, 1)
        )
        if layout.overlap[0] <= overlap <= layout.overlap[1]:
            return Pair(cameras, (views[0], views[1]), overlap)
    return None


def seen(
    cameras: tuple[Camera, Camera], depths: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Where the pixels of the first view lie in the second: (h, w, 2) float32, pixels with the
    top-left one's centre at (0, 0); and whether they are in sight there, (h, w)."""
    height, width = depths[0].shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
    found = carried(grid.astype(np.float64), cameras, depths)
    points = found.points.reshape(height, width, 2).astype(np.float32)
    return points, (found.known & ~found.hidden).reshape(height, width)


def _cameras(
    level: Level, renderer: Renderer, layout: Layout, rng: np.random.Generator
) -> tuple[Camera, Camera] | None:
    """Two cameras that look at one place with nothing between them and it; or None."""
    width, height = layout.size
    focal = rng.uniform(0.6, 1.1) * width
    stand = level.stands[rng.integers(len(level.stands))]
    centre = stand + rng.uniform([-64, -64, 16], [64, 64, 70])
    heading, pitch = rng.uniform(0, 2 * math.pi), rng.uniform(-0.35, 0.2)
    ahead = _direction(heading, pitch)
    camera = _camera(layout.size, focal, centre, ahead, rng.normal(0, 0.05))
    columns, rows = np.arange(0, width, COARSE), np.arange(0, height, COARSE)
    coarse = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    depths = renderer.depth(camera, coarse.astype(float))
    solid = depths[depths > 0]
    if len(solid) < 0.7 * len(depths) or (solid < NEAR).mean() > 0.1:
        return None
    middle = float(np.median(solid))
    if middle < FAR_ENOUGH:
        return None
    right, down = camera.pose[0, :3], camera.pose[1, :3]
    angle = rng.uniform(0, 2 * math.pi)
    step = math.cos(angle) * right + 0.25 * math.sin(2 * angle) * down
    step = step + 0.8 * math.sin(angle) * ahead
    step *= rng.uniform(*layout.baseline) * middle
    free = renderer.cast(centre, step[None])
    if free.triangle[0] >= 0 and free.distance[0] < 1 + MARGIN / np.linalg.norm(step):
        return None
    to_middle = centre + middle * ahead - (centre + step)
    look = to_middle / np.linalg.norm(to_middle) + rng.normal(0, 0.1, 3)
    zoom = layout.zoom ** rng.uniform(-1, 1)
    roll = math.radians(rng.normal(0, layout.turn))
    return camera, _camera(layout.size, focal * zoom, centre + step, look, roll)


def _direction(heading: float, pitch: float) -> FloatArray:
    flat = math.cos(pitch)
    return np.array([math.cos(heading) * flat, math.sin(heading) * flat, math.sin(pitch)])


def _camera(
    size: tuple[int, int], focal: float, centre: FloatArray, ahead: FloatArray, roll: float
) -> Camera:
    """One at `centre` that looks along `ahead`, turned about that by `roll` radians."""
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(ahead, right)
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    pose = np.eye(4)
    pose[:2, :3] = turn @ np.stack([right, down])
    pose[2, :3] = ahead
    pose[:3, 3] = -pose[:3, :3] @ centre
    width, height = size
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    return Camera(size, intrinsics, pose)


def _exposed(view: View) -> View:
    """The view as a camera would expose it: games are dark."""
    grey = view.pixels.mean(axis=2)
    middle, bright = np.percentile(grey, [50, 98])
    gain = np.clip(min(110 / max(middle, 4), 235 / max(bright, 20)), 0.8, 6)
    pixels = 255 * np.clip(view.pixels * (gain / 255), 0, 1) ** 0.9
    return View(pixels.astype(np.uint8), view.depth)


def _worth_it(view: View) -> bool:
    grey = cv2.cvtColor(view.pixels, cv2.COLOR_RGB2GRAY)
    detail = cv2.Laplacian(grey, cv2.CV_32F).std()
    return bool(
        (view.depth > 0).mean() > 0.6
        and grey.mean() > DARKEST
        and grey.std() > PLAINEST
        and detail > SMOOTHEST
    )
