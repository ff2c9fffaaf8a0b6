"""The eight ways to turn and mirror a picture are one group; pictures and points agree in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from covis.images.decode import load_image
from covis.images.orientation import ORIENTATIONS, TURNS, UPRIGHT, Orientation
from covis.types import Image

SIZES = [(5, 7), (6, 4), (3, 8), (8, 5), (1, 1), (1, 6)]
BY_ONE = pytest.mark.parametrize("way", ORIENTATIONS)

orientations = st.sampled_from(ORIENTATIONS)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
points = st.lists(st.tuples(st.integers(-80, 80), st.integers(-80, 80)), max_size=5)


def numbered(height: int, width: int) -> Image:
    """Every pixel is different, and a mask that no turn leaves as it is."""
    values = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    pixels = np.stack([values, values + 1, values + 2], axis=2)
    return load_image(pixels, mask=values % 3 == 0)


def centres(height: int, width: int) -> NDArray[np.float32]:
    """(height * width, 2): the middle of each pixel, row by row."""
    y, x = np.mgrid[:height, :width]
    return (np.stack([x, y], axis=2).reshape(-1, 2) + 0.5).astype(np.float32)


@given(orientations, orientations, orientations)
def test_they_are_a_group(one: Orientation, two: Orientation, three: Orientation) -> None:
    assert one.then(two) in ORIENTATIONS
    assert one.then(two).then(three) == one.then(two.then(three))
    assert one.then(UPRIGHT) == UPRIGHT.then(one) == one
    assert one.then(one.inverse) == one.inverse.then(one) == UPRIGHT


def test_there_are_eight_and_exif_has_a_value_for_each() -> None:
    assert len(set(ORIENTATIONS)) == 8
    assert {Orientation.from_exif(value) for value in range(1, 9)} == set(ORIENTATIONS)
    for value in range(1, 9):
        assert Orientation.from_exif(value).exif == value
    for value in (None, 0, 9, -1, "6", 2.5, (6,)):
        assert Orientation.from_exif(value) == UPRIGHT


@given(orientations, orientations, sizes, points)
def test_pictures_points_and_sizes_combine_alike(
    one: Orientation, two: Orientation, size: tuple[int, int], marks: list[tuple[int, int]]
) -> None:
    image = numbered(size[1], size[0])
    both = one.then(two)
    np.testing.assert_array_equal(
        both.of_image(image.pixels), two.of_image(one.of_image(image.pixels))
    )
    assert both.of_size(size) == two.of_size(one.of_size(size))
    at = np.array(marks, np.float64).reshape(-1, 2) / 8
    there = two.of_points(one.of_points(at, size), one.of_size(size))
    np.testing.assert_array_equal(both.of_points(at, size), there)


@given(orientations, sizes, st.sampled_from([np.uint8, np.uint16, np.float32, np.bool_]))
def test_points_go_where_their_pixels_go(
    way: Orientation, size: tuple[int, int], dtype: type
) -> None:
    width, height = size
    before = np.arange(height * width).reshape(height, width) % 251
    before = before.astype(dtype)
    after = way.of_image(before)
    assert (after.dtype, after.shape[::-1]) == (before.dtype, way.of_size(size))
    there = way.of_points(centres(height, width), size)
    assert there.dtype == np.float32
    np.testing.assert_array_equal(there % 1, 0.5)
    columns, rows = (there - 0.5).astype(int).T
    np.testing.assert_array_equal(after[rows, columns], before.ravel())


@pytest.mark.parametrize("size", SIZES)
@BY_ONE
def test_points_go_back_to_their_pixels(way: Orientation, size: tuple[int, int]) -> None:
    image = numbered(*size)
    turned = way.of_picture(image)
    assert turned.mask is not None
    assert image.mask is not None
    assert turned.pixels.shape[:2] == turned.mask.shape == (turned.height, turned.width)
    back = way.inverse.of_points(centres(*turned.mask.shape), (turned.width, turned.height))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back % 1, 0.5)
    columns, rows = (back - 0.5).astype(int).T
    np.testing.assert_array_equal(image.pixels[rows, columns], turned.pixels.reshape(-1, 3))
    np.testing.assert_array_equal(image.mask[rows, columns], turned.mask.ravel())


@pytest.mark.parametrize("size", SIZES)
def test_convention_mirrored_first_and_turns_are_clockwise(size: tuple[int, int]) -> None:
    image = numbered(*size)
    for turn, times in ((0, 0), (90, -1), (180, 2), (270, 1)):
        for mirrored in (False, True):
            before = image.pixels[:, ::-1] if mirrored else image.pixels
            after = Orientation(turn, mirrored).of_picture(image).pixels
            np.testing.assert_array_equal(after, np.rot90(before, times))
    corner = np.array([[0.5, 0.5]], np.float32)
    quarter = Orientation(90).inverse.of_points(corner, size)
    np.testing.assert_array_equal(quarter, [[0.5, size[0] - 0.5]])  # From the bottom-left corner.


@pytest.mark.parametrize("turn", TURNS)
def test_shrunk_pictures_keep_full_size_points(turn: int) -> None:
    image = load_image(np.zeros((300, 401), np.uint8), max_size=100)
    turned = Orientation(turn).of_picture(image)
    assert (turned.width, turned.height) == ((401, 300) if turn == 180 else (300, 401))
    assert max(turned.pixels.shape) == 100
    corners = np.array([[0, 0], [turned.width, turned.height]], np.float32)
    back = Orientation(turn).inverse.of_points(corners, (turned.width, turned.height))
    assert sorted(map(tuple, np.sort(back, axis=0).tolist())) == [(0, 0), (401, 300)]


def test_as_it_is_stays_untouched() -> None:
    image = numbered(4, 5)
    assert UPRIGHT.of_picture(image) is image
    assert UPRIGHT.of_image(image.pixels) is image.pixels


@BY_ONE
def test_the_orientation_of_points_moved_by_hand(way: Orientation) -> None:
    """Image 1 is the image of which, mirrored and turned, image 0 is made: 60 x 40 pixels."""
    mirror = np.array([[-1, 0, 60], [0, 1, 0], [0, 0, 1]]) if way.mirrored else np.eye(3)
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    h_0from1 = np.linalg.matrix_power(quarter, way.turn // 90) @ mirror
    assert Orientation.from_homography(np.linalg.inv(h_0from1), (10, 20)) == way


@BY_ONE
def test_files_are_read_upright(way: Orientation, tmp_path: Path) -> None:
    """Of a file whose pixels were changed by the inverse, and that says so, nothing is seen."""
    import PIL.Image

    pixels = cv2.resize(numbered(3, 4).pixels, (40, 30), interpolation=cv2.INTER_NEAREST)
    exif = PIL.Image.Exif()
    exif[274] = way.exif
    PIL.Image.fromarray(way.inverse.of_image(pixels)).save(tmp_path / "a.png", exif=exif)
    read = load_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read.pixels, pixels)
    assert (read.width, read.height, read.orientation) == (40, 30, way.exif)
