"""Photos of real scenes with depth maps and camera poses, in MegaDepth's published layout.

scene_info/0000.npz   image_paths, depth_paths: [n], from the folder; intrinsics: [n, 3, 3];
                      poses: [n, 4, 4], camera from world; overlap_matrix: [n, n], 0..1
.../name.h5           "depth": [h, w], along the camera's axis, 0 where unknown
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, ImageError, TrainingError
from covis.evaluation.datasets.plain_pickle import read_plain_npz
from covis.images.decode import load_image
from covis.training.data.held_out import held_out_of
from covis.training.data.labelled_pairs import (
    MATCH_WITHIN,
    NO_MATCH_BEYOND,
    NO_PARTNER,
    UNKNOWN,
    IntArray,
    Views,
)
from covis.training.data.photometric import degrade
from covis.training.data.synthetic import CELL, Difficulty, Pair
from covis.types import BoolArray, Matrix

OVERLAP = (0.1, 0.7)
"""Pairs that share more are too easy, those that share less hopeless (section 4)."""
SAME_DEPTH = 0.05
"""Relative difference of depths up to which a point is not hidden."""


class Pinhole(Protocol):
    """intrinsics: (3, 3), the top-left pixel's centre at (0, 0). pose: (4, 4), from world."""

    @property
    def intrinsics(self) -> Matrix: ...

    @property
    def pose(self) -> Matrix: ...


@dataclass(frozen=True, eq=False)
class Camera:
    """One photo of a scene.

    intrinsics: (3, 3), for points with the top-left pixel's centre at (0, 0), as COLMAP's models
    are read there. pose: (4, 4), camera from world.
    """

    image: Path
    depth: Path
    intrinsics: Matrix
    pose: Matrix


class Scenes:
    """The pairs of all scenes under a folder that overlap as they should."""

    def __init__(self, folder: Path) -> None:
        """Raises TrainingError when there are none, or a scene is not in the layout."""
        self.cameras: list[Camera] = []
        pairs = []
        for path in sorted(Path(folder).glob("scene_info/*.npz")):
            try:
                info = read_plain_npz(path)
                names = ("image_paths", "depth_paths", "intrinsics", "poses")
                columns = [info[name] for name in names]
                overlap = np.asarray(info["overlap_matrix"], np.float64)
            except ArgumentError as error:
                raise TrainingError(str(error)) from None
            except (KeyError, TypeError, ValueError) as error:
                raise TrainingError(
                    f"{path}: not a scene in MegaDepth's layout ({error})."
                ) from None
            index = {}
            for i, (image, depth, intrinsics, pose) in enumerate(zip(*columns, strict=True)):
                # Photos that were left out have no paths there.
                if image is None or depth is None:
                    continue
                index[i] = len(self.cameras)
                files = Path(folder) / str(image), Path(folder) / str(depth)
                matrices = np.asarray(intrinsics, np.float64), np.asarray(pose, np.float64)
                self.cameras.append(Camera(*files, *matrices))
            upper = np.triu((overlap >= OVERLAP[0]) & (overlap <= OVERLAP[1]), 1)
            pairs += [(index[i], index[j]) for i, j in np.argwhere(upper) if {i, j} <= index.keys()]
        if not pairs:
            raise TrainingError(
                f"{folder}: no pairs of overlap {OVERLAP[0]} to {OVERLAP[1]} in scene_info/*.npz "
                "there. Give a folder in MegaDepth's layout with --scenes."
            )
        self.pairs = np.array(pairs)

    def split(self, count: int) -> tuple[Scenes, Scenes]:
        """The first `count` pairs, but a third at most, to validate with, and the others.

        They stay the first when scenes are added whose names come later.
        """
        count = held_out_of(len(self.pairs), count)
        parts = self.pairs[:count], self.pairs[count:]
        held_out, others = copy(self), copy(self)
        held_out.pairs, others.pairs = parts
        return held_out, others

    def views(
        self, size: int, difficulty: Difficulty, turned: float, rng: np.random.Generator
    ) -> Views:
        """A random pair's photos, the longer side shrunk to `size` pixels.

        difficulty: of which the light, and the turn of one view in its plane. turned: how often
        there is one; squares are cut out of the photos then.

        Raises TrainingError when an image or its depth cannot be read.
        """
        cameras = self._any_pair(rng)
        photos = [_read_photo(camera.image) for camera in cameras]
        depths = [_read_depth(camera.depth) for camera in cameras]
        shapes = [_shrunk(photo.shape[:2], size) for photo in photos]
        if rng.random() < turned:
            any_angle = rng.random() < difficulty.any_rotation_probability
            angle = 180 if any_angle else difficulty.rotation
            angle = rng.uniform(-angle, angle)
            side = min(map(min, shapes))
            cuts = [
                _cut(photo.shape[:2], side, each, rng)
                for photo, each in zip(photos, (0.0, angle), strict=True)
            ]
            shapes = [(side, side)] * 2
        else:
            cuts = [_whole(photo.shape[:2], size) for photo in photos]
        drawn = [_cut_out(*each) for each in zip(photos, cuts, shapes, strict=True)]
        moved = [
            replace(camera, intrinsics=cut @ camera.intrinsics)
            for camera, cut in zip(cameras, cuts, strict=True)
        ]
        seen = [_cut_depth(*each) for each in zip(depths, cuts, shapes, strict=True)]
        return Views(
            [degrade(np.asarray(view, np.uint8), difficulty.light, rng) for view in drawn],
            [np.asarray(view[..., ::-1], np.uint8) for view in drawn],
            lambda points: partners(np.asarray(points - 0.5, np.float64), moved, seen),
        )

    def pair(self, size: int, light: float, turn: float, rng: np.random.Generator) -> Pair:
        """Two views of `size` x `size` pixels, cut at random from a pair's photos.

        light: strength of the photometric changes. turn: standard deviation of view 1's turn in
        its plane, in degrees.

        Raises TrainingError when an image or its depth cannot be read.
        """
        cameras = self._any_pair(rng)
        photos = [_read_photo(camera.image) for camera in cameras]
        depths = [_read_depth(camera.depth) for camera in cameras]
        cuts = [
            _cut(photo.shape[:2], size, angle, rng)
            for photo, angle in zip(photos, (0.0, rng.normal(0, turn)), strict=True)
        ]
        views = [_cut_out(photo, cut, (size,) * 2) for photo, cut in zip(photos, cuts, strict=True)]
        cells = size // CELL
        grid = np.stack(np.meshgrid(*[np.arange(cells) * CELL] * 2), axis=-1).reshape(-1, 2)
        there = _mapped(np.linalg.inv(cuts[1]), grid.astype(np.float64))
        seen = carried(there, cameras[::-1], depths[::-1])
        points = _mapped(cuts[0], seen.points)
        inside = np.all((points >= 0) & (points <= size - 1), axis=1)
        return Pair(
            views=np.stack([degrade(view, light, rng) for view in views]),
            points0=points.reshape(cells, cells, 2).astype(np.float32),
            visible=(seen.known & ~seen.hidden & inside).reshape(cells, cells),
        )

    def _any_pair(self, rng: np.random.Generator) -> list[Camera]:
        """Two cameras of a pair, either first."""
        chosen = rng.permutation(self.pairs[rng.integers(len(self.pairs))])
        return [self.cameras[i] for i in chosen]


