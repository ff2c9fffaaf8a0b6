"""Keypoint transfer: the most alike cell, whatever fits into memory at a time."""

from __future__ import annotations

import numpy as np
import pytest

from covis.dense import DenseFeatures, enlarge, pck, transfer


def features(rows, columns, step, seed=0, width=None, height=None):
    values = np.random.default_rng(seed).standard_normal((rows, columns, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=2, keepdims=True)
    width, height = width or int(columns * step), height or int(rows * step)
    return DenseFeatures(values, (step, step), width, height, "-")


@pytest.mark.parametrize("chunk", [1 << 24, 1, 100])
def test_points_follow_their_cells(monkeypatch, chunk):
    """Cells shuffled from one image to another carry their places with them."""
    monkeypatch.setattr("covis.dense.keypoints.CHUNK", chunk)
    source = features(5, 6, 4.0)
    order = np.random.default_rng(1).permutation(30)
    shuffled = source.descriptors.reshape(-1, 8)[order].reshape(3, 10, 8)
    target = DenseFeatures(shuffled, (8.0, 2.0), 80, 6, "-")
    found, cosines = transfer(source, target, source.points.reshape(-1, 2))
    back = np.argsort(order)
    np.testing.assert_array_equal(found, target.points.reshape(-1, 2)[back])
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_no_points():
    source = features(2, 2, 4.0)
    found, cosines = transfer(source, source, np.empty((0, 2), np.float32))
    assert found.shape == (0, 2)
    assert cosines.shape == (0,)


def test_pck_by_hand():
    truth = np.zeros((4, 2))
    found = np.array([[0, 0], [3, 4], [0, 5.1], [30, 40]])
    assert pck(found, truth, 50, 0.1) == 0.5
    assert pck(found, truth, 50, 1.0) == 1.0


def test_enlarging_keeps_places_and_lengths():
    small = features(3, 4, 8.0, width=29, height=20)
    large = enlarge(small, 2)
    assert large.descriptors.shape == (10, 15, 8)
    assert large.step == (2.0, 2.0)
    np.testing.assert_allclose(np.linalg.norm(large.descriptors, axis=2), 1, atol=1e-6)
    np.testing.assert_allclose(large.points[0, 0], (1, 1))
    np.testing.assert_allclose(
        large.descriptors[2, 3], small.at(large.points[2, 3][None])[0], atol=1e-5
    )
    assert enlarge(small, 0).step == small.step
