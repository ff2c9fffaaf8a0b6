"""TokenCut on maps whose object is known, and against the dense problem."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import scipy.linalg

from covis import load_image
from covis.dense import DenseFeatures, discover, discover_objects
from covis.dense import object_discovery as module
from covis.errors import ArgumentError


def features(cells, step=8.0, width=None, height=None):
    cells = np.asarray(cells, np.float32)
    cells = cells / np.linalg.norm(cells, axis=2, keepdims=True)
    size = width or int(cells.shape[1] * step), height or int(cells.shape[0] * step)
    return DenseFeatures(cells, (step, step), *size, "-")


def two_tones(rows=12, columns=15, noise=0.1):
    """A patch of one kind of descriptor on a ground of another, both with noise."""
    rng = np.random.default_rng(0)
    cells = noise * rng.standard_normal((rows, columns, 8))
    cells[..., 0] += 1
    cells[3:8, 4:10, 0] -= 1
    cells[3:8, 4:10, 1] += 1
    return cells


@pytest.mark.parametrize("chunk", [1 << 22, 100])
def test_the_patch_is_found(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = discover(features(two_tones()), 0.5)
    wanted = np.zeros((12, 15), np.bool_)
    wanted[3:8, 4:10] = True
    np.testing.assert_array_equal(found.cells, wanted)
    assert found.box == (32, 24, 80, 64)
    assert found.eigenvector[5, 5] > 0 > found.eigenvector[0, 0]


def test_only_the_connected_part():
    """Two patches alike: the larger absolute value wins, and the other is left out."""
    cells = two_tones()
    cells[1:3, 12:14] = cells[4:6, 6:8]
    found = discover(features(cells), 0.5)
    assert found.box in [(32, 24, 80, 64), (96, 8, 112, 24)]


def test_the_box_ends_with_the_picture():
    cells = np.zeros((4, 5, 2))
    cells[..., 0] = 1
    cells[2:, 3:] = (0, 1)
    assert discover(features(cells, width=37, height=30), 0.5).box == (24, 16, 37, 30)


def test_the_eigenvector_is_that_of_the_dense_problem():
    cells = np.random.default_rng(1).standard_normal((9, 11, 5))
    given = features(cells)
    values = given.descriptors.reshape(-1, 5)
    w = np.where(values @ values.T > 0.3, 1.0, 1e-5)
    d = np.diag(w.sum(axis=1))
    _, vectors = scipy.linalg.eigh(d - w, d)
    found, wanted = discover(given, 0.3).eigenvector.ravel(), vectors[:, 1]
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert abs(cosine) > 0.999


def test_of_several_taus_the_object_that_stands_out_most():
    """Its cells have a cosine of 0.45 with the ground: 0.3 and 0.4 take all for one."""
    cells = np.zeros((8, 10, 4))
    cells[..., 0] = 1
    cells[2:5, 3:7] = (0.45, 0.8, 0, 0)
    cells += np.random.default_rng(0).normal(0, 0.02, cells.shape)
    given = replace(features(cells), common=True)
    assert discover(given).box == (24, 16, 56, 40)
    assert discover(given, 0.4).cells.all()


def test_one_cell_is_the_whole_picture():
    assert discover(features(np.ones((1, 1, 3)), width=6, height=5)).box == (0, 0, 6, 5)


def test_exception_for_too_many_cells():
    with pytest.raises(ArgumentError, match=r"1280x1608 gives 32,160 descriptors, more than the"):
        discover(features(np.ones((201, 160, 1))))


def scene(*boxes, size=(160, 240), seed=0):
    """Features every 8 pixels of grass with things of other colours on it, and the picture."""
    rng = np.random.default_rng(seed)
    height, width = size
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = (60, 120, 50)
    cells = np.zeros((height // 8, width // 8, 8), np.float32)
    cells[..., 0] = 1
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        pixels[top:bottom, left:right] = [(190, 60, 50), (50, 60, 190), (200, 190, 60)][number - 1]
        part = cells[top // 8 : -(-bottom // 8), left // 8 : -(-right // 8)]
        part[:] = 0
        part[..., number] = 1
    cells += rng.normal(0, 0.05, cells.shape)
    pixels += rng.normal(0, 6, pixels.shape)
    image = load_image(np.clip(pixels, 0, 255).astype(np.uint8))
    return image, features(cells, width=width, height=height)


def test_several_objects_with_masks_to_their_edges():
    """Edges that cut through cells: the mask follows them, the box is around the cells."""
    boxes = [(36, 44, 100, 124), (140, 20, 204, 68)]
    image, given = scene(*boxes)
    found = discover_objects(image, given, 0.4)
    assert sorted(each.box for each in found) == [(32, 40, 104, 128), (136, 16, 208, 72)]
    for each in found:
        left, top, right, bottom = boxes[0 if each.box[0] == 32 else 1]
        truth = np.zeros((160, 240), np.bool_)
        truth[top:bottom, left:right] = True
        assert each.mask.shape == truth.shape
        assert (each.mask & truth).sum() / (each.mask | truth).sum() > 0.95
        assert each.likeness < 0.2
    assert len(discover_objects(image, given, 0.4, most=1)) == 1
    shown = load_image(cv2.resize(image.pixels, (480, 320)))
    twice = DenseFeatures(given.descriptors, (16, 16), 480, 320, "-")
    assert discover_objects(shown, twice, 0.4)[0].mask.shape == (320, 480)


def test_a_picture_that_shows_nothing_has_no_object():
    image, given = scene()
    assert discover_objects(image, given, 0.4) == []
    plain = load_image(np.full((160, 240, 3), 90, np.uint8))
    assert discover_objects(plain, scene((36, 44, 100, 124))[1], 0.4) == []


def test_ground_is_no_second_object():
    """Nor what covers less than a hundredth of the picture."""
    image, given = scene((80, 40, 144, 96), (0, 120, 240, 160), (200, 8, 208, 24))
    found = discover_objects(image, given, 0.4)
    assert [each.box for each in found if each.box[1] > 100] in ([], [found[0].box])
    assert all(each.cells.mean() >= 0.01 for each in found)


def test_tau_is_that_of_the_features():
    image, given = scene((80, 40, 144, 96))
    common = replace(given, common=True)
    assert module._tau(given, None) == 0.2
    assert module._tau(common, None) == 0.4
    assert module._tau(common, 0.3) == 0.3
    (found,) = discover_objects(image, common)
    assert found.box == (80, 40, 144, 96)
