"""Points between the upright picture and the file's pixels."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from covis.images import load_image
from covis.sfm.cameras import file_size, to_file, to_upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_convention_points_lie_where_the_file_has_the_pixel(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    exif = PIL.Image.Exif()
    exif[274] = orientation
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = load_image(tmp_path / "a.png")
    size = image.width, image.height
    assert file_size(size, image.orientation) == (8, 5)
    rows, columns = np.mgrid[: image.height, : image.width]
    points = np.column_stack([columns.ravel(), rows.ravel()]) + 0.5
    there = to_file(points, size, image.orientation)
    at = np.floor(there).astype(int)
    np.testing.assert_array_equal(there, at + 0.5)
    np.testing.assert_array_equal(pixels[at[:, 1], at[:, 0]], image.pixels.reshape(-1, 3))
    np.testing.assert_allclose(to_upright(there, size, image.orientation), points)
