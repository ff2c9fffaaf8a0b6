"""Keypoint transfer: the most alike cell, whatever fits into memory at a time."""

from __future__ import annotations

import numpy as np
import pytest

from covis import load_image
from covis.dense import DenseFeatures, distinct, enlarge, pck, salient, transfer
from covis.dense.keypoint_transfer import within
from covis.errors import ArgumentError


def features(rows, columns, step, seed=0, width=None, height=None):
    values = np.random.default_rng(seed).standard_normal((rows, columns, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=2, keepdims=True)
    width, height = width or int(columns * step), height or int(rows * step)
    return DenseFeatures(values, (step, step), width, height, "-")


@pytest.mark.parametrize("chunk", [1 << 24, 1, 100])
def test_points_follow_their_cells(monkeypatch, chunk):
    """Cells shuffled from one image to another carry their places with them."""
    monkeypatch.setattr("covis.dense.keypoint_transfer.CHUNK", chunk)
    source = features(5, 6, 4.0)
    order = np.random.default_rng(1).permutation(30)
    shuffled = source.descriptors.reshape(-1, 8)[order].reshape(3, 10, 8)
    target = DenseFeatures(shuffled, (8.0, 2.0), 80, 6, "-")
    found, cosines = transfer(source, target, source.points.reshape(-1, 2))
    back = np.argsort(order)
    np.testing.assert_array_equal(found, target.points.reshape(-1, 2)[back])
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_points_land_in_the_picture():
    """The last column's cells end beyond it, their middles too."""
    cells = np.eye(4, dtype=np.float32).reshape(1, 4, 4)
    target = DenseFeatures(cells, (8.0, 8.0), 26, 3, "-")
    source = DenseFeatures(cells, (8.0, 8.0), 32, 8, "-")
    found, _ = transfer(source, target, source.points.reshape(-1, 2))
    assert found.tolist() == [[4, 3], [12, 3], [20, 3], [26, 3]]


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


def test_enlarging_takes_as_many_channels_as_vits_have():
    """OpenCV 5 takes 128."""
    values = np.random.default_rng(0).standard_normal((3, 4, 384)).astype(np.float32)
    large = enlarge(DenseFeatures(values, (14.0, 14.0), 56, 42, "-"), 1).descriptors
    assert large.shape == (6, 8, 384)
    inside = 9 * values[1, 1] + 3 * values[1, 0] + 3 * values[0, 1] + values[0, 0]
    np.testing.assert_allclose(large[2, 2], inside / np.linalg.norm(inside), atol=1e-5)


def test_what_cells_have_in_common_does_not_tell_them_apart():
    """Where it is large a place goes to the cells most like the mean, unless it is taken off."""
    plain = features(6, 6, 4.0)
    order = np.random.default_rng(1).permutation(36)
    shuffled = plain.descriptors.reshape(-1, 8)[order].reshape(6, 6, 8)
    weak = 0.05 * np.random.default_rng(2).standard_normal((2, 6, 6, 8)).astype(np.float32)
    heavy = np.zeros(8, np.float32)
    heavy[0] = 30.0
    maps = [
        DenseFeatures(
            (cells + noise + heavy)
            / np.linalg.norm(cells + noise + heavy, axis=2, keepdims=True),
            (4.0, 4.0), 24, 24, "-", common=True,
        )
        for cells, noise in zip((plain.descriptors, shuffled), weak, strict=True)
    ]  # fmt: skip
    found, cosines = transfer(*maps, plain.points.reshape(-1, 2))
    np.testing.assert_array_equal(found, plain.points.reshape(-1, 2)[np.argsort(order)])
    assert 0.5 < cosines.mean() < 0.9999
    assert distinct(plain) is plain
    assert np.abs(distinct(maps[0]).descriptors.mean(axis=(0, 1))).max() < 0.2


def test_salient_places_lie_on_corners_one_a_part():
    pixels = np.full((120, 200, 3), 90, np.uint8)
    corners = [(40, 30), (150, 80)]
    for x, y in corners:
        pixels[y : y + 15, x : x + 15] = 255
    found = salient(load_image(pixels))
    reach = [
        min(
            np.hypot(x + dx - u, y + dy - v) for x, y in corners for dx in (0, 15) for dy in (0, 15)
        )
        for u, v in found
    ]
    assert max(reach) < 8
    assert 2 <= len(found) <= 8
    np.testing.assert_array_equal(salient(load_image(pixels[:10, :10])), [[5, 5]])


def test_salient_places_of_a_texture_fill_it(texture):
    image = load_image(texture)
    found = salient(image)
    assert 20 <= len(found) <= 28
    assert (found > 0).all()
    assert (found < (image.width, image.height)).all()
    assert (np.ptp(found, axis=0) > (400, 250)).all()


def test_points_outside_are_refused():
    inside = within([[0, 0], [40, 30]], 40, 30, "a.png")
    assert inside.shape == (2, 2)
    for point in ([41, 5], [5, -1], [np.nan, 3]):
        with pytest.raises(ArgumentError, match=r"lies outside a\.png, which is 40x30"):
            within([[1, 1], point], 40, 30, "a.png")
