"""J and F by hand, and masks' files."""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image
import pytest

from covis.dense import (
    contour_accuracy,
    read_mask,
    read_objects,
    region_similarity,
    write_mask,
)
from covis.dense.masks import contour, fit
from covis.errors import ArgumentError, ImageError

NONE = np.zeros((100, 100), np.bool_)


def square(top, left, side=20):
    mask = NONE.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity_by_hand():
    assert region_similarity(square(10, 10), square(10, 10)) == 1
    assert region_similarity(square(10, 10), square(10, 20)) == pytest.approx(200 / 600)
    assert region_similarity(square(10, 10), square(50, 50)) == 0
    assert region_similarity(NONE, square(50, 50)) == 0
    assert region_similarity(NONE, NONE) == 1


def test_contour_lies_where_the_mask_changes_to_the_right_or_below():
    mask = np.zeros((5, 5), np.bool_)
    mask[2, 2] = True
    wanted = np.zeros((5, 5), np.bool_)
    wanted[1:3, 1:3] = True
    np.testing.assert_array_equal(contour(mask), wanted)


def test_contour_accuracy_by_hand():
    """The diagonal is 141.4 pixels, so contours may be 2 pixels apart."""
    assert contour_accuracy(square(10, 10), square(10, 10)) == 1
    assert contour_accuracy(square(10, 10), square(10, 12)) == 1
    # 3 pixels further right the sides miss and most of top and bottom does not: pixel by pixel.
    found, truth = contour(square(10, 10)), contour(square(10, 13))
    near = [
        sum(
            any(np.hypot(y - v, x - u) <= 2 for v, u in np.argwhere(other))
            for y, x in np.argwhere(line)
        )
        / line.sum()
        for line, other in ((found, truth), (truth, found))
    ]
    f = 2 * near[0] * near[1] / sum(near)
    assert 0.4 < f < 0.7
    assert contour_accuracy(square(10, 10), square(10, 13)) == pytest.approx(f)
    assert contour_accuracy(square(10, 10), square(60, 60)) == 0
    assert contour_accuracy(NONE, square(60, 60)) == 0
    assert contour_accuracy(square(60, 60), NONE) == 0
    assert contour_accuracy(NONE, NONE) == 1


def test_contour_accuracy_is_a_harmonic_mean():
    """All of what is found is right, of the truth, two such squares, half is found."""
    truth = square(10, 10) | square(60, 60)
    assert contour_accuracy(square(10, 10), truth) == pytest.approx(2 / 3)


def test_fit_is_the_mean_over_objects():
    truth = np.where(square(10, 10), 1, 0) + np.where(square(60, 60), 5, 0)
    found = np.where(square(10, 10), 1, 0)
    assert fit(found, truth, [1, 5]) == (0.5, 0.5)
    with pytest.raises(ArgumentError, match="differ in size: 100x100, 50x100"):
        fit(found, truth[:, :50], [1])


def test_palettes_are_kept(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    write_mask(tmp_path / "a.png", labels, palette)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
    found, colours = read_mask(tmp_path / "a.png")
    np.testing.assert_array_equal(found, labels)
    assert colours[:9] == palette


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
def test_black_and_white_in_any_mode(tmp_path, mode):
    picture = PIL.Image.fromarray(np.where(square(10, 10), 250, 3).astype(np.uint8))
    picture.convert(mode, dither=PIL.Image.Dither.NONE).save(tmp_path / "a.png")
    labels, palette = read_mask(tmp_path / "a.png")
    assert palette is None
    np.testing.assert_array_equal(labels, np.where(square(10, 10), 255, 0))
    write_mask(tmp_path / "b.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png")[0], labels)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_dark_greys_are_labels(tmp_path, kind):
    labels = (np.where(square(10, 10), 1, 0) + np.where(square(60, 60), 2, 0)).astype(kind)
    PIL.Image.fromarray(labels).save(tmp_path / "a.png")
    found, palette = read_mask(tmp_path / "a.png")
    assert palette is None
    np.testing.assert_array_equal(found, labels)
    write_mask(tmp_path / "b.png", found)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png")[0], labels)


def test_light_greys_are_labels_where_each_fills_a_part(tmp_path):
    """And not those of a soft outline, nor two greys without black."""
    labels = np.where(square(10, 10), 90, 0) + np.where(square(60, 60), 200, 0)
    write_mask(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png")[0], labels)
    soft = cv2.resize(np.where(square(11, 11), 255, 0).astype(np.uint8), (50, 50), None, 0, 0, 3)
    assert {64, 128, 255} <= set(np.unique(soft).tolist())
    write_mask(tmp_path / "soft.png", soft)
    assert set(np.unique(read_mask(tmp_path / "soft.png")[0])) == {0, 255}
    write_mask(tmp_path / "light.png", labels + 30)
    assert set(np.unique(read_mask(tmp_path / "light.png")[0])) == {0, 255}


def test_void_is_no_object_beside_others(tmp_path):
    palette = [0, 0, 0, 128, 0, 0] + 250 * [9, 9, 9] + 12 * [224]
    labels = np.where(square(10, 10), 1, 0) + np.where(square(60, 60), 255, 0)
    write_mask(tmp_path / "a.png", labels, palette)
    np.testing.assert_array_equal(read_objects(tmp_path / "a.png")[0], square(10, 10))
    write_mask(tmp_path / "b.png", np.where(labels, 255, 0), palette)
    assert set(np.unique(read_objects(tmp_path / "b.png")[0])) == {0, 255}
    write_mask(tmp_path / "grey.png", np.where(labels == 1, 100, labels))
    assert set(np.unique(read_objects(tmp_path / "grey.png")[0])) == {0, 100, 255}


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_not_transparent_is_the_object(tmp_path, mode):
    """White or a photograph, cut out."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    for name, colours in (("photo", pixels), ("white", np.full_like(pixels, 255))):
        picture = PIL.Image.fromarray(colours).convert(mode)
        alpha = np.where(square(10, 10), 255, 0).astype(np.uint8)
        picture.putalpha(PIL.Image.fromarray(alpha))
        picture.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png")[0], alpha)


def test_exceptions(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.png is not a mask"):
        read_mask(tmp_path / "text.png")
    PIL.Image.new("RGB", (4, 4), (200, 10, 10)).save(tmp_path / "red.png")
    with pytest.raises(ImageError, match=r"red\.png has colours but no palette"):
        read_mask(tmp_path / "red.png")
