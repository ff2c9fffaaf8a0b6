"""ALIKED on images: where things lie, with networks that are plain to see."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import detectors
from helpers.contracts import assert_sound
from helpers.textures import noise
from hypothesis import given, settings

from covis import Extractor, load_image
from covis.errors import ArgumentError
from covis.features.aliked import BLOCK, Aliked, keypoints

quick = settings(max_examples=15, deadline=None)


class PlainMaps:
    """Keypoints are where the image is bright."""

    def __call__(self, outputs, pixels):
        assert pixels.dtype == np.uint8
        height, width, channels = pixels.shape
        assert (height % 32, width % 32, channels) == (0, 0, 3)
        maps = [np.zeros((height // s, width // s, 2), np.float32) for s in (1, 2, 8, 32)]
        return [pixels.mean(axis=2, dtype=np.float32) / 255, *maps]


class PlainDescriptors:
    """What it was asked: the keypoint, the box, the number of keypoints."""

    def __call__(self, outputs, keypoints, box, **maps):
        assert list(maps) == ["map0", "map1", "map2", "map3"]
        rows = [[*xy, *box, len(keypoints), 0] for xy in keypoints]
        return [np.array(rows, np.float32)]


@pytest.fixture(scope="module")
def plain():
    return detectors.plain_network(Aliked, detect=PlainMaps(), describe=PlainDescriptors())


@detectors.any_size(150, (1, 1), (1, 2000), (4, 4), (5, 5), (32, 64))
def test_keypoints_lie_inside_images_of_any_size(plain, size):
    image = load_image(noise(*size))
    (found,) = plain.sparse([image], 300, 0.0)
    assert_sound(found, image, 300)
    assert found.descriptors.shape[1] == 8
    if min(size) > 20:
        assert len(found) > 0
    if min(size) < 5:
        assert len(found) == 0


@quick
@given(detectors.spots(150))
def test_convention_a_spot_is_found_where_it_was_painted(plain, spot):
    """The centre of the top-left pixel is (0.5, 0.5), whatever the padding; finer than pixels."""
    found, centre = detectors.find_spot(plain, spot, 1.5, 0.2)
    np.testing.assert_allclose(found.keypoints[0], centre, atol=0.1)


def test_convention_of_what_describes(plain):
    """Keypoints in pixels of the image, the top-left centre at 0, and where the padding ends."""
    pixels = np.zeros((50, 70, 3), np.uint8)
    pixels[20, 30] = 255
    (found,) = plain.sparse([load_image(pixels)], 10, 0.2)
    np.testing.assert_allclose(found.keypoints, [[30.5, 20.5]])
    # 70 x 50 becomes 96 x 64: 13 of 26 columns and 7 of 14 rows go before the image.
    np.testing.assert_allclose(found.descriptors[0], [30, 20, 13, 7, 70, 50, 1, 0])


def test_enlarged_images(plain):
    """Shrunk to 60 pixels on loading: keypoints refer to the full 120."""
    detectors.assert_doubled(plain)


@detectors.masks(150)
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    detectors.assert_masked(plain, size, seed, share)


def test_many_keypoints_are_described_in_blocks(plain):
    (found,) = plain.sparse([load_image(noise(200, 300))], BLOCK + 70, 0.0)
    assert found.descriptors[:, 6].tolist() == [BLOCK] * BLOCK + [70] * 70


def test_fewer_are_the_first_of_more(plain):
    image = load_image(noise(100, 120))
    (many,), (few,) = (plain.sparse([image], count, 0.0) for count in (200, 50))
    np.testing.assert_array_equal(few.keypoints, many.keypoints[:50])
    np.testing.assert_array_equal(few.scores, many.scores[:50])


def test_a_maximum_moves_to_the_weighted_mean_of_its_neighbourhood():
    heat = np.zeros((9, 9), np.float32)
    heat[4, 4], heat[4, 5] = 0.9, 0.8
    weights = np.full((5, 5), np.exp(-9.0))
    weights[2, 2], weights[2, 3] = 1, np.exp(-1.0)
    shift = (weights.sum(axis=0) @ np.arange(-2, 3)) / weights.sum()
    xy, scores = keypoints(heat, 0.2)
    np.testing.assert_allclose(xy, [[4 + shift, 4]], atol=1e-5)
    np.testing.assert_allclose(scores, [0.9 - 0.1 * shift], atol=1e-5)
    assert len(keypoints(heat, 0.95)[0]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("home", "aliked_bundle")
def test_exception_semi_dense():
    with pytest.raises(ArgumentError, match=r"'aliked' \(aliked\) has no semi-dense features"):
        Extractor("aliked", semi_dense=True)