def _cut(
    shape: Sequence[int], size: int, angle: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(3, 3), from a photo's pixels to those of a square part of it, turned by `angle` degrees."""
    height, width = shape
    # A turned square lies inside the photo's circle, and its corners may lie outside the photo.
    side = min(height, width)
    centre = [rng.uniform(side / 2, length - side / 2) - 0.5 for length in (width, height)]
    cut = np.eye(3)
    cut[:2] = cv2.getRotationMatrix2D(centre, angle, size / side)
    cut[:2, 2] += (size - 1) / 2 - np.array(centre)
    return cut


def _shrunk(shape: Sequence[int], size: int) -> tuple[int, int]:
    """(height, width) of a photo whose longer side is shrunk to `size`."""
    height, width = (round(side * min(1.0, size / max(shape))) for side in shape)
    return height, width


def _whole(shape: Sequence[int], size: int) -> NDArray[np.float64]:
    """(3, 3), from a photo's pixels to those of the photo shrunk by `_shrunk`."""
    height, width = np.array(_shrunk(shape, size)) / shape
    cut = np.diag([width, height, 1.0])
    cut[:2, 2] = (width - 1) / 2, (height - 1) / 2
    return cut


def _cut_out(photo: NDArray[Any], cut: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[Any]:
    """What `_cut` says, shrunk first: an affine warp alone would alias. shape: (height, width)."""
    shrunk = min(1.0, math.sqrt(abs(np.linalg.det(cut[:2, :2]))))
    small = cv2.resize(photo, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    ratio = np.array(small.shape[1::-1]) / photo.shape[1::-1]
    to_photo = np.diag([*(1 / ratio), 1.0])
    to_photo[:2, 2] = (1 / ratio - 1) / 2
    drawn: NDArray[Any] = cv2.warpAffine(
        small, (cut @ to_photo)[:2], shape[::-1], borderMode=cv2.BORDER_REFLECT
    )
    return drawn


def _cut_depth(
    depth: NDArray[Any], cut: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[Any]:
    """The depth of what `_cut_out` shows, 0 beyond the photo."""
    return cv2.warpAffine(
        depth.astype(np.float32), cut[:2], shape[::-1], flags=cv2.INTER_NEAREST, borderValue=0
    )


def _mapped(matrix: NDArray[Any], points: Matrix) -> Matrix:
    """(N, 2) points by an affine map (3, 3)."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def partners(
    points: Matrix,
    cameras: Sequence[Camera],
    depths: Sequence[NDArray[Any]],
) -> IntArray:
    """Which points show the same: (2, N), from depth and, where that is unknown, from epipolar
    lines.

    points: (2, N, 2), pixels of both photos.
    """
    there = _seen_from(points, cameras, depths)
    back = _seen_from(points[::-1], cameras[::-1], depths[::-1])
    known = there.known[:, None] | back.known[None]
    distance = np.fmax(there.distance, back.distance.T)
    off_line = there.off_line | back.off_line.T
    far = off_line | (known & (distance > NO_MATCH_BEYOND))
    measured = there.known[:, None] & back.known[None]
    close = np.where(measured & ~off_line, distance, np.inf)
    to1, to0 = close.argmin(axis=1), close.argmin(axis=0)
    result = np.full(points.shape[:2], UNKNOWN, np.int64)
    result[0, there.hidden | far.all(axis=1)] = NO_PARTNER
    result[1, back.hidden | far.all(axis=0)] = NO_PARTNER
    found = np.flatnonzero((to0[to1] == np.arange(len(close))) & (close.min(axis=1) < MATCH_WITHIN))
    result[0, found], result[1, to1[found]] = to1[found], found
    return result


class Carried(NamedTuple):
    """Where N points of one photo come to lie in another.

    points: (N, 2), arbitrary where the depth is not known or they lie behind the other camera.
    known: (N,), whether their depth is. hidden: (N,), not in sight there, for certain.
    """

    points: Matrix
    known: BoolArray
    hidden: BoolArray


def carried(points: Matrix, cameras: Sequence[Pinhole], depths: Sequence[NDArray[Any]]) -> Carried:
    """Take (N, 2) points of the first photo into the second by the depth they have there."""
    (here, there), (depth_here, depth_there) = cameras, depths
    rotation, translation = _relative(here, there)
    depth = _at(depth_here, points)
    known = depth > 0
    rays = _homogeneous(points) @ np.linalg.inv(here.intrinsics).T
    space = rays * np.where(known, depth, 1)[:, None] @ rotation.T + translation
    in_front = space[:, 2] > 1e-9
    projected = space @ there.intrinsics.T
    projected = projected[:, :2] / np.where(in_front, projected[:, 2], 1)[:, None]
    height, width = depth_there.shape
    edges = width - 0.5, height - 0.5
    inside = in_front & np.all((projected > -0.5) & (projected < edges), axis=1)
    surface = _at(depth_there, projected)
    covered = (surface > 0) & (abs(space[:, 2] - surface) > SAME_DEPTH * surface)
    return Carried(projected, known, known & (~inside | covered))


def _relative(here: Pinhole, there: Pinhole) -> tuple[Matrix, Matrix]:
    """The rotation (3, 3) and translation (3,) that take one camera's space into the other's."""
    there_from_here = there.pose @ np.linalg.inv(here.pose)
    return there_from_here[:3, :3], there_from_here[:3, 3]


class _Seen(NamedTuple):
    """Where the N points of one photo come to lie in another with N points.

    known, hidden: (N,), see `Carried`.
    distance: (N, N), to each point there; NaN without depth, infinite where hidden.
    off_line: (N, N), whether a point there is far from the epipolar line.
    """

    known: BoolArray
    hidden: BoolArray
    distance: Matrix
    off_line: BoolArray


def _seen_from(points: Matrix, cameras: Sequence[Camera], depths: Sequence[NDArray[Any]]) -> _Seen:
    """Take the points of the first photo into the second."""
    here, there = cameras
    found = carried(points[0], cameras, depths)
    distance = np.linalg.norm(found.points[:, None] - points[1][None], axis=2)
    distance[found.hidden] = np.inf
    distance[~found.known] = np.nan
    rotation, translation = _relative(here, there)
    essential = np.cross(translation, rotation, axisb=0, axisc=0)
    rays = _homogeneous(points[0]) @ np.linalg.inv(here.intrinsics).T
    lines = rays @ essential.T @ np.linalg.inv(there.intrinsics)
    off = abs(lines @ _homogeneous(points[1]).T)
    off /= np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)[:, None]
    return _Seen(found.known, found.hidden, distance, off > NO_MATCH_BEYOND)


def _homogeneous(points: Matrix) -> Matrix:
    return np.column_stack([points, np.ones(len(points))])


def _at(depth: NDArray[Any], points: Matrix) -> Matrix:
    """The depth at the pixel under each point, 0 outside."""
    nearest = np.rint(points)
    inside = np.all((nearest >= 0) & (nearest < depth.shape[::-1]), axis=1)
    x, y = np.where(inside[:, None], nearest, 0).astype(np.intp).T
    return np.where(inside, depth[y, x], 0).astype(np.float64)


def _read_photo(path: Path) -> NDArray[Any]:
    """(H, W, 3) uint8, BGR."""
    try:
        return cv2.cvtColor(load_image(path).pixels, cv2.COLOR_RGB2BGR)
    except ImageError as error:
        raise TrainingError(str(error)) from None


def _read_depth(path: Path) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file["depth"])
    except (OSError, KeyError) as error:
        raise TrainingError(f"{path}: no depth map there ({error}).") from None
