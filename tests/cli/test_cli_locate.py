"""`covis locate` without a map; with one, see tests/sfm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from covis.geometry.absolute_pose import AbsolutePose
from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose import Pose
from covis.sfm.localisation import Localisation, Neighbour

Run = Callable[..., Result]


def located(pose: Pose | None, note: str = "") -> Localisation:
    lens = CalibratedCamera("SIMPLE_PINHOLE", 640, 480, (525.04, 320.0, 240.0))
    estimate = AbsolutePose(
        pose,
        lens,
        np.array([True, True, False]),
        confidence=0.987,
        covariance=None if pose is None else np.diag([1e-6, 4e-6, 1e-6, 1e-4, 1e-4, 9e-4]),
        focal_deviation=0.02,
        note=note,
    )
    return Localisation(
        "q.jpg",
        estimate,
        (Neighbour("a.jpg", 9, 5, 1), Neighbour("b.jpg", 9, 5, 2), Neighbour("c.jpg", 9, 0, 0)),
        np.zeros((3, 2), np.float32),
        np.arange(3),
        np.zeros((3, 3)),
        "estimated",
        {"match": 0.25, "pose": 0.25},
        "xfeat",
        "Apache-2.0",
    )


def test_what_is_said_of_a_place() -> None:
    lines = located(Pose(np.diag([-1.0, 1, -1]), np.array([1.0, -2, 3]))).lines()
    assert lines == [
        "Camera at (1, 2, 3), give or take 0.03 of the map's units.",
        "cam_from_world: rotation (w x y z) 0.000000 0.000000 1.000000 0.000000, give or take "
        "0.11 degrees; translation 1 -2 3.",
        "2 of 3 points agree, confidence 0.987.",
        "Focal length 525.0 px, estimated, give or take 2 %.",
        "Sees what these photos of the map see: b.jpg (2), a.jpg (1).",
        "Time: 0.50 s (match 250 ms, pose 250 ms).",
        "Model: xfeat; licence: Apache-2.0.",
    ]


def test_what_is_said_where_nothing_can_be() -> None:
    lines = located(None, "cannot say: 2 of 3 points agree, 12 needed").lines()
    assert lines[0] == "Cannot say: 2 of 3 points agree, 12 needed."
    assert len(lines) == 3


@pytest.mark.parametrize(("placed", "code"), [(True, 0), (False, 1)])
def test_exit_code_tells_whether_it_was_placed(
    covis: Run, monkeypatch: pytest.MonkeyPatch, placed: bool, code: int
) -> None:
    pose = Pose(np.eye(3), np.zeros(3)) if placed else None
    monkeypatch.setattr(
        "covis.sfm.Locator", lambda *_, **__: lambda *_, **__: located(pose, "cannot say")
    )
    assert covis("locate", "q.jpg", "--in", "m").exit_code == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("q.jpg", "--in", "nowhere"), "no map there"),
        (("q.jpg", "--in", ".", "--focal", "5", "--camera-of", "a.jpg"), "one of --camera-params"),
        (("a.jpg", "b.jpg", "--in", ".", "-o", "x.png"), "draws one query"),
    ],
)
def test_mistakes_are_told(covis: Run, arguments: tuple[str, ...], words: str) -> None:
    run = covis("locate", *arguments)
    assert run.exit_code == 2
    assert words in run.output


def test_exit_code_tells_of_no_traceback(covis: Run, tmp_path: Path) -> None:
    (tmp_path / "covis.json").write_text("{}")
    run = covis("locate", "q.jpg", "--in", tmp_path)
    assert run.exit_code == 2
    assert run.output.startswith("covis: ")
    assert run.output.count("\n") == 1
