"""ALIKED on images: where things lie, with networks that are plain to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.contracts import assert_sound
from hypothesis import example, given, settings
from hypothesis import strategies as st

from covis import Extractor, load_image
from covis.errors import ArgumentError
from covis.features.aliked import BLOCK, Aliked, keypoints
from covis.runtime.bundle import Bundle

quick = settings(max_examples=15, deadline=None)
sizes = st.tuples(st.integers(1, 150), st.integers(1, 150))


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
    graphs = {"detect": PlainMaps(), "describe": PlainDescriptors()}
    return Aliked(Bundle("plain", "aliked", {}, "-", "-", Path()), graphs=graphs)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@quick
@example((1, 1))
@example((1, 2000))
@example((4, 4))
@example((5, 5))
@example((32, 64))
@given(sizes)
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
@given(st.integers(40, 150), st.integers(40, 150), st.floats(0.2, 0.8), st.floats(0.2, 0.8))
def test_convention_a_spot_is_found_where_it_was_painted(plain, height, width, x, y):
    """The centre of the top-left pixel is (0.5, 0.5), whatever the padding; finer than pixels."""
    centre = np.array([x * width, y * height])
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / (2 * 1.5**2))
    (found,) = plain.sparse([load_image((spot * 255).astype(np.uint8))], 1, 0.2)
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
    pixels = noise(50, 60)
    large = np.kron(pixels, np.ones((2, 2, 1), np.uint8))
    one, two = plain.sparse([load_image(pixels), load_image(large, max_size=60)], 200, 0.0)
    np.testing.assert_array_equal(two.keypoints, 2 * one.keypoints)
    np.testing.assert_array_equal(two.descriptors, one.descriptors)


@quick
@given(sizes, st.integers(0, 99), st.floats(0.0, 1.0))
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    mask = np.random.default_rng(seed).random(size) < share
    (found,) = plain.sparse([load_image(noise(*size, seed), mask=mask)], 10**6, 0.0)
    (free,) = plain.sparse([load_image(noise(*size, seed))], 10**6, 0.0)
    columns, rows = found.keypoints.astype(int).T
    assert not mask[rows, columns].any()
    columns, rows = free.keypoints.astype(int).T
    assert (~mask[rows, columns]).sum() == len(found)


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
def test_extractor(texture):
    extract = Extractor("aliked", max_keypoints=100, max_size=240, threshold=0.0)
    image = load_image(texture, max_size=240)
    found = extract(texture)
    assert_sound(found, image, 100)
    assert len(found) == 100
    assert (found.descriptors.shape[1], found.model) == (16, "aliked")
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    grey, colour = np.full((40, 50), 90, np.uint8), np.full((40, 50, 3), 90, np.uint8)
    batch = extract.batch([grey, texture, colour, np.zeros((1, 1), np.uint8)])
    np.testing.assert_array_equal(batch[1].descriptors, found.descriptors)
    np.testing.assert_array_equal(batch[0].keypoints, batch[2].keypoints)
    assert batch[3].descriptors.shape == (0, 16)
    assert len(extract(texture, mask=np.ones(texture.shape[:2], bool))) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("home", "aliked_bundle")
def test_exception_semi_dense():
    with pytest.raises(ArgumentError, match=r"'aliked' \(aliked\) has no semi-dense features"):
        Extractor("aliked", semi_dense=True)
