"""Colours and heat of dense features."""

from __future__ import annotations

import numpy as np

from covis.dense import DenseFeatures, likeness, pca_colours, transfer


def features(seed, rows=6, columns=9):
    rng = np.random.default_rng(seed)
    cells = rng.standard_normal((rows, columns, 8)) * (8, 4, 2, 0.1, 0.1, 0.1, 0.1, 0.1)
    return DenseFeatures(cells.astype(np.float32), (8, 8), 8 * columns, 8 * rows, "-")


def test_colours_are_the_first_components_brightest_where_largest():
    given = features(0, 40, 50)
    (colours,) = pca_colours([given])
    assert colours.shape == (40, 50, 3)
    assert colours.dtype == np.uint8
    for component in range(3):
        values = given.descriptors[..., component].ravel()
        assert abs(np.corrcoef(values, colours[..., component].ravel())[0, 1]) > 0.95
        assert (colours[..., component].min(), colours[..., component].max()) == (0, 255)


def test_a_colour_means_the_same_in_every_map():
    one, other = features(0), features(1, 4, 5)
    other.descriptors[2, 3] = one.descriptors[4, 4]
    first, second = pca_colours([one, other])
    np.testing.assert_array_equal(first[4, 4], second[2, 3])


def test_flat_features_have_a_colour():
    flat = DenseFeatures(np.ones((3, 4, 8), np.float32), (8, 8), 32, 24, "-")
    assert np.ptp(pca_colours([flat])[0], axis=(0, 1)).max() == 0


def test_likeness_is_the_cosine_with_the_place():
    given = features(2)
    given.descriptors[:] /= np.linalg.norm(given.descriptors, axis=2, keepdims=True)
    found = likeness(given, np.array([8 * 4 + 4, 8 * 2 + 4], np.float32))
    np.testing.assert_allclose(found, given.descriptors @ given.descriptors[2, 4], atol=1e-6)
    assert found.argmax() == 2 * 9 + 4


def test_likeness_with_a_place_of_another_picture():
    source, target = features(3), features(4, 4, 5)
    for each in (source, target):
        each.descriptors[:] /= np.linalg.norm(each.descriptors, axis=2, keepdims=True)
    target.descriptors[1, 3] = source.descriptors[5, 2]
    point = np.array([8 * 2 + 4, 8 * 5 + 4], np.float32)
    found = likeness(target, point, source)
    assert found.shape == (4, 5)
    assert found.argmax() == 1 * 5 + 3
    # The heat is highest where `transfer` lands.
    landed, cosines = transfer(source, target, point[None])
    assert landed[0].tolist() == [8 * 3 + 4, 8 * 1 + 4]
    np.testing.assert_allclose(cosines[0], found.max(), atol=1e-6)
