"""Pictures turned by quarters, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from covis.images.decode import load_image
from covis.images.orientation import TURNS, turn_back, turn_image

SIZES = [(5, 7), (6, 4), (3, 8), (8, 5), (1, 1), (1, 6)]


def numbered(height, width):
    """Every pixel is different, and a mask that no turn leaves as it is."""
    values = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    pixels = np.stack([values, values + 1, values + 2], axis=2)
    return load_image(pixels, mask=values % 3 == 0)


def centres(height, width):
    """(height * width, 2): the middle of each pixel, row by row."""
    y, x = np.mgrid[:height, :width]
    return (np.stack([x, y], axis=2).reshape(-1, 2) + 0.5).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turn", [0, *TURNS])
def test_points_go_back_to_their_pixels(turn, size):
    image = numbered(*size)
    turned = turn_image(image, turn)
    assert turned.pixels.shape[:2] == turned.mask.shape == (turned.height, turned.width)
    points = turn_back(centres(*turned.mask.shape), turn, (turned.width, turned.height))
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points % 1, 0.5)
    columns, rows = (points - 0.5).astype(int).T
    np.testing.assert_array_equal(image.pixels[rows, columns], turned.pixels.reshape(-1, 3))
    np.testing.assert_array_equal(image.mask[rows, columns], turned.mask.ravel())


@pytest.mark.parametrize("size", SIZES)
def test_convention_turns_are_clockwise(size):
    image = numbered(*size)
    for turn, times in ((0, 0), (90, -1), (180, 2), (270, 1)):
        np.testing.assert_array_equal(turn_image(image, turn).pixels, np.rot90(image.pixels, times))
    quarter = turn_back(np.array([[0.5, 0.5]], np.float32), 90, size)
    np.testing.assert_array_equal(quarter, [[0.5, size[0] - 0.5]])  # From the bottom-left corner.


@pytest.mark.parametrize("turn", TURNS)
def test_shrunk_pictures_keep_full_size_points(turn):
    image = load_image(np.zeros((300, 401), np.uint8), max_size=100)
    turned = turn_image(image, turn)
    assert (turned.width, turned.height) == ((401, 300) if turn == 180 else (300, 401))
    assert max(turned.pixels.shape) == 100
    corners = np.array([[0, 0], [turned.width, turned.height]], np.float32)
    back = turn_back(corners, turn, (turned.width, turned.height))
    assert sorted(map(tuple, np.sort(back, axis=0).tolist())) == [(0, 0), (401, 300)]


def test_as_it_is_stays_untouched():
    image = numbered(4, 5)
    assert turn_image(image, 0) is image
