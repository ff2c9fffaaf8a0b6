"""Photos of real scenes with depth maps and camera poses, in MegaDepth's published layout.

scene_info/0000.npz   image_paths, depth_paths: [n], from the folder; intrinsics: [n, 3, 3];
                      poses: [n, 4, 4], camera from world; overlap_matrix: [n, n], 0..1
.../name.h5           "depth": [h, w], along the camera's axis, 0 where unknown
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from covis.errors import TrainingError
from covis.features import Extractor
from covis.training.data.labelled_pairs import (
    MATCH_WITHIN,
    NO_MATCH_BEYOND,
    NO_PARTNER,
    UNKNOWN,
    IntArray,
    LabelledPair,
    positions,
)
from covis.types import BoolArray, Matrix

OVERLAP = (0.1, 0.7)
"""Pairs that share more are too easy, those that share less hopeless (section 4)."""
SAME_DEPTH = 0.05
"""Relative difference of depths up to which a point is not hidden."""


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
                with np.load(path, allow_pickle=True) as info:
                    names = ("image_paths", "depth_paths", "intrinsics", "poses")
                    columns = [info[name] for name in names]
                    overlap = np.asarray(info["overlap_matrix"], np.float64)
            except (KeyError, ValueError, OSError) as error:
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

    def labelled(
        self, extract: Extractor, keypoints: int, rng: np.random.Generator
    ) -> LabelledPair:
        """A random pair with at most `keypoints` features an image.

        `extract.max_size` is the size at which distances are counted.

        Raises TrainingError when an image or its depth cannot be read.
        """
        cameras = [
            self.cameras[i] for i in rng.permutation(self.pairs[rng.integers(len(self.pairs))])
        ]
        found = [extract(camera.image) for camera in cameras]
        count = min(keypoints, *(len(features) for features in found))
        points = np.stack([f.keypoints[:count] for f in found])
        depths = [_read_depth(camera.depth) for camera in cameras]
        shrunk = [min(1.0, (extract.max_size or np.inf) / max(f.width, f.height)) for f in found]
        return LabelledPair(
            points=points,
            positions=np.stack([positions(f)[:count] for f in found]),
            descriptors=np.stack([f.descriptors[:count] for f in found]),
            partners=partners(
                np.asarray(points - 0.5, np.float64), cameras, depths, (shrunk[0], shrunk[1])
            ),
        )


def partners(
    points: Matrix,
    cameras: Sequence[Camera],
    depths: Sequence[NDArray[Any]],
    scales: tuple[float, float] = (1.0, 1.0),
) -> IntArray:
    """Which points show the same: (2, N), from depth and, where that is unknown, from epipolar
    lines.

    points: (2, N, 2), pixels of both photos. scales: of the photos at which distances count.
    """
    there = _seen_from(points, cameras, depths, scales[1])
    back = _seen_from(points[::-1], cameras[::-1], depths[::-1], scales[0])
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


class _Seen(NamedTuple):
    """Where the N points of one photo come to lie in another with N points.

    known: (N,), whether their depth is. hidden: (N,), not in sight there, for certain.
    distance: (N, N), to each point there; NaN without depth, infinite where hidden.
    off_line: (N, N), whether a point there is far from the epipolar line.
    """

    known: BoolArray
    hidden: BoolArray
    distance: Matrix
    off_line: BoolArray


def _seen_from(
    points: Matrix, cameras: Sequence[Camera], depths: Sequence[NDArray[Any]], scale: float
) -> _Seen:
    """Take the points of the first photo into the second, where distances count `scale` times."""
    (here, there), (depth_here, depth_there) = cameras, depths
    there_from_here = there.pose @ np.linalg.inv(here.pose)
    rotation, translation = there_from_here[:3, :3], there_from_here[:3, 3]
    depth = _at(depth_here, points[0])
    known = depth > 0
    rays = _homogeneous(points[0]) @ np.linalg.inv(here.intrinsics).T
    space = rays * np.where(known, depth, 1)[:, None] @ rotation.T + translation
    in_front = space[:, 2] > 1e-9
    projected = space @ there.intrinsics.T
    projected = projected[:, :2] / np.where(in_front, projected[:, 2], 1)[:, None]
    height, width = depth_there.shape
    edges = width - 0.5, height - 0.5
    inside = in_front & np.all((projected > -0.5) & (projected < edges), axis=1)
    surface = _at(depth_there, projected)
    covered = (surface > 0) & (abs(space[:, 2] - surface) > SAME_DEPTH * surface)
    hidden = known & (~inside | covered)

    distance = np.linalg.norm(projected[:, None] - points[1][None], axis=2) * scale
    distance[hidden] = np.inf
    distance[~known] = np.nan
    essential = np.cross(translation, rotation, axisb=0, axisc=0)
    lines = rays @ essential.T @ np.linalg.inv(there.intrinsics)
    off = abs(lines @ _homogeneous(points[1]).T)
    off /= np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)[:, None]
    return _Seen(known, hidden, distance, off * scale > NO_MATCH_BEYOND)


def _homogeneous(points: Matrix) -> Matrix:
    return np.column_stack([points, np.ones(len(points))])


def _at(depth: NDArray[Any], points: Matrix) -> Matrix:
    """The depth at the pixel under each point, 0 outside."""
    nearest = np.rint(points)
    inside = np.all((nearest >= 0) & (nearest < depth.shape[::-1]), axis=1)
    x, y = np.where(inside[:, None], nearest, 0).astype(np.intp).T
    return np.where(inside, depth[y, x], 0).astype(np.float64)


def _read_depth(path: Path) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file["depth"])
    except (OSError, KeyError) as error:
        raise TrainingError(f"{path}: no depth map there ({error}).") from None
