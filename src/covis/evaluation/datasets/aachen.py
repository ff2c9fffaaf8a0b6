"""Aachen Day-Night v1.1 (Sattler et al., CVPR 2018; Zhang et al., IJCV 2021), localisation.

Its published layout, as unpacked:

    images/images_upright/              db/..., query/day/..., query/night/..., sequences/...
    3D-models/aachen_v_1_1/             cameras.bin, images.bin, points3D.bin: COLMAP's, all
                                        poses of db/ and sequences/, from SIFT
    queries/day_time_queries_with_intrinsics.txt
    queries/night_time_queries_with_intrinsics.txt
                                        a line a query: name MODEL width height params...

The queries' poses are not public: visuallocalization.net computes the scores from a file of
lines "name qw qx qy qz tx ty tz", cam_from_world, the name without its folders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.metrics.localisation import LocalisationResult
from covis.files.atomic import replacing
from covis.geometry.absolute_pose import CalibratedCamera, Pose

IMAGES = "images/images_upright"
MODEL = "3D-models/aachen_v_1_1"
QUERIES: Mapping[str, str] = {
    "day": "queries/day_time_queries_with_intrinsics.txt",
    "night": "queries/night_time_queries_with_intrinsics.txt",
}
LIMITS: tuple[tuple[float, float], ...] = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""Metres and degrees within which a query counts as located, from fine to coarse."""

SOURCE = "https://www.visuallocalization.net/datasets/"


def read_queries(folder: str | Path) -> dict[str, dict[str, CalibratedCamera]]:
    """The queries of the data set: "day" and "night" -> name -> camera.

    Raises ArgumentError where the data set is not there or a line is not a query's.
    """
    folder = Path(folder)
    for part in (IMAGES, MODEL, *QUERIES.values()):
        if not (folder / part).exists():
            raise ArgumentError(
                f"{folder}: no Aachen Day-Night v1.1 ({part} is missing). Get it from {SOURCE} and "
                "unpack it there as it is."
            )
    return {condition: _queries(folder / part) for condition, part in QUERIES.items()}


def read_poses(path: str | Path) -> dict[str, Pose]:
    """Poses from a file as `write_submission` makes it.

    Raises ArgumentError that names the line which is none.
    """
    poses = {}
    for where, (name, *values) in _lines(Path(path)):
        try:
            numbers = [float(value) for value in values]
            if len(numbers) != 7 or not np.isfinite(numbers).all():
                raise ValueError("seven numbers are wanted")
            poses[name] = Pose.from_quaternion(numbers[:4], numbers[4:])
        except (ValueError, ArgumentError) as error:
            raise ArgumentError(f"{where}: not 'name qw qx qy qz tx ty tz' ({error}).") from error
    return poses


def write_submission(path: str | os.PathLike[str], poses: Mapping[str, Pose | None]) -> int:
    """Write the poses of queries for visuallocalization.net; how many have one.

    Raises ArgumentError where two names are the same without their folders, CovisError where the
    file cannot be written.
    """
    lines: dict[str, str] = {}
    for name, pose in poses.items():
        if pose is None:
            continue
        bare = name.rpartition("/")[2]
        if bare in lines:
            raise ArgumentError(f"two queries are called '{bare}'; their folders do not count.")
        numbers = (*pose.quaternion, *pose.translation)
        lines[bare] = " ".join([bare, *(f"{number:.12g}" for number in numbers)])
    with replacing(path) as file:
        file.write("".join(f"{lines[name]}\n" for name in sorted(lines)).encode())
    return len(lines)


def scores(result: LocalisationResult) -> tuple[float, ...]:
    """The share of queries within each of LIMITS, 0..1."""
    return tuple(result.share(*limit) for limit in LIMITS)


def _queries(path: Path) -> dict[str, CalibratedCamera]:
    queries = {}
    for where, words in _lines(path):
        try:
            name, model, width, height, *params = words
            lens = CalibratedCamera(
                model, int(width), int(height), tuple(float(value) for value in params)
            )
        except (ValueError, ArgumentError) as error:
            raise ArgumentError(f"{where}: not 'name MODEL width height ...' ({error}).") from error
        queries[name] = lens
    return queries


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    """The words of each line that is neither empty nor a comment, and where it stands."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: cannot be read ({error}).") from error
    return [
        (f"{path}, line {number}", line.split())
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
