"""Cameras, and points between the upright picture and the file's pixels."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from covis.errors import ArgumentError
from covis.images.decode import load_image
from covis.images.exif import PhotoInfo, read_photo_info
from covis.sfm.photo_cameras import (
    as_in_map,
    make_camera,
    map_from_upright,
    share_cameras,
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_convention_points_lie_where_the_file_has_the_pixel(tmp_path, orientation):
    """But for mirrored files, whose photos are upright in a map."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    exif = PIL.Image.Exif()
    exif[274] = orientation
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = load_image(tmp_path / "a.png")
    size = image.width, image.height
    turned = map_from_upright(image.orientation)
    shot = as_in_map(read_photo_info(tmp_path / "a.png", None))
    assert turned.of_size(size) == shot.size
    if orientation in (2, 4, 5, 7):
        assert shot.size == size
        pixels = image.pixels
    else:
        assert shot.size == (8, 5)
    rows, columns = np.mgrid[: image.height, : image.width]
    points = np.column_stack([columns.ravel(), rows.ravel()]) + 0.5
    there = turned.of_points(points, size)
    at = np.floor(there).astype(int)
    np.testing.assert_array_equal(there, at + 0.5)
    np.testing.assert_array_equal(pixels[at[:, 1], at[:, 0]], image.pixels.reshape(-1, 3))
    np.testing.assert_array_equal(turned.of_image(image.pixels), pixels)


def test_cameras_are_shared_by_body_size_and_focal_length():
    wide, tele = PhotoInfo((40, 30), "A", 50.0), PhotoInfo((40, 30), "A", 90.0)
    upright, other = PhotoInfo((30, 40), "A", 50.0), PhotoInfo((40, 30), "B", 50.0)
    names = ["a/1", "a/2", "b/1", "b/2", "3", "4"]
    photos = [wide, tele, wide, upright, other, tele]
    assert share_cameras(photos, names, "auto") == [0, 1, 0, 2, 3, 1]
    assert share_cameras(photos, names, "shared") == [0, 0, 0, 1, 0, 0]
    assert share_cameras(photos, names, "per-folder") == [0, 0, 1, 2, 3, 3]
    assert share_cameras(photos, names, "per-image") == [0, 1, 2, 3, 4, 5]


def test_photos_without_exif_share_a_camera_by_folder_and_size():
    one, other, known = PhotoInfo((40, 30)), PhotoInfo((41, 30)), PhotoInfo((40, 30), "A")
    photos = [one, other, one, known, one, other]
    names = ["1", "2", "3", "4", "b/1", "b/2"]
    assert share_cameras(photos, names, "auto") == [0, 1, 0, 2, 3, 4]


def test_made_cameras_have_exif_or_a_guess(colmap):
    camera = make_camera(PhotoInfo((400, 300), "A", 350.0), "SIMPLE_RADIAL", None)
    assert camera.has_prior_focal_length
    np.testing.assert_allclose(camera.params, (350, 200, 150, 0))
    camera = make_camera(PhotoInfo((300, 400)), "PINHOLE", None)
    assert not camera.has_prior_focal_length
    np.testing.assert_allclose(camera.params, (480, 480, 150, 200))
    camera = make_camera(PhotoInfo((300, 400)), "PINHOLE", (1, 2, 3, 4))
    assert camera.has_prior_focal_length
    np.testing.assert_allclose(camera.params, (1, 2, 3, 4))
    with pytest.raises(ArgumentError, match=r"PINHOLE has 4 parameters .*, not 3"):
        make_camera(PhotoInfo((300, 400)), "PINHOLE", (1, 2, 3))
    with pytest.raises(ArgumentError, match="no camera model 'HOLE'; there are: SIMPLE_PINHOLE"):
        make_camera(PhotoInfo((300, 400)), "HOLE", None)
