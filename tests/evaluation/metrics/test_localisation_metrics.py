"""Localisation errors, alignment and chains, against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.metrics.localisation import (
    aligned_position_errors,
    chained_poses,
    localisation_errors,
)
from covis.geometry.pose import Pose
from covis.geometry.similarity import umeyama


def looking(degrees, position):
    """A camera turned about its y axis, at a place."""
    a = math.radians(degrees)
    rotation = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    return Pose(rotation, -rotation @ np.array(position, np.float64))


TRUTH = {name: looking(0, (0, 0, 0)) for name in "abcd"}


def test_errors_by_hand():
    found = {
        "a": looking(1, (0, 0, 0.1)),
        "b": looking(-4, (0.3, 0.4, 0)),
        "c": looking(180, (3, 0, 4)),
        "elsewhere": looking(0, (0, 0, 0)),
    }
    result = localisation_errors(found, TRUTH)
    assert result.names == ("a", "b", "c", "d")
    np.testing.assert_allclose(result.position, [0.1, 0.5, 5, math.inf])
    np.testing.assert_allclose(result.rotation, [1, 4, 180, math.inf])
    assert result.located == 3
    assert result.median_position == pytest.approx((0.5 + 5) / 2)
    assert result.median_rotation == pytest.approx((4 + 180) / 2)
    assert result.share(0.1000001, 1.0000001) == 0.25
    assert result.share(0.25, 0.5) == 0
    assert result.share(0.5000001, 5) == 0.5
    assert result.share(10, 5) == 0.5
    assert result.share(10, 180.1) == 0.75


def test_photos_without_a_pose_weigh_on_the_median():
    half = localisation_errors({"a": TRUTH["a"], "b": TRUTH["b"], "c": None}, TRUTH)
    assert half.median_position == math.inf
    three = {name: TRUTH[name] for name in "abc"}
    assert localisation_errors(three, TRUTH).median_position == 0
    with pytest.raises(ArgumentError):
        localisation_errors({}, {})


def test_align_undoes_a_similarity():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 3))
    # By hand: a quarter turn about z, (x, y, z) -> (-y, x, z), twice as large, moved.
    target = 2 * np.column_stack([-points[:, 1], points[:, 0], points[:, 2]]) + [1, 2, 3]
    found = umeyama(points, target)
    assert found.scale == pytest.approx(2)
    np.testing.assert_allclose(found.rotation, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(found.shift, [1, 2, 3])
    np.testing.assert_allclose(found.points(points), target)


def test_align_never_mirrors():
    points = np.random.default_rng(1).normal(size=(6, 3))
    found = umeyama(points, points * [1, 1, -1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_align_agrees_with_planes():
    """Cameras often stand in a plane: there the mirror image fits the points as well."""
    points = np.random.default_rng(2).normal(size=(5, 3)) * [1, 1, 0]
    found = umeyama(points, 3 * points)
    np.testing.assert_allclose(found.rotation, np.eye(3), atol=1e-12)
    assert found.scale == pytest.approx(3)


def test_a_similarity_moves_cameras_with_what_they_see():
    found = umeyama(np.eye(3), np.array([[0, 2.0, 0], [-2, 0, 0], [0, 0, 2]]) + 5)
    pose = looking(30, (1, 2, 3))
    moved = found.pose(pose)
    np.testing.assert_allclose(moved.position, found.points(pose.position[None])[0])
    place = np.array([[0.3, -0.2, 4.0]])
    before = pose.rotation @ place[0] + pose.translation
    after = moved.rotation @ found.points(place)[0] + moved.translation
    np.testing.assert_allclose(after, found.scale * before)


def test_aligned_errors_by_hand():
    """A square of side 2; one corner is off by d along its normal."""
    corners = [(1, 1, 0), (1, -1, 0), (-1, -1, 0), (-1, 1, 0)]
    truth = {str(i): looking(0, corner) for i, corner in enumerate(corners)}
    same = {name: looking(10, 5 * pose.position + 1) for name, pose in truth.items()}
    assert max(aligned_position_errors(same, truth).values()) < 1e-12
    # Out of plane by +d, -d, +d, -d no similarity helps with, to first order: each is off by d.
    d = 1e-4
    bent = {str(i): looking(0, (x, y, d * (-1) ** i)) for i, (x, y, _) in enumerate(corners)}
    errors = aligned_position_errors({**bent, "more": bent["0"]}, truth)
    assert sorted(errors) == ["0", "1", "2", "3"]
    assert list(errors.values()) == pytest.approx([d] * 4, rel=1e-3)


@pytest.mark.parametrize("points", [np.zeros((2, 3)), np.zeros((5, 3)), np.eye(3)[:2]])
def test_exception_align_too_little(points):
    with pytest.raises(ArgumentError):
        umeyama(points, points)


def test_exception_align_on_a_line():
    line = np.arange(4.0)[:, None] * np.ones(3)
    with pytest.raises(ArgumentError):
        umeyama(line, line)
    with pytest.raises(ArgumentError):
        umeyama(np.eye(3), np.eye(4)[:, :3])


def test_chains_go_forth_and_back():
    poses = {name: looking(20 * i, (i, i * i, 1)) for i, name in enumerate("abcd")}

    def step(name0, name1):
        rotation = poses[name1].rotation @ poses[name0].rotation.T
        return (
            name0, name1, rotation, poses[name1].translation - rotation @ poses[name0].translation
        )  # fmt: skip

    found = chained_poses([step("b", "c"), step("d", "a"), step("a", "b")])
    assert set(found) == set("abcd")
    np.testing.assert_allclose(found["b"].rotation, np.eye(3))
    for name in "acd":
        rotation = poses[name].rotation @ poses["b"].rotation.T
        np.testing.assert_allclose(found[name].rotation, rotation, atol=1e-12)
        expected = poses["b"].rotation @ (poses[name].position - poses["b"].position)
        np.testing.assert_allclose(found[name].position, expected, atol=1e-12)


def test_exception_broken_chain():
    step = (np.eye(3), np.zeros(3))
    with pytest.raises(ArgumentError, match="from a to c"):
        chained_poses([("a", "b", *step), ("c", "d", *step)])
    with pytest.raises(ArgumentError):
        chained_poses([])
