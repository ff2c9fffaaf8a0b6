"""Groups of near-copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from covis.images.orientation import ORIENTATIONS, UPRIGHT, Orientation
from covis.search import Index
from covis.search.duplicates import (
    _look_alike,
    _overlap,
    _turned,
    likely_ways,
)

Pixels = NDArray[np.uint8]
Scene = Callable[..., Pixels]
Write = Callable[[Path, Pixels], Path]


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_thumbnails_turn_as_the_pictures_do(way: Orientation, scene: Scene) -> None:
    square = scene(1, 16, 16)
    grey = square[:, :, 0]
    expected = way.of_image(square)[:, :, 0].reshape(1, -1)
    np.testing.assert_array_equal(_turned(grey.reshape(1, -1).astype(np.float32), way), expected)


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_thumbnails_tell_the_way(way: Orientation, scene: Scene) -> None:
    grey = scene(1, 16, 16)[:, :, 0]
    others = np.stack([way.of_image(scene(1, 16, 16))[:, :, 0], scene(2, 16, 16)[:, :, 0]])
    flat = np.full((1, 256), 7, np.float32)
    others = np.concatenate([others.reshape(2, -1).astype(np.float32), flat])
    assert likely_ways(grey, others) == [way, None, None]


def test_thumbnails_are_compared_where_both_show_the_same(scene: Scene) -> None:
    """The second picture is the right half of the first, which is 320 x 160."""
    picture = scene(4, 160, 320)[:, :, 0]

    def small(pixels: Pixels) -> NDArray[np.float32]:
        return cv2.resize(pixels, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)

    sizes = (320, 160), (160, 160)
    right = np.array([[1, 0, -160], [0, 1, 0], [0, 0, 1]], np.float64)
    whole, half = small(picture), small(picture[:, 160:])
    assert _look_alike(whole, half, right, sizes)
    assert not _look_alike(whole, half, np.eye(3), sizes)
    assert not _look_alike(whole, 255 - half, right, sizes)
    # What is all of one colour can be told by its features only.
    assert _look_alike(whole, np.full((16, 16), 7, np.float32), right, sizes)


def test_overlap_by_hand() -> None:
    shift = np.array([[1, 0, 50], [0, 1, 0], [0, 0, 1]], np.float64)
    # 50 x 100 pixels are common, 150 x 100 are in either.
    assert _overlap(shift, (100, 100), (100, 100)) == pytest.approx(1 / 3)
    assert _overlap(np.diag([0.5, 0.5, 1]), (100, 100), (100, 100)) == pytest.approx(1 / 4)
    assert _overlap(np.eye(3), (100, 80), (100, 80)) == pytest.approx(1)
    behind = np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])
    assert _overlap(behind, (100, 100), (100, 100)) == 0


def test_copies_of_every_kind_are_grouped(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    folder = tmp_path / "p"
    original = scene(0, 240, 320)
    for number in range(1, 5):
        write(folder / f"other{number}.png", scene(number, 240, 320))
    write(folder / "original.png", original)
    write(folder / "again.png", original)
    write(folder / "small.jpg", np.asarray(cv2.resize(original, (240, 180)), np.uint8))
    write(folder / "cropped.png", original[10:220, 20:300])
    for way in ORIENTATIONS[1:]:
        name = f"{way.turn}{'m' if way.mirrored else ''}.png"
        write(folder / name, way.of_image(original))
    index.add([folder])
    shares: list[float] = []
    groups = index.duplicates(report=shares.append)
    assert len(groups) == 1
    assert shares[-1] == 1
    found = {Path(copy.path).name: Orientation(copy.turn, copy.mirrored) for copy in groups[0]}
    first = Path(groups[0][0].path).name
    assert set(found) == {p.name for p in folder.iterdir() if not p.name.startswith("other")}
    ways = {name: UPRIGHT for name in ("original.png", "again.png", "small.jpg", "cropped.png")}
    for way in ORIENTATIONS[1:]:
        ways[f"{way.turn}{'m' if way.mirrored else ''}.png"] = way
    # A member's way leads to the group's first, whichever that is.
    for name, way in found.items():
        assert way == ways[name].inverse.then(ways[first]), name


def test_different_pictures_make_no_group(filled: Index) -> None:
    assert filled.duplicates() == []


def test_a_turned_copy_whose_file_is_gone_is_left_out(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    original = scene(0, 240, 320)
    write(tmp_path / "p" / "a.png", original)
    turned = write(tmp_path / "p" / "b.png", Orientation(mirrored=True).of_image(original))
    index.add([tmp_path / "p"])
    turned.unlink()
    assert index.duplicates() == []


def test_a_much_smaller_copy_is_found(tmp_path: Path, write: Write, scene: Scene) -> None:
    """The package's features hold up to a factor of 2 in size; the larger picture is shrunk."""
    large = scene(3, 448, 640)
    write(tmp_path / "photos" / "a.png", large)
    write(tmp_path / "photos" / "b.png", scene(4, 448, 640))
    small = cv2.resize(large, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    write(tmp_path / "photos" / "c.png", np.asarray(small, np.uint8))
    index = Index(tmp_path / "store", max_keypoints=500)
    index.add([tmp_path / "photos"])
    (group,) = index.duplicates()
    assert [(Path(copy.path).name, copy.width) for copy in group] == [
        ("a.png", 640),
        ("c.png", 192),
    ]
    (tmp_path / "photos" / "a.png").unlink()
    assert index.duplicates() == []
