"""7-Scenes and Aachen as `covis eval` runs them, on a rendered scene."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks import localisation
from covis.evaluation.datasets import aachen
from covis.evaluation.result import run_benchmark
from covis.geometry.absolute_pose import CalibratedCamera, Pose

SETTINGS = Settings(matcher="nearest", max_keypoints=1000, threads=1)


def posed(rotation, centre):
    return np.vstack([np.column_stack([rotation, -rotation @ centre]), [0, 0, 0, 1]])


@pytest.fixture
def frames(scene, another, tmp_path):
    """The scene's photos with a `cameras.json`; the second is from elsewhere, to be located."""
    folder = tmp_path / "corner"
    shutil.copytree(scene.folder, folder)
    for name in ("1.png", "4.png"):
        (folder / name).unlink()
    path, rotation, centre = another
    shutil.copyfile(path, folder / "1.png")
    shutil.copyfile(scene.folder / "4.png", folder / "4.png")
    poses = {name: posed(scene.rotations[name], scene.centres[name]) for name in scene.rotations}
    poses["1.png"] = posed(rotation, centre)
    k = [[420, 0, 239.5], [0, 420, 179.5], [0, 0, 1]]
    cameras = {n: {"K": k, "T_cam_from_world": pose.tolist()} for n, pose in poses.items()}
    (folder / "cameras.json").write_text(json.dumps(cameras))
    return folder


def test_seven_scenes(colmap, frames):
    told = []
    result = run_benchmark("7scenes", frames, SETTINGS, lambda *done: told.append(done))
    (row,) = result.rows
    assert row.part == "corner"
    assert row.items == 2
    assert row.figures["median position cm"] < 2
    assert row.figures["median rotation °"] < 0.4
    assert row.figures["within 5 cm, 5°"] == row.figures["located"] == 100
    assert told[-1] == (2, 2)
    assert row.method == "xfeat-covis"


def test_several_scenes_have_a_mean(colmap, frames, monkeypatch):
    errors = iter([(0.02, 1.0), (0.04, 3.0)])

    def located(scene, settings, tick):
        position, rotation = next(errors)
        names = tuple(frame.name for frame in scene.test)
        two = np.ones(len(names))
        return localisation.LocalisationResult(names, position * two, rotation * two), "m"

    monkeypatch.setattr(localisation, "locate_scene", located)
    shutil.copytree(frames, frames.parent / "other")
    one, other, mean = localisation.run_seven_scenes(frames.parent, SETTINGS, lambda *_: None)
    assert [row.part for row in (one, other, mean)] == ["corner", "other", "all"]
    assert one.figures["median position cm"] == pytest.approx(2)
    assert mean.figures["median position cm"] == pytest.approx(3)
    assert mean.figures["median rotation °"] == pytest.approx(2)
    assert mean.items == 4


@pytest.fixture
def city(scene, another, tmp_path, colmap, monkeypatch):
    """The scene in Aachen's layout."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "aachen"
    images, model = root / aachen.IMAGES, root / aachen.MODEL
    shutil.copytree(scene.folder, images / "db")
    lens = CalibratedCamera("PINHOLE", 480, 360, (420.0, 420.0, 240.0, 180.0))
    frames = [
        localisation.Frame(
            f"db/{name}", images / "db" / name, images, lens,
            Pose(rotation, -rotation @ scene.centres[name]),
        )
        for name, rotation in scene.rotations.items()
    ]  # fmt: skip
    localisation.write_poses(model, frames)
    (root / "queries").mkdir()
    path, rotation, centre = another
    for condition, file in aachen.QUERIES.items():
        name = f"query/{condition}/{condition}.png"
        (images / name).parent.mkdir(parents=True)
        shutil.copyfile(path, images / name)
        (root / file).write_text(f"{name} PINHOLE 480 360 420 420 240 180\n")
    return root, Pose(rotation, -rotation @ centre)


@pytest.mark.slow
def test_aachen(city, tmp_path):
    root, truth = city
    rows = run_benchmark("aachen", root, SETTINGS, lambda *_: None).rows
    assert [row.part for row in rows] == ["day", "night"]
    assert all(row.figures == {"located": 100} for row in rows)
    submission = tmp_path / "xfeat-nearest-covis_aachen_v1.1.txt"
    assert str(submission.name) in rows[0].note
    found = aachen.read_poses(submission)
    assert set(found) == {"day.png", "night.png"}
    assert np.linalg.norm(found["day.png"].position - truth.position) < 0.02
    moved = Pose(truth.rotation, truth.translation + np.array([0, 0, 0.4]))
    aachen.write_submission(root / localisation.TRUTH, {"day.png": truth, "night.png": moved})
    day, night = localisation.run_aachen(root, SETTINGS, lambda *_: None)
    assert day.figures["within 0.25 m, 2°"] == 100
    assert night.figures["within 0.25 m, 2°"] == 0
    assert night.figures["within 0.5 m, 5°"] == 100


def test_exception_photos_are_missing(city):
    root, _ = city
    (root / aachen.IMAGES / "db" / "3.png").unlink()
    with pytest.raises(ArgumentError, match=r"db/3\.png"):
        localisation.run_aachen(root, SETTINGS, lambda *_: None)
