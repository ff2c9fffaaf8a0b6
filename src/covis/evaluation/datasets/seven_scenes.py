"""7-Scenes (Shotton et al., CVPR 2013): photos of rooms with a pose and a depth each.

As published, a scene is a folder:

    TrainSplit.txt, TestSplit.txt       a line a sequence: sequence1, sequence2, ...
    seq-01/frame-000000.color.png       640 x 480
    seq-01/frame-000000.depth.png       millimetres, 0 or 65535 for none
    seq-01/frame-000000.pose.txt        4 x 4, world from camera, in metres

A folder of frames with a `cameras.json` is read as well: {"frame-000000.jpg": {"K": 3 x 3 with
the top-left pixel's centre at (0, 0), "T_cam_from_world": 4 x 4}}, with frame-000000.depth.png
beside it. There every third frame, from the second on, is located in a map of the others.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from covis.errors import ArgumentError
from covis.evaluation.datasets.pairs import HALF_PIXEL
from covis.geometry import Camera
from covis.geometry.absolute_pose import CalibratedCamera, Pose
from covis.types import FloatArray, Matrix

FOCAL = 525.0
"""Of the colour camera, in pixels: the value in use, as none was published for it."""
FARTHEST = 10.0
"""Metres; a Kinect that says more is wrong."""

SOURCE = "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/"


@dataclass(frozen=True, eq=False)
class Frame:
    """A photo with a known camera. name: its path from the scene's folder, with slashes."""

    name: str
    path: Path
    depth_path: Path
    lens: CalibratedCamera
    pose: Pose

    def depth(self) -> FloatArray:
        """(h, w) float32, metres along the camera's axis; NaN for none.

        The depth camera's picture as it is: as common, the offset to the colour camera is ignored.
        """
        raw = cv2.imread(str(self.depth_path), cv2.IMREAD_UNCHANGED)
        if raw is None:
            raise ArgumentError(f"{self.depth_path}: no depth picture that can be read.")
        metres: FloatArray = raw.astype(np.float32) / np.float32(1000)
        metres[(metres <= 0) | (metres > FARTHEST)] = np.nan
        return metres


@dataclass(frozen=True, eq=False)
class Scene:
    """train: what a map is made of. test: what is located in it."""

    name: str
    folder: Path
    train: tuple[Frame, ...]
    test: tuple[Frame, ...]


def read_scene(folder: str | Path) -> Scene:
    """A scene in one of the layouts above.

    Raises ArgumentError that names the file and says what is missing or wrong in it.
    """
    folder = Path(folder)
    if (folder / "cameras.json").is_file():
        frames = _listed(folder)
        test = frames[1::3]
        return Scene(folder.name, folder, tuple(f for f in frames if f not in test), test)
    if not (folder / "TrainSplit.txt").is_file():
        raise ArgumentError(
            f"{folder}: no scene of 7-Scenes (TrainSplit.txt is missing). Unpack one from {SOURCE} "
            "there, its sequences (seq-01.zip, ...) too."
        )
    train, test = (
        tuple(frame for number in _split(folder / name) for frame in _sequence(folder, number))
        for name in ("TrainSplit.txt", "TestSplit.txt")
    )
    return Scene(folder.name, folder, train, test)


def _split(path: Path) -> list[int]:
    try:
        words = path.read_text("utf-8").split()
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror}).") from error
    found = [re.fullmatch(r"sequence(\d+)", word) for word in words]
    if not found or None in found:
        raise ArgumentError(f"{path}: holds other lines than 'sequence1', 'sequence2', ...")
    return [int(match[1]) for match in found if match]


def _sequence(folder: Path, number: int) -> list[Frame]:
    sequence = folder / f"seq-{number:02}"
    paths = sorted(sequence.glob("frame-*.color.png"))
    if not paths:
        raise ArgumentError(f"{sequence}: no frames there; unpack {sequence.name}.zip.")
    frames = []
    for path in paths:
        stem = path.name.removesuffix(".color.png")
        pose_path = sequence / f"{stem}.pose.txt"
        try:
            world_from_cam = np.loadtxt(pose_path)
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{pose_path}: no pose to read ({error}).") from error
        if world_from_cam.shape != (4, 4) or not np.isfinite(world_from_cam).all():
            raise ArgumentError(f"{pose_path}: must hold a 4 x 4 matrix of finite numbers.")
        rotation = _orthogonal(world_from_cam[:3, :3]).T
        pose = Pose(rotation, -rotation @ world_from_cam[:3, 3])
        size = _size(path)
        lens = CalibratedCamera.of(Camera.from_size(size, FOCAL * max(size) / 640), size)
        name = f"{sequence.name}/{path.name}"
        frames.append(Frame(name, path, sequence / f"{stem}.depth.png", lens, pose))
    return frames


def _listed(folder: Path) -> tuple[Frame, ...]:
    path = folder / "cameras.json"
    frames = []
    try:
        for name, camera in sorted(json.loads(path.read_text("utf-8")).items()):
            matrix = HALF_PIXEL @ np.array(camera["K"], np.float64)
            pose = np.array(camera["T_cam_from_world"], np.float64)
            if pose.shape != (4, 4) or not np.isfinite(pose).all():
                raise ValueError(f"{name}: T_cam_from_world is no 4 x 4 matrix of finite numbers")
            size = _size(folder / name)
            lens = CalibratedCamera.of(Camera.from_matrix(matrix), size)
            depth = folder / f"{Path(name).stem}.depth.png"
            turned = Pose(_orthogonal(pose[:3, :3]), pose[:3, 3])
            frames.append(Frame(name, folder / name, depth, lens, turned))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArgumentError(f"{path}: no list of cameras ({error!r}).") from error
    if len(frames) < 3:
        raise ArgumentError(f"{path}: {len(frames)} frames are too few to map and locate.")
    return tuple(frames)


def _size(path: Path) -> tuple[int, int]:
    try:
        with PIL.Image.open(path) as image:
            return image.size
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error}).") from error


def _orthogonal(matrix: Matrix) -> Matrix:
    """The rotation nearest to a matrix written with few digits."""
    u, _, v = np.linalg.svd(matrix)
    rotation: Matrix = u @ v
    return rotation
