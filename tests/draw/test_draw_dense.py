"""What is drawn of dense features lies where it belongs."""

from __future__ import annotations

import numpy as np
from helpers.pictures import changed, grey

from covis.dense import FoundObject
from covis.draw.dense import (
    draw_box,
    draw_colours,
    draw_heat,
    draw_labels,
    draw_objects,
    draw_transfer,
)


def test_convention_places_are_in_full_size_pixels():
    """Images of 400 x 300 as 4000 x 3000: drawn where a tenth of the coordinates lies."""
    image = grey(400, 300, 10)
    points = np.array([[1005, 2005]], np.float32)
    moved = np.array([[3005, 2005]], np.float32)
    picture = draw_transfer(image, image, points, moved, max_side=806)
    assert picture.shape == (300, 806, 3)
    at0, at1 = picture[200, 100], picture[200, 406 + 300]
    np.testing.assert_array_equal(at0, at1)
    assert np.ptp(at0) > 50


def test_pairs_have_colours_of_their_own():
    image = grey(400, 300)
    points = np.array([[100.5, 50.5], [100.5, 250.5]], np.float32)
    picture = draw_transfer(image, image, points, points, max_side=806)
    assert np.abs(picture[50, 100].astype(int) - picture[250, 100]).max() > 60


def test_labels_take_the_colours_of_the_palette():
    image = grey(100, 80, 2)
    labels = np.zeros((160, 200), np.uint8)
    labels[40:80, 60:120] = 2
    picture = draw_labels(image, labels, [0, 0, 0, 9, 9, 9, 0, 250, 0])
    np.testing.assert_array_equal(picture[30, 45], [64, 64 + 125, 64])
    inside = np.zeros((80, 100), np.bool_)
    inside[20:40, 30:60] = True
    assert changed(picture)[inside].all()
    assert not changed(picture)[10:19].any()
    assert (image.pixels == 128).all()


def test_an_object_without_a_palette_and_its_box():
    image = grey(80, 64)
    cells = np.zeros((8, 10), np.bool_)
    cells[2:4, 3:6] = True
    picture = draw_box(image, (24, 16, 48, 32), cells, (8, 8))
    assert changed(picture)[17:31, 25:47].all()
    assert not changed(picture)[:10].any()
    assert (picture[15:18, 36] > 200).all(axis=1).any()


def test_objects_have_a_colour_each():
    image = grey(80, 64, 2)
    masks = np.zeros((2, 64, 80), np.bool_)
    masks[0, 10:30, 10:30] = True
    masks[1, 40:60, 50:70] = True
    boxes = (20, 20, 60, 60), (100, 80, 140, 120)
    found = [FoundObject(box, mask, mask, 0.1) for box, mask in zip(boxes, masks, strict=True)]
    picture = draw_objects(image, found)
    one, two = (picture[y, x].tolist() for y, x in ((20, 20), (50, 60)))
    assert one != two
    assert changed(picture)[masks[0] | masks[1]].all()
    assert (picture[20, 9:12] > 200).all(axis=1).any()


def test_cells_are_laid_where_they_are_and_cut_at_the_edge():
    """A cell every 8 full-size pixels is one every 4 of an image shown at half the size."""
    colours = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    picture = draw_colours(grey(22, 18, 2), colours, (8, 8))
    wanted = colours.repeat(4, axis=0).repeat(4, axis=1)[:18, :22]
    np.testing.assert_array_equal(picture, wanted)


def test_heat_is_brightest_where_it_is_largest():
    heat = np.zeros((10, 12), np.float32)
    heat[2:5, 8:11] = 1
    picture = draw_heat(grey(96, 80), heat, (8, 8), np.array([20, 60], np.float32))
    light = picture.astype(int).sum(axis=2)
    assert light[28, 76] > light[70, 70] + 200
