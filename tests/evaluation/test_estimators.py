from pathlib import Path

import cv2
import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.benchmark import ESTIMATORS
from covis.evaluation.datasets.pairs import HomographyPair, PosePair
from covis.evaluation.estimators import estimate, weighted_dlt
from covis.evaluation.metrics.pose import corner_error, pose_error
from covis.geometry import Camera

SIZE = (640, 480)
HOMOGRAPHY = np.array([[0.9, 0.05, 10], [-0.03, 1.1, -8], [1e-4, 0, 1]])
PLANE = HomographyPair(Path("a"), Path("b"), SIZE, SIZE, HOMOGRAPHY)
CAMERA0, CAMERA1 = Camera(600, 600, 320, 240), Camera(500, 510, 300, 250)
ROTATION = cv2.Rodrigues(np.array([0.1, -0.2, 0.05]))[0]
TRANSLATION = np.array([1.0, 0.2, 0.1])
SPACE = PosePair(Path("a"), Path("b"), SIZE, SIZE, CAMERA0, CAMERA1, ROTATION, TRANSLATION)
ROBUST = [name for name in ESTIMATORS if name != "dlt"]


def project(matrix, points):
    mapped = points @ matrix.T
    return (mapped[:, :2] / mapped[:, 2:]).astype(np.float32)


def plane_points(count=100, wrong=30):
    rng = np.random.default_rng(0)
    points0 = rng.uniform(0, SIZE, (count, 2)).astype(np.float32)
    points1 = project(HOMOGRAPHY, np.c_[points0, np.ones(count)])
    points1[:wrong] = rng.uniform(0, SIZE, (wrong, 2))
    return points0, points1, np.linspace(0, 1, count, dtype=np.float32)


def space_points(wrong=40):
    rng = np.random.default_rng(1)
    points = np.c_[rng.uniform(-2, 2, (150, 2)), rng.uniform(4, 9, 150)]
    points0 = project(CAMERA0.matrix, points)
    points1 = project(CAMERA1.matrix, points @ ROTATION.T + TRANSLATION)
    points1[:wrong] = rng.uniform(0, SIZE, (wrong, 2))
    return points0, points1, np.linspace(0, 1, 150, dtype=np.float32)


@pytest.mark.parametrize("estimator", ROBUST)
def test_a_homography_among_wrong_matches(estimator):
    found = estimate(estimator, PLANE, *plane_points(), 2.0, 0)
    assert corner_error(found.matrix, HOMOGRAPHY, SIZE) < 0.1
    assert found.inliers[30:].all()
    assert found.inliers[:30].sum() < 3


@pytest.mark.parametrize("estimator", ROBUST)
def test_a_pose_among_wrong_matches(estimator):
    found = estimate(estimator, SPACE, *space_points(), 1.0, 0)
    error = pose_error(found.rotation_1from0, found.translation_1from0, ROTATION, TRANSLATION)
    assert error < 0.5
    assert found.inliers[40:].mean() > 0.9
    assert found.inliers[:40].sum() < 8


def test_magsac_takes_all_inliers_of_noisy_points():
    # With points divided by the focal length it took 9 in 10 of those that it should.
    rng = np.random.default_rng(3)
    *points, scores = space_points()
    noisy = [each + rng.normal(0, 0.5, each.shape).astype(np.float32) for each in points]
    found, all_inliers = (
        estimate(estimator, SPACE, *noisy, scores, 1.0, 0).inliers[40:].sum()
        for estimator in ("opencv-magsac", "poselib")
    )
    assert found >= 0.97 * all_inliers


@pytest.mark.parametrize("estimator", ["opencv", "opencv-magsac"])
def test_a_seed_draws_other_samples_the_same_seed_the_same(estimator):
    points0, points1, scores = plane_points()
    noisy = points1 + np.random.default_rng(2).normal(0, 1, points1.shape).astype(np.float32)
    matrices = [
        estimate(estimator, PLANE, points0, noisy, scores, 2.0, seed).matrix for seed in (0, 0, 1)
    ]
    assert (matrices[0] == matrices[1]).all()
    assert (matrices[0] != matrices[2]).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("count", [0, 3])
def test_too_few_matches_give_no_homography(estimator, count):
    points0, points1, scores = (each[-count:] if count else each[:0] for each in plane_points())
    found = estimate(estimator, PLANE, points0, points1, scores, None, 0)
    assert found.matrix is None
    assert found.inliers.shape == (count,)
    assert not found.inliers.any()


@pytest.mark.parametrize("estimator", ROBUST)
def test_too_few_matches_give_no_pose(estimator):
    points0, points1, scores = (each[-4:] for each in space_points())
    assert estimate(estimator, SPACE, points0, points1, scores, None, 0).matrix is None


def test_dlt_of_exact_points_is_exact():
    points0, points1, _ = plane_points(20, wrong=0)
    found = weighted_dlt(points0, points1, np.ones(20, np.float32))
    assert corner_error(found, HOMOGRAPHY, SIZE) < 0.01


def test_dlt_leaves_out_what_weighs_nothing():
    points0, points1, _ = plane_points(20, wrong=5)
    weights = np.r_[np.zeros(5), np.ones(15)].astype(np.float32)
    assert corner_error(weighted_dlt(points0, points1, weights), HOMOGRAPHY, SIZE) < 0.01
    even = weighted_dlt(points0, points1, np.ones(20, np.float32))
    assert corner_error(even, HOMOGRAPHY, SIZE) > 10


def test_dlt_weighs_squared_errors_by_hand():
    # Five points that do not move but for one, with weight w: found as if it stood there w times.
    points0 = np.array([[0, 0], [100, 0], [0, 100], [100, 100], [50, 50]], np.float32)
    points1 = points0.copy()
    points1[4, 0] += 3
    thrice = weighted_dlt(points0, points1, np.array([1, 1, 1, 1, 3], np.float32))
    order = [0, 1, 2, 3, 4, 4, 4]
    repeated = weighted_dlt(points0[order], points1[order], np.ones(7, np.float32))
    # Only the normalisation differs.
    assert corner_error(thrice, repeated, (100, 100)) < 0.05
    assert corner_error(thrice, np.eye(3), (100, 100)) > 0.05


def test_dlt_of_points_on_a_line_is_none():
    line = np.c_[np.arange(10), 2 * np.arange(10)].astype(np.float32)
    assert weighted_dlt(line, line, np.ones(10, np.float32)) is None
    same = np.ones((10, 2), np.float32)
    assert weighted_dlt(same, same, np.ones(10, np.float32)) is None


def test_exception_dlt_of_a_pose():
    with pytest.raises(ArgumentError, match="'dlt' is for homographies"):
        estimate("dlt", SPACE, *space_points(), None, 0)


def test_exception_unknown_estimator():
    with pytest.raises(ArgumentError, match="no estimator 'ransac'; there are: poselib"):
        estimate("ransac", PLANE, *plane_points(), None, 0)
