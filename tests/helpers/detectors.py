"""What tests of the detectors share: networks that are plain to see, and where they find things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from covis.images.decode import load_image
from covis.runtime.bundle import Bundle
from helpers.contracts import assert_sound
from helpers.textures import noise

MANY = 10**6


def sizes(most):
    """Sizes (height, width) of pictures, from one pixel on."""
    return st.tuples(st.integers(1, most), st.integers(1, most))


def any_size(most, *examples, count=15):
    """Decorates a test of `size`: these examples, and some of `sizes`."""

    def decorated(test):
        test = given(size=sizes(most))(test)
        for size in examples:
            test = example(size=size)(test)
        return settings(max_examples=count, deadline=None)(test)

    return decorated


def masks(most, count=15):
    """Decorates a test of `size`, `seed` and `share`, for `assert_masked`."""
    given_masks = given(size=sizes(most), seed=st.integers(0, 99), share=st.floats(0.0, 1.0))
    return lambda test: settings(max_examples=count, deadline=None)(given_masks(test))


def spots(most):
    """(height, width, x, y): a picture's size in pixels, and a place well inside it in shares."""
    side, share = st.integers(40, most), st.floats(0.2, 0.8)
    return st.tuples(side, side, share, share)


def plain_network(runs, **graphs):
    """A class of `covis.features` on graphs of the test's own, by role."""
    return runs(Bundle("plain", "-", {}, "-", "-", Path()), graphs=graphs)


def cell_places(height, width):
    """(h, w, 3) float32: column, row and 1 of each cell."""
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([column, row, np.ones_like(row)], axis=2).astype(np.float32)


def find_spot(network, spot, deviation, threshold):
    """A bright spot of that deviation in pixels is painted: the one feature that is found, and
    the spot's place, where the centre of the top-left pixel is (0.5, 0.5)."""
    height, width, x, y = spot
    centre = np.array([x * width, y * height])
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    squares = (across - centre[0]) ** 2 + (down - centre[1]) ** 2
    picture = np.exp(-squares / (2 * deviation**2))
    (found,) = network.sparse([load_image((picture * 255).astype(np.uint8))], 1, threshold)
    return found, centre


def assert_doubled(network, rtol=0):
    """A picture of twice the size, shrunk on loading: keypoints refer to its full size."""
    pixels = noise(50, 60)
    large = np.kron(pixels, np.ones((2, 2, 1), np.uint8))
    one, two = network.sparse([load_image(pixels), load_image(large, max_size=60)], 200, 0.0)
    np.testing.assert_allclose(two.keypoints, 2 * one.keypoints, rtol=rtol)
    np.testing.assert_array_equal(two.descriptors, one.descriptors)


def assert_masked(network, size, seed, share):
    """Nothing is found under a mask of that share, and all that lies elsewhere still is."""
    mask = np.random.default_rng(seed).random(size) < share
    image = load_image(noise(*size, seed), mask=mask)
    (found,) = network.sparse([image], MANY, 0.0)
    assert_sound(found, image, MANY)
    columns, rows = found.keypoints.astype(int).T
    assert not mask[rows, columns].any()
    (free,) = network.sparse([load_image(noise(*size, seed))], MANY, 0.0)
    columns, rows = free.keypoints.astype(int).T
    assert (~mask[rows, columns]).sum() == len(found)
