"""Photos of a corner of two walls and a floor, rendered with known cameras, and a map of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.corner import FOCAL, HEIGHT, WALLS, WIDTH, look, render, texture


@dataclass(frozen=True)
class Scene:
    """folder: of the photos. rotations, centres: of their cameras, by name; metres.

    The camera: x right, y down, z forward; its centre pixel (width / 2, height / 2).
    """

    folder: Path
    rotations: dict[str, np.ndarray]
    centres: dict[str, np.ndarray]

    def error(self, model) -> float:
        """Mean distance in metres of a model's cameras from the true ones, once aligned."""
        placed = [image for image in model.images.values() if image.has_pose]
        theirs = np.array([image.projection_center() for image in placed])
        ours = np.array([self.centres[image.name] for image in placed])
        return float(np.linalg.norm(aligned(theirs, ours) - ours, axis=1).mean())


def aligned(points, targets):
    """Points moved, turned and scaled to lie on the targets (Umeyama 1991)."""
    centred, goal = points - points.mean(axis=0), targets - targets.mean(axis=0)
    u, values, vt = np.linalg.svd(goal.T @ centred)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (values * signs).sum() / (centred**2).sum()
    return scale * centred @ (u * signs @ vt).T + targets.mean(axis=0)


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> Scene:
    """Seven photos along an arc in front of the corner."""
    folder = tmp_path_factory.mktemp("scene") / "photos"
    folder.mkdir()
    textures = [texture(seed) for seed in range(len(WALLS))]
    rotations, centres = {}, {}
    for number, angle in enumerate(np.radians(np.linspace(-24, 24, 7))):
        name = f"{number}.png"
        height = -0.3 + 0.12 * (number % 3)
        centre = np.array([4.0 * np.sin(angle), height, 2.0 - 4.0 * np.cos(angle)])
        rotations[name], centres[name] = look(centre, np.array([0, -0.3, 2.0])), centre
        cv2.imwrite(str(folder / name), render(rotations[name], centre, textures))
    return Scene(folder, rotations, centres)


@pytest.fixture(scope="session")
def colmap():
    return pytest.importorskip("pycolmap", reason="maps need pycolmap: covis[map]")


PARAMS = (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)


@pytest.fixture(scope="session")
def known() -> dict:
    """The options that tell the true camera."""
    return {"camera_model": "PINHOLE", "camera_params": PARAMS}


@pytest.fixture(scope="session")
def mapped(colmap, scene, known, tmp_path_factory):
    """The folder of a map of the scene, and its summary. Not to be changed."""
    from covis.sfm import MapOptions, build_map

    folder = tmp_path_factory.mktemp("maps") / "model"
    options = MapOptions(max_keypoints=1000, **known)
    return folder, build_map(scene.folder, folder, options=options)


@pytest.fixture(scope="session")
def another(tmp_path_factory):
    """A photo from between those of the scene: its path, rotation and centre."""
    centre = np.array([0.4, -0.2, -1.8])
    rotation = look(centre, np.array([0.1, -0.3, 2.0]))
    textures = [texture(seed) for seed in range(len(WALLS))]
    path = tmp_path_factory.mktemp("another") / "another.png"
    cv2.imwrite(str(path), render(rotation, centre, textures))
    return path, rotation, centre


@pytest.fixture(scope="session")
def panorama(tmp_path_factory):
    """Four photos from one spot."""
    folder = tmp_path_factory.mktemp("panorama")
    textures = [texture(seed) for seed in range(len(WALLS))]
    centre = np.array([0, -0.3, -2.0])
    for number, side in enumerate((-0.9, -0.3, 0.3, 0.9)):
        rotation = look(centre, np.array([side, -0.3 + 0.1 * number, 2.0]))
        cv2.imwrite(str(folder / f"{number}.png"), render(rotation, centre, textures))
    return folder
