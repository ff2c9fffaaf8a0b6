"""Colours of a model's points."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from covis.sfm import Map
from covis.sfm.colours import colour_points

pytestmark = pytest.mark.usefixtures("colmap")


def colours(model):
    return np.array([model.point3D(number).color for number in sorted(model.points3D)], int)


def test_they_are_those_that_colmap_gives(mapped, scene):
    model = Map.open(mapped[0]).reconstruction
    assert (colours(model) > 0).any(axis=1).all()
    model.extract_colors_for_all_images(str(scene.folder))
    expected = colours(model)
    for number in model.points3D:
        model.point3D(number).color = np.zeros(3, np.uint8)
    colour_points(model, scene.folder, threads=1)
    assert np.abs(colours(model) - expected).max() <= 1
    colour_points(model, scene.folder, max_size=240)
    assert np.abs(colours(model) - expected).mean() < 12


def test_photos_that_are_gone_have_no_say(mapped, scene, tmp_path):
    model = Map.open(mapped[0]).reconstruction
    for number in model.points3D:
        model.point3D(number).color = np.array([1, 2, 3], np.uint8)
    shutil.copy(scene.folder / "3.png", tmp_path)
    image = model.find_image_with_name("3.png")
    seen = {point.point3D_id for point in image.points2D if point.has_point3D()}
    colour_points(model, tmp_path)
    same = {n for n in model.points3D if model.point3D(n).color.tolist() == [1, 2, 3]}
    assert same == set(model.points3D) - seen
