"""Masks of a map's photos: what they are called, and what they let through."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from covis.errors import ArgumentError, ImageError
from covis.sfm.masks import find_masks, read_mask


def save(folder, name, size=(4, 3)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size).save(path)
    return path


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("00.jpg", "00.jpg.png"),
        ("00.jpg", "00.png"),
        ("00.jpg", "00.jpg"),
        ("00.jpg", "00.JPG.png"),
        ("00.JPG", "00.jpg.png"),
        ("00.JPG", "00.PNG"),
        ("day 1/00.jpg", "day 1/00.png"),
    ],
)
def test_names_that_colmap_takes(tmp_path, photo, mask):
    photos = {photo: save(tmp_path / "photos", photo)}
    path = save(tmp_path / "masks", mask)
    save(tmp_path / "masks", "00.jpg.jpg.png")
    found, loose = find_masks(tmp_path / "masks", photos)
    assert (found, loose) == ({photo: path}, ["00.jpg.jpg.png"])


def test_the_whole_name_goes_before_the_stem(tmp_path):
    photos = {name: save(tmp_path, name) for name in ("a.jpg", "a.png", "b.jpg")}
    folder = tmp_path / "masks"
    mine = {name: save(folder, name) for name in ("a.png", "b.jpg.png", "b.png")}
    found, loose = find_masks(folder, photos)
    assert found == {"a.png": mine["a.png"], "b.jpg": mine["b.jpg.png"]}
    assert loose == ["b.png"]


def test_exceptions_of_masks_that_do_not_fit(tmp_path):
    photos = {"a.jpg": save(tmp_path, "a.jpg", (40, 30))}
    folder = tmp_path / "masks"
    with pytest.raises(ArgumentError, match="no such folder of masks"):
        find_masks(folder, photos)
    save(folder, "b.jpg.png")
    with pytest.raises(ArgumentError, match=r"none of its 1 picture .*a\.jpg\.png or a\.png"):
        find_masks(folder, photos)
    save(folder, "a.png", (30, 40))
    with pytest.raises(
        ArgumentError, match=r"a\.png is 30x40, which does not fit .*a\.jpg of 40x30"
    ):
        find_masks(folder, photos)
    save(folder, "a.png", (20, 15))
    assert list(find_masks(folder, photos)[0]) == ["a.jpg"]


def test_masks_are_black_where_to_ignore(tmp_path):
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = 1
    PIL.Image.fromarray(mask).save(tmp_path / "a.png")
    points = np.array([[5.0, 3.0], [3.9, 3.0], [7.9, 5.9], [4.1, 2.1], [4.1, 1.9]])
    found = read_mask(tmp_path / "a.png", points, (8, 6))
    assert found.tolist() == [True, False, False, True, False]
    (tmp_path / "b.png").write_text("no")
    with pytest.raises(ImageError, match="no mask"):
        read_mask(tmp_path / "b.png", points, (8, 6))


@pytest.mark.parametrize("colour", [0, 90, 255])
def test_transparent_is_ignored_like_black(tmp_path, colour):
    mask = np.full((2, 3, 4), colour, np.uint8)
    mask[:, :, 3] = [[0, 255, 1], [0, 0, 255]]
    PIL.Image.fromarray(mask).save(tmp_path / "a.png")
    points = np.array([[x + 0.5, y + 0.5] for y in range(2) for x in range(3)])
    found = read_mask(tmp_path / "a.png", points, (3, 2))
    assert found.tolist() == [False, True, True, False, False, True]
