"""Points of several pairs gathered into keypoints."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from covis.sfm.tracks import cluster, one_to_one


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.floats(0.5, 5))
def test_clusters_are_tight_and_apart(seed, count, radius):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-5, 30, (count, 2)).astype(np.float32)
    scores = rng.integers(0, 5, count).astype(np.float32)
    keypoints, owner = cluster(points, scores, radius)
    assert owner.shape == (count,)
    assert set(owner.tolist()) == set(range(len(keypoints)))
    if count:
        assert np.linalg.norm(points - keypoints[owner], axis=1).max() < radius
        apart = np.linalg.norm(keypoints[:, None] - keypoints, axis=2)
        np.fill_diagonal(apart, np.inf)
        assert apart.min() >= radius * (1 - 1e-6)
        assert owner[np.argmax(scores)] == 0


def test_points_seen_again_and_again_are_one_keypoint():
    rng = np.random.default_rng(0)
    true = np.array([[10.0, 10], [40, 12], [25, 30], [26, 60]])
    seen = np.repeat(true, 20, axis=0) + rng.normal(0, 0.15, (80, 2))
    keypoints, owner = cluster(seen.astype(np.float32), rng.random(80).astype(np.float32), 1.5)
    assert len(keypoints) == 4
    for block in owner.reshape(4, 20):
        assert len(set(block.tolist())) == 1


def test_the_order_of_points_does_not_matter():
    rng = np.random.default_rng(1)
    points, scores = rng.uniform(0, 20, (200, 2)).astype(np.float32), rng.permutation(200)
    keypoints, owner = cluster(points, scores.astype(np.float32), 2.0)
    order = rng.permutation(200)
    again, owner_again = cluster(points[order], scores[order].astype(np.float32), 2.0)
    np.testing.assert_array_equal(again, keypoints)
    np.testing.assert_array_equal(owner_again, owner[order])


def test_many_to_one_keeps_the_best():
    indices = np.array([[0, 5], [1, 5], [0, 6], [2, 7], [2, 7], [3, 6]])
    scores = np.array([0.5, 0.9, 0.8, 0.3, 0.4, 0.1], np.float32)
    assert one_to_one(indices, scores).tolist() == [[1, 5], [0, 6], [2, 7]]
