"""Aachen Day-Night's layout, submission file and scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.datasets.aachen import (
    MODEL,
    read_poses,
    read_queries,
    scores,
    write_submission,
)
from covis.evaluation.metrics.localisation import localisation_errors
from covis.geometry.absolute_pose import CalibratedCamera, Pose

DAY = "query/day/nexus4/IMG_1.jpg SIMPLE_RADIAL 1600 1200 1469.2 800 600 -0.0353\n"
NIGHT = "# a comment\nquery/night/nexus5x/IMG_2.jpg SIMPLE_RADIAL 1600 1200 1223.4 800 600 0.01\n\n"


@pytest.fixture
def layout(tmp_path):
    for folder in ("images/images_upright", MODEL, "queries"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "queries/day_time_queries_with_intrinsics.txt").write_text(DAY)
    (tmp_path / "queries/night_time_queries_with_intrinsics.txt").write_text(NIGHT)
    return tmp_path


def test_queries(layout):
    queries = read_queries(layout)
    assert queries["day"] == {
        "query/day/nexus4/IMG_1.jpg": CalibratedCamera(
            "SIMPLE_RADIAL", 1600, 1200, (1469.2, 800, 600, -0.0353)
        )
    }
    assert list(queries["night"]) == ["query/night/nexus5x/IMG_2.jpg"]


@pytest.mark.parametrize("line", ["name only", "a.jpg FISH 1 1 1", "a.jpg PINHOLE 10 x 1 1 1 1"])
def test_exception_a_line_is_no_query(layout, line):
    (layout / "queries/day_time_queries_with_intrinsics.txt").write_text(DAY + line)
    with pytest.raises(ArgumentError, match="line 2"):
        read_queries(layout)


def test_exception_missing_data_says_where_from(layout):
    (layout / MODEL).rmdir()
    with pytest.raises(ArgumentError, match=r"visuallocalization\.net") as caught:
        read_queries(layout)
    assert "\n" not in str(caught.value)


def test_submission_file(tmp_path):
    # Half a turn about y: quaternion (0, 0, 1, 0).
    poses = {
        "query/night/b.jpg": Pose(np.diag([-1.0, 1, -1]), np.array([1.5, -2, 3])),
        "query/day/a.jpg": Pose(np.eye(3), np.zeros(3)),
        "query/day/c.jpg": None,
    }
    path = tmp_path / "Aachen_eval.txt"
    assert write_submission(path, poses) == 2
    assert path.read_text() == "a.jpg 1 0 0 0 0 0 0\nb.jpg 0 0 1 0 1.5 -2 3\n"
    back = read_poses(path)
    np.testing.assert_allclose(back["b.jpg"].rotation, np.diag([-1.0, 1, -1]))
    np.testing.assert_allclose(back["b.jpg"].translation, [1.5, -2, 3])


def test_exception_two_queries_of_one_name(tmp_path):
    pose = Pose(np.eye(3), np.zeros(3))
    with pytest.raises(ArgumentError, match=r"'a\.jpg'"):
        write_submission(tmp_path / "x.txt", {"day/a.jpg": pose, "night/a.jpg": pose})


@pytest.mark.parametrize("line", ["a.jpg 1 0 0 0", "a.jpg 0 0 0 0 1 2 3", "a.jpg x 0 0 0 0 0 0"])
def test_exception_a_line_is_no_pose(tmp_path, line):
    (tmp_path / "poses.txt").write_text(line)
    with pytest.raises(ArgumentError, match="line 1"):
        read_poses(tmp_path / "poses.txt")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_poses(tmp_path / "other.txt")


def test_scores_by_hand():
    def turned(degrees, distance):
        a = math.radians(degrees)
        rotation = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0],
                             [0, 0, 1]])  # fmt: skip
        return Pose(rotation, -rotation @ np.array([distance, 0, 0]))

    truth = {name: turned(0, 0) for name in "abcde"}
    found = {
        "a": turned(1, 0.2),  # fine
        "b": turned(3, 0.1),  # its rotation is for the second
        "c": turned(1, 0.4),  # its position is
        "d": turned(9, 4.9),  # coarse
    }
    assert scores(localisation_errors(found, truth)) == (0.2, 0.6, 0.8)
