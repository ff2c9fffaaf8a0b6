"""DISK on images: where things lie, with networks that are plain to see."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import detectors
from helpers.contracts import assert_sound
from helpers.textures import noise
from hypothesis import given, settings

from covis import load_image
from covis.features.disk import Disk

quick = settings(max_examples=15, deadline=None)


class PlainScores:
    """Keypoints are where the image is bright; what lies beyond it is black."""

    def __call__(self, outputs, pixels):
        assert pixels.dtype == np.uint8
        height, width, channels = pixels.shape
        assert (height % 16, width % 16, channels) == (0, 0, 3)
        return [pixels.mean(axis=2, dtype=np.float32) / 255, np.zeros((height, width, 80))]


class PlainDescriptors:
    """What it was asked: the keypoint."""

    def __call__(self, outputs, features, keypoints):
        assert len(keypoints) <= 512
        return [np.pad(keypoints.astype(np.float32), ((0, 0), (0, 126)))]


@pytest.fixture(scope="module")
def plain():
    return detectors.plain_network(Disk, detect=PlainScores(), describe=PlainDescriptors())


@detectors.any_size(150, (1, 1), (1, 2000), (4, 4), (16, 16), (17, 33))
def test_keypoints_lie_inside_images_of_any_size(plain, size):
    image = load_image(noise(*size))
    (found,) = plain.sparse([image], 700, 0.0)
    assert_sound(found, image, 700)
    assert found.descriptors.shape == (len(found), 128)
    np.testing.assert_array_equal(found.descriptors[:, :2] + 0.5, found.keypoints)


@quick
@given(detectors.spots(150))
def test_convention_a_spot_is_found_where_it_was_painted(plain, spot):
    """The centre of the top-left pixel is (0.5, 0.5): within half a pixel of what it shows."""
    found, centre = detectors.find_spot(plain, spot, 1.5, 0.2)
    assert (np.abs(found.keypoints[0] - centre) <= 0.51).all()


def test_enlarged_images(plain):
    detectors.assert_doubled(plain)


@detectors.masks(150)
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    detectors.assert_masked(plain, size, seed, share)
