"""SIFT in the shape of `Features`."""

from __future__ import annotations

import numpy as np
import pytest

from covis import Extractor, load_image
from covis.features.sift import extract_sift


def spot(centre, size=(100, 120), sigma=4.0):
    across, down = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    squared = (across - centre[0]) ** 2 + (down - centre[1]) ** 2
    return (28 + 200 * np.exp(-squared / (2 * sigma**2))).astype(np.uint8)


@pytest.mark.parametrize("centre", [(50.0, 50.0), (40.3, 60.6), (71.5, 33.5)])
def test_convention_a_spot_is_found_where_it_was_painted(centre):
    found = extract_sift(load_image(spot(centre)), 1)
    np.testing.assert_allclose(found.keypoints[0], centre, atol=0.1)


def test_full_size_coordinates():
    found = extract_sift(load_image(spot((200.0, 240.0), (400, 480), 16.0), max_size=120), 1)
    np.testing.assert_allclose(found.keypoints[0], (200.0, 240.0), atol=0.5)
    assert (found.width, found.height) == (480, 400)
    whole = extract_sift(load_image(spot((200.0, 240.0), (400, 480), 16.0)), 1)
    np.testing.assert_allclose(found.scales, whole.scales, rtol=0.1)


def test_features(texture):
    found = Extractor("sift", max_keypoints=200)(texture)
    assert len(found) == 200
    assert found.descriptors.shape == (200, 128)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    for name in ("keypoints", "scores", "descriptors", "scales", "orientations"):
        assert getattr(found, name).dtype == np.float32
        assert len(getattr(found, name)) == 200
    assert found.model == "sift"
    assert found.pixel_sizes is None


def test_the_strongest_are_kept(texture):
    many = Extractor("sift", max_keypoints=400)(texture)
    few = Extractor("sift", max_keypoints=50)(texture)
    np.testing.assert_allclose(few.scores, many.scores[:50])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (31, 33), (2, 3)])
def test_nothing_to_find(size):
    found = Extractor("sift")(np.full(size, 90, np.uint8))
    assert found.keypoints.shape == (0, 2)
    assert found.descriptors.shape == (0, 128)
    for name in ("keypoints", "scores", "descriptors", "scales", "orientations"):
        assert getattr(found, name).dtype == np.float32


def test_mask(texture):
    mask = np.zeros(texture.shape[:2], bool)
    mask[:, 300:] = True
    found = Extractor("sift")(texture, mask=mask)
    assert len(found) > 50
    assert found.keypoints[:, 0].max() < 301
    assert len(Extractor("sift")(texture, mask=np.ones_like(mask))) == 0
