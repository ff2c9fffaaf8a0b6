import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.datasets.pairs import HomographyPair, PairSet, PosePair
from covis.evaluation.metrics.two_view import Setup, TwoViewResult, evaluate_setups, pool
from covis.geometry import Camera
from covis.types import Matches

SIZE = (640, 480)
HOMOGRAPHY = np.array([[0.9, 0.05, 10], [-0.03, 1.1, -8], [1e-4, 0, 1]])
CAMERA = Camera(600, 600, 320, 240)
GOOD, BAD = Path("good.png"), Path("bad.png")


def apply(matrix, points):
    mapped = np.c_[points, np.ones(len(points))] @ matrix.T
    return (mapped[:, :2] / mapped[:, 2:]).astype(np.float32)


def planes():
    pairs = tuple(HomographyPair(path, path, SIZE, SIZE, HOMOGRAPHY) for path in (GOOD, BAD))
    return PairSet("planes", "homography", pairs)


def evaluate(match, pair_set, seeds=(0, 1, 2)):
    setup = Setup("poselib-prosac")
    return evaluate_setups(match, pair_set, [setup], seeds=seeds)[setup]


def match_plane(pair):
    points0 = np.random.default_rng(0).uniform(0, SIZE, (50, 2)).astype(np.float32)
    points1 = apply(HOMOGRAPHY, points0)
    return (points0, points1) if pair.path0 == GOOD else (points0[:3], points1[:3])


def test_homographies_and_a_failure():
    result = evaluate(match_plane, planes(), seeds=(0, 1))
    assert (result.name, result.kind) == ("planes", "homography")
    assert result.matches.tolist() == [50, 3]
    assert result.inliers.tolist() == [[50, 50], [0, 0]]
    assert result.errors[0].max() < 0.01
    assert (result.errors[1] == math.inf).all()
    assert result.share == {3: 0.5, 5: 0.5, 7: 0.5}
    assert result.auc[5] == pytest.approx(0.5, abs=0.01)


def test_matches_are_taken_as_well_as_points():
    def match(pair):
        points0, points1 = match_plane(pair)
        return Matches(points0, points1, np.ones(len(points0), np.float32))

    result = evaluate(match, planes(), seeds=(0,))
    assert result.matches.tolist() == [50, 3]
    assert result.errors[0, 0] < 0.01


def test_poses():
    rng = np.random.default_rng(0)
    rotation, translation = cv2.Rodrigues(np.array([0.1, -0.2, 0]))[0], np.array([3.0, 0, 1])
    space = np.c_[rng.uniform(-4, 4, (100, 2)), rng.uniform(8, 20, 100)]
    moved = space @ rotation.T + translation
    points = [apply(CAMERA.matrix, x[:, :2] / x[:, 2:]) for x in (space, moved)]
    pair = PosePair(GOOD, GOOD, SIZE, SIZE, CAMERA, CAMERA, rotation, translation)
    result = evaluate(lambda pair: tuple(points), PairSet("s", "pose", (pair,)))
    assert result.errors.shape == (1, 3)
    assert result.errors.max() < 0.1
    assert list(result.auc) == [5, 10, 20]


def test_every_setup_sees_the_same_matches():
    asked = []

    def match(pair):
        asked.append(pair.path0)
        return match_plane(pair)

    setups = [Setup("poselib", 1.0), Setup("opencv", 1.0), Setup("poselib", 2.0)]
    ticks = []
    found = evaluate_setups(match, planes(), setups, seeds=(0,), report=lambda: ticks.append(1))
    assert list(found) == setups
    assert asked == [GOOD, BAD]
    assert len(ticks) == 2
    for result in found.values():
        assert result.matches.tolist() == [50, 3]
        assert result.errors[0, 0] < 0.1
        assert result.errors[1, 0] == math.inf


def test_other_thresholds():
    result = made_up("a", [[0.5], [2.0]])
    assert result.shares((1, 3)) == {1: 0.5, 3: 1.0}
    assert result.areas((1,)) == {1: pytest.approx(0.5 * 0.5 / 2 + 0.5 * 0.5)}


def made_up(name, errors, kind="pose"):
    counts = np.ones(np.shape(errors), np.int64)
    return TwoViewResult(name, kind, np.array(errors, np.float64), counts[:, 0], counts)


def test_share_and_area_are_means_over_seeds():
    result = made_up("a", [[1, 6], [math.inf, 6]])
    assert result.share == {5: 0.25, 10: 0.75, 20: 0.75}
    assert result.auc[5] == pytest.approx(((0.25 * 1 + 0.5 * 4) / 5 + 0) / 2)
    assert result.median_error == math.inf


def test_pooled_pairs_count_alike():
    both = pool([made_up("a", [[1.0]]), made_up("b", [[8.0], [9.0], [math.inf]])], "all")
    assert both.name == "all"
    assert both.errors.ravel().tolist() == [1, 8, 9, math.inf]
    assert both.share == {5: 0.25, 10: 0.75, 20: 0.75}


@pytest.mark.parametrize("results", [[], [made_up("a", [[1]]), made_up("b", [[1]], "homography")]])
def test_exception_pool_of_different_kinds(results):
    with pytest.raises(ArgumentError, match="Only results of one kind"):
        pool(results, "all")
