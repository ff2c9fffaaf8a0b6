"""What pictures share: saving whole or not at all, pictures in a row, far points."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import numpy as np
import PIL.Image
import pytest
from helpers.pictures import changed

from covis.draw.canvas import beside, blank, draw_path, save_picture
from covis.errors import ImageError


def test_pictures_in_a_row():
    red, blue = (np.full((60, 80, 3), tint, np.uint8) for tint in ((200, 0, 0), (0, 0, 200)))
    picture = beside([red, blue], ["one", "two"])
    assert (picture[:60, :80] == (200, 0, 0)).all()
    assert (picture[:60, -80:] == (0, 0, 200)).all()
    assert changed(picture[60:, :80], picture[-1, 0].astype(int)).any()
    assert max(beside([red] * 3, ["-"] * 3, max_side=120).shape) <= 120


def test_points_beyond_what_opencv_draws_leave_the_near_part_of_a_line():
    picture = blank(20, 40, (0, 0, 0))
    draw_path(picture, np.array([[-1e12, 10.5], [1e12, 10.5]]), (255, 0, 0))
    assert (picture[10, 1:, 0] > 200).all()
    assert not picture[:8].any()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp", ".tif"])
def test_saved_picture_is_read_back(tmp_path, suffix):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30] = (250, 120, 10)
    path = tmp_path / f"a{suffix}"
    save_picture(picture, str(path))
    back = np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)
    assert np.abs(back - picture).mean() < 4


@pytest.mark.parametrize("name", ["a", "a.docx", "a.png.zip"])
def test_exception_unknown_suffix(tmp_path, name):
    with pytest.raises(ImageError, match="suffix"):
        save_picture(np.zeros((4, 4, 3), np.uint8), tmp_path / name)


def test_exception_missing_folder(tmp_path):
    with pytest.raises(ImageError, match=r"folder .* does not exist"):
        save_picture(np.zeros((4, 4, 3), np.uint8), tmp_path / "none" / "a.png")


def test_exception_cannot_be_written(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match="cannot be written"):
        save_picture(np.zeros((4, 4, 3), np.uint8), tmp_path / "a.png")


@contextmanager
def small_disk():
    """Files of this process cannot grow beyond 2 kB; pytest's own output must not come inside."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_exception_full_disk_leaves_the_picture_that_was_there(tmp_path, name):
    save_picture(blank(20, 20), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    with small_disk(), pytest.raises(ImageError, match="cannot be written: File too large"):
        save_picture(noise, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / name]
