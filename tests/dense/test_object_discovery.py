"""TokenCut on maps whose object is known, and against the dense problem."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from covis.dense import DenseFeatures, discover
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


def test_one_cell_is_the_whole_picture():
    assert discover(features(np.ones((1, 1, 3)), width=6, height=5)).box == (0, 0, 6, 5)


def test_exception_for_too_many_cells():
    with pytest.raises(ArgumentError, match=r"1280x1608 gives 32,160 descriptors, more than the"):
        discover(features(np.ones((201, 160, 1))))
