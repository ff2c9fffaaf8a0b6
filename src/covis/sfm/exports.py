"""Models in the formats of other programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, CovisError
from covis.files.atomic import replacing
from covis.messages import counted
from covis.sfm.map import Map
from covis.types import Matrix

if TYPE_CHECKING:
    import pycolmap

ExportName = Literal["ply", "text", "binary", "nerfstudio"]

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])
"""Camera axes: Nerfstudio looks along -z with y up, COLMAP along z with y down."""
APPLIED = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])
"""The world is turned so that z, not -y, points up in it: Nerfstudio's `applied_transform`."""

_NERFSTUDIO_MODELS = {
    "SIMPLE_PINHOLE": ("OPENCV", ()),
    "PINHOLE": ("OPENCV", ()),
    "SIMPLE_RADIAL": ("OPENCV", ("k1",)),
    "RADIAL": ("OPENCV", ("k1", "k2")),
    "OPENCV": ("OPENCV", ("k1", "k2", "p1", "p2")),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1",)),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2")),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
    "SIMPLE_FISHEYE": ("OPENCV_FISHEYE", ()),
    "FISHEYE": ("OPENCV_FISHEYE", ()),
}
"""By COLMAP's model: Nerfstudio's, and the names of the distortion parameters in order."""


def export_map(made: Map, kind: ExportName) -> Path:
    """Write the largest model of a map to its folder export/KIND, see `export_model`."""
    folder = made.folder / "export" / kind
    return export_model(made.reconstruction, Path(made.settings.photos), folder, kind)


def export_model(
    model: pycolmap.Reconstruction, photos: Path, folder: Path, kind: ExportName
) -> Path:
    """Write a `pycolmap.Reconstruction` into a folder; returns the file, or the folder.

    photos: the folder that the photos' names are relative to.
    kind: "ply", points.ply, coloured; "text" or "binary", COLMAP's files; "nerfstudio",
        transforms.json, and points.ply as it wants them.

    Raises CovisError when they cannot be written, ArgumentError for a camera that the format
    does not have, or a name: COLMAP's readers of text cut names at the first space.
    """
    spaced = sorted(image.name for image in model.images.values() if " " in image.name)
    if kind == "text" and spaced:
        raise ArgumentError(
            f"COLMAP cuts names at spaces when it reads text, as that of '{spaced[0]}' "
            f"({counted(len(spaced), 'photo')}); export binary, or rename the photos."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{folder}: cannot make this folder ({error.strerror}).") from None
    if kind == "text":
        model.write_text(str(folder))
        return folder
    if kind == "binary":
        model.write_binary(str(folder))
        return folder
    path = folder / "points.ply"
    if kind == "ply":
        write_ply(path, *coloured_points(model))
        return path
    values = nerfstudio(model, photos, folder)
    points, colours = coloured_points(model)
    write_ply(path, points @ APPLIED[:, :3].T, colours)
    path = folder / "transforms.json"
    with replacing(path) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())
    return path


def nerfstudio(model: pycolmap.Reconstruction, photos: Path, folder: Path) -> dict[str, Any]:
    """What transforms.json says of a model's photos: intrinsics and poses of each.

    `transform_matrix` takes points of the camera, whose x points right, y up and z backwards, to
    the world, which is COLMAP's turned by `applied_transform`. Paths are relative to `folder`.
    """
    frames = []
    for image_id in sorted(model.images, key=lambda number: str(model.image(number).name)):
        image = model.image(image_id)
        if not image.has_pose:
            continue
        world_from_cam = np.eye(4)
        world_from_cam[:3] = image.cam_from_world().inverse().matrix()
        world_from_cam[:3, :3] = world_from_cam[:3, :3] @ OPENGL_FROM_OPENCV
        world_from_cam[:3] = APPLIED[:, :3] @ world_from_cam[:3]
        path = os.path.relpath(photos / image.name, folder).replace(os.sep, "/")
        frames.append(
            {
                "file_path": path,
                **_intrinsics(image.camera),
                "transform_matrix": world_from_cam.tolist(),
                "colmap_im_id": image_id,
            }
        )
    models = {frame.pop("camera_model") for frame in frames}
    if len(models) > 1:
        raise ArgumentError("Nerfstudio takes one kind of camera only, not fisheyes and others.")
    return {
        "camera_model": models.pop() if models else "OPENCV",
        "frames": frames,
        "applied_transform": APPLIED.tolist(),
        "ply_file_path": "points.ply",
    }


def check_export(kind: ExportName, camera_model: str) -> None:
    """Raise ArgumentError where the format does not have a camera model of COLMAP's."""
    if kind == "nerfstudio" and camera_model not in _NERFSTUDIO_MODELS:
        raise ArgumentError(
            f"Nerfstudio has no camera model {camera_model}; map with one of: "
            f"{', '.join(_NERFSTUDIO_MODELS)}."
        )


def _intrinsics(camera: pycolmap.Camera) -> dict[str, Any]:
    name = camera.model_name
    check_export("nerfstudio", name)
    kind, distortions = _NERFSTUDIO_MODELS[name]
    extra = [float(camera.params[index]) for index in camera.extra_params_idxs()]
    return {
        "camera_model": kind,
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.focal_length_x,
        "fl_y": camera.focal_length_y,
        "cx": camera.principal_point_x,
        "cy": camera.principal_point_y,
        **dict(zip(distortions, extra, strict=True)),
    }


def coloured_points(model: pycolmap.Reconstruction) -> tuple[Matrix, NDArray[np.uint8]]:
    """(N, 3) positions and (N, 3) RGB of a model's points."""
    points = list(model.points3D.values())
    positions = np.array([point.xyz for point in points], np.float64).reshape(-1, 3)
    return positions, np.array([point.color for point in points], np.uint8).reshape(-1, 3)


def write_ply(path: Path, points: Matrix, colours: NDArray[np.uint8]) -> None:
    """Coloured points as a binary PLY file."""
    names = ("x", "y", "z"), ("red", "green", "blue")
    kinds = [(name, "<f4") for name in names[0]] + [(name, "u1") for name in names[1]]
    rows = np.empty(len(points), kinds)
    for column in range(3):
        rows[names[0][column]] = points[:, column]
        rows[names[1][column]] = colours[:, column]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {name}" for name in names[0]]
    header += [f"property uchar {name}" for name in names[1]]
    with replacing(path) as file:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode() + rows.tobytes())
