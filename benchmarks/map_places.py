"""Two places in one folder, as the part `places` of map.py maps them: they must stay two models."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from covis.evaluation.metrics.localisation import aligned_position_errors
from covis.geometry.pose import Pose

OVERLAYS = ("none", "time stamp", "logo")
SIZES = (480, 640, 800, 960, 1200)
"""Longer sides in pixels."""
HOW: dict[str, dict[str, Any]] = {
    "covis": {},
    "covis, LightGlue": {"matcher": "lightglue"},
    "covis, semi-dense": {"matcher": "semi-dense"},
    "covis, global mapper": {"mapper": "global"},
}
HEADER = ["longer side", "printed over", "how", "models", "pairs across", "within"]
HEADER += ["placed", "mean position error", "wall"]


def print_over(picture: np.ndarray, overlay: str) -> None:
    """A bar with the time along the lower edge, or a logo in a corner; in place."""
    height, width = picture.shape[:2]
    if overlay == "time stamp":
        bar = round(height * 40 / 900)
        picture[-bar:] = 0
        words, at = "2026-05-17  14:32:08   CAMERA 01", (8, height - bar // 4)
        font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, bar // 15)
        cv2.putText(picture, words, at, font, bar / 40, (255, 255, 255), thick, cv2.LINE_AA)
    elif overlay == "logo":
        rng = np.random.default_rng(0)
        logo = rng.integers(0, 256, (12, 15, 3), np.uint8)
        size = round(width * 150 / 1350), round(height * 120 / 900)
        logo = cv2.resize(logo, size, interpolation=cv2.INTER_NEAREST)
        picture[10 : 10 + size[1], width - 10 - size[0] : width - 10] = logo


def make_photos(places: dict[str, Sequence[Path]], folder: Path, side: int, overlay: str) -> None:
    """The photos of all places in one folder, at a longer side, their names begun by the place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for place, paths in places.items():
        for path in paths:
            picture = cv2.imread(str(path))
            zoom = side / max(picture.shape[:2])
            picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            print_over(picture, overlay)
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
            cv2.imwrite(str(folder / f"{place} {path.name}".strip()), picture, quality)


def map_places(folder: Path, how: str, places: Sequence[str], threads: int | None) -> dict:
    """Map folder/photos into folder/how; the models' poses, and how many pairs were verified."""
    from covis.sfm import MapOptions, build_map
    from covis.sfm.database import MIN_INLIERS, Database
    from covis.sfm.map import read_model
    from covis.sfm.mapper import model_folders

    made = folder / how
    shutil.rmtree(made, ignore_errors=True)
    options = MapOptions(threads=threads, **HOW[how])
    summary = build_map(folder / "photos", made, options=options)
    with Database(made / "database.db") as database:
        names = {number: name for name, number in database.images.items()}
        pairs = [pair for pair, count in database.inliers().items() if count >= MIN_INLIERS]
    of = {name: next(p for p in places if name.startswith(f"{p} ")) for name in names.values()}
    across = sum(of[names[first]] != of[names[second]] for first, second in pairs)
    models = []
    for path in model_folders(made / "sparse"):
        images = [image for image in read_model(path).images.values() if image.has_pose]
        models.append(
            {
                image.name: [
                    *Pose(
                        image.cam_from_world().rotation.matrix(),
                        np.array(image.cam_from_world().translation),
                    ).quaternion,
                    *image.cam_from_world().translation.tolist(),
                ]
                for image in images
            }
        )
    return {
        "models": models,
        "across": across,
        "within": len(pairs) - across,
        "wall": sum(summary.seconds.values()),
    }


def row(made: dict[str, Any], truth: dict[str, dict[str, Pose]]) -> list[str]:
    """What a table says of a map. truth: true poses by place and photo."""
    true = {
        f"{place} {name}": pose for place, poses in truth.items() for name, pose in poses.items()
    }
    models = [
        {name: Pose.from_quaternion(v[:4], v[4:]) for name, v in poses.items()}
        for poses in made["models"]
    ]
    errors = [np.mean(list(aligned_position_errors(poses, true).values())) for poses in models]
    placed = len({name for poses in models for name in poses})
    return [
        " + ".join(str(len(poses)) for poses in models) or "none",
        str(made["across"]),
        str(made["within"]),
        f"{placed} of {len(true)}",
        ", ".join(f"{1000 * error:.1f}" for error in errors) + " mm",
        f"{made['wall']:.0f} s",
    ]
