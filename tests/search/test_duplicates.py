"""Groups of near-copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.corner import WALLS, look, render, texture
from helpers.pages import jpeg, page, written_over
from numpy.typing import NDArray

from covis.images.orientation import ORIENTATIONS, UPRIGHT, Orientation
from covis.search import Index
from covis.search.copy_candidates import (
    PARTS,
    centred_lengths,
    find_candidates,
    inside_each_other,
    most_alike,
    standardised,
    turned,
    without_bars,
)
from covis.search.duplicates import _areas, _Links, _share_enough

Pixels = NDArray[np.uint8]
Scene = Callable[..., Pixels]
Write = Callable[[Path, Pixels], Path]


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_thumbnails_turn_as_the_pictures_do(way: Orientation, scene: Scene) -> None:
    square = scene(1, 16, 16)
    grey = square[:, :, 0]
    expected = way.of_image(square)[:, :, 0].reshape(1, -1)
    np.testing.assert_array_equal(turned(grey.reshape(1, -1).astype(np.float32), way), expected)


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_thumbnails_tell_the_way(way: Orientation, scene: Scene) -> None:
    grey = scene(1, 16, 16)[:, :, 0]
    others = np.stack([way.of_image(scene(1, 16, 16))[:, :, 0], scene(2, 16, 16)[:, :, 0]])
    flat = np.full((1, 256), 7, np.uint8)
    others = np.concatenate([flat, others.reshape(2, -1)])
    lengths = centred_lengths(others)
    assert most_alike(grey, others, lengths, 10) == [(1, way)]
    assert most_alike(grey, others, lengths, 0) == []


def test_bars_are_taken_off_thumbnails(scene: Scene) -> None:
    grey = scene(1, 16, 16)[:, :, 0].astype(np.float32)
    barred = np.zeros((16, 16), np.float32)
    barred[4:12] = cv2.resize(grey, (16, 8), interpolation=cv2.INTER_AREA)
    flat = np.full((16, 16), 7, np.float32)
    trimmed, shares = without_bars(np.stack([grey, barred, flat]).reshape(3, 256))
    np.testing.assert_array_equal(trimmed[0], grey.ravel())
    # One row at each end may be half of a bar, and goes as well.
    np.testing.assert_allclose(shares, [1, 6 / 16, 1])
    upright, views = standardised(trimmed[:1])[0], standardised(trimmed[1:])
    assert upright @ views[0] > 0.7 > upright @ standardised(barred.reshape(1, -1))[0]
    assert upright @ views[1] == 0


def test_a_thumbnail_is_found_inside_another_by_their_correlation(scene: Scene) -> None:
    """The best of all places and sizes, counted one by one."""
    picture = scene(3, 160, 160)
    wide, small = (
        cv2.resize(pixels, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
        for pixels in (picture[..., 0], picture[20:120, 30:130, 0])
    )
    best = -1.0
    for side in PARTS:
        shrunk = cv2.resize(small, (side, side), interpolation=cv2.INTER_AREA).ravel()
        for top, left in np.ndindex(17 - side, 17 - side):
            window = wide[top : top + side, left : left + side]
            best = max(best, float(np.corrcoef(window.ravel(), shrunk)[0, 1]))
    one, other = (standardised(each.reshape(1, -1)) for each in (wide, small))
    assert best > 0.85
    np.testing.assert_allclose(inside_each_other(one, other), [best], atol=1e-5)
    np.testing.assert_allclose(inside_each_other(other, one), [best], atol=1e-5)
    assert inside_each_other(one, np.zeros_like(one)) == [-1]


def test_areas_by_hand() -> None:
    shift = np.array([[1, 0, 50], [0, 1, 0], [0, 0, 1]], np.float64)
    assert _areas(shift, (100, 100), (100, 100)) == pytest.approx((5000, 10000, 10000))
    half = np.diag([0.5, 0.5, 1])
    assert _areas(half, (100, 100), (100, 100)) == pytest.approx((2500, 2500, 10000))
    # Edges that coincide.
    assert _areas(np.eye(3), (640, 480), (320, 480)) == pytest.approx((153600, 307200, 153600))
    apart = np.array([[1, 0, 500], [0, 1, 0], [0, 0, 1.0]])
    assert _areas(apart, (100, 100), (100, 100)) == pytest.approx((0, 10000, 10000))
    behind = np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])
    assert _areas(behind, (100, 100), (100, 100))[0] == 0


def test_parts_share_enough_and_overlaps_of_a_third_do_not() -> None:
    size = (90, 90)
    shift = np.array([[1, 0, 30], [0, 1, 0], [0, 0, 1]], np.float64)
    assert _share_enough(shift, size, size)
    shift[0, 2] = 60
    assert not _share_enough(shift, size, size)
    # The middle of a picture, half as wide and high, is a part of it; a tenth of it is too little.
    assert _share_enough(np.array([[1, 0, 22], [0, 1, 22], [0, 0, 1.0]]), (45, 45), size)
    assert not _share_enough(np.array([[1, 0, 22], [0, 1, 22], [0, 0, 1.0]]), (28, 28), size)


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


def test_candidates_of_a_large_store_give_the_same_groups(
    index: Index, tmp_path: Path, write: Write, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "p"
    for number in range(8):
        write(folder / f"other{number}.png", scene(number))
    ways = ORIENTATIONS[2::2]
    for number, way in enumerate(ways):
        write(folder / f"turned{number}.png", way.of_image(scene(number)))
    write(folder / "small.png", np.asarray(cv2.resize(scene(6), (100, 75)), np.uint8))
    write(folder / "cropped.png", scene(7)[10:140, 20:180])
    index.add([folder])
    pairs = index.duplicates()
    assert [len(group) for group in pairs] == [2] * (len(ways) + 2)
    monkeypatch.setattr("covis.search.copy_candidates.ALL_PAIRS_UP_TO", 0)
    monkeypatch.setattr("covis.search.copy_candidates.LARGE_BLOCK", 5)
    monkeypatch.setattr("covis.search.neighbours.PART", 2)
    assert index.duplicates() == pairs


def test_different_pictures_make_no_group(filled: Index) -> None:
    assert filled.duplicates() == []


def test_a_turned_copy_whose_file_is_gone_is_left_out(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    original = scene(0, 240, 320)
    write(tmp_path / "p" / "a.png", original)
    mirrored = write(tmp_path / "p" / "b.png", Orientation(mirrored=True).of_image(original))
    index.add([tmp_path / "p"])
    mirrored.unlink()
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


def grouped(index: Index, *paths: Path) -> list[list[str]]:
    index.add(list(paths))
    return [[Path(copy.path).name for copy in group] for group in index.duplicates()]


def test_links_lead_from_each_picture_to_all_that_hang_together() -> None:
    """2,000 in a row, as a burst: neither deep nor slow."""
    links = _Links(2001)
    right = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]], np.float64)
    for place in range(1999):
        assert not links.connected(place, place + 1)
        links.add(place, place + 1, right)
    assert links.connected(0, 1999)
    assert not links.connected(0, 2000)
    reached = links.reached(1000)
    assert set(reached) == set(range(2000))
    np.testing.assert_allclose(reached[1999][0, 2], 999)
    np.testing.assert_allclose(reached[0][0, 2], -1000)


def test_pages_on_one_template_are_no_copies(index: Index, tmp_path: Path, write: Write) -> None:
    for number in range(4):
        write(tmp_path / "p" / f"{number}.png", page(number))
    half = cv2.resize(page(2), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    write(tmp_path / "p" / "half.png", np.asarray(half, np.uint8))
    assert grouped(index, tmp_path / "p") == [["2.png", "half.png"]]


def test_views_of_one_place_are_no_copies(index: Index, tmp_path: Path, write: Write) -> None:
    """Most of their points agree, with a homography, too, where a wall fills the picture."""
    textures = [texture(seed) for seed in range(len(WALLS))]
    for number, angle in enumerate(np.radians([-12.0, -4.0, 4.0, 12.0])):
        centre = np.array([4.0 * np.sin(angle), -0.3, 2.0 - 4.0 * np.cos(angle)])
        view = render(look(centre, np.array([0.8, -0.3, 2.0])), centre, textures)
        write(tmp_path / "p" / f"{number}.png", view)
    small = cv2.resize(view, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    write(tmp_path / "p" / "half.png", np.asarray(small, np.uint8))
    assert grouped(index, tmp_path / "p") == [["3.png", "half.png"]]


def test_parts_letters_and_bars_are_found(tmp_path: Path, write: Write, scene: Scene) -> None:
    index = Index(tmp_path / "store", max_keypoints=500)
    picture = scene(0, 480, 640)
    write(tmp_path / "p" / "0.png", picture)
    write(tmp_path / "p" / "left.png", picture[:, :320])
    write(tmp_path / "p" / "middle.png", picture[120:360, 160:480])
    write(tmp_path / "p" / "written.jpg", written_over(picture, "MAY"))
    bars = cv2.copyMakeBorder(picture, 130, 130, 0, 0, cv2.BORDER_CONSTANT)
    write(tmp_path / "p" / "bars.png", np.asarray(bars, np.uint8))
    write(tmp_path / "p" / "other.png", scene(1, 480, 640))
    (group,) = grouped(index, tmp_path / "p")
    # The bars add pixels and no picture.
    assert group[0] != "bars.png"
    assert sorted(group) == ["0.png", "bars.png", "left.png", "middle.png", "written.jpg"]


def test_a_chain_of_copies_is_no_group(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    """Each part shares most with the next, the first and the last share little."""
    strip = scene(7, 200, 500)
    for name, left in (("a", 0), ("b", 90), ("c", 180)):
        write(tmp_path / "p" / f"{name}.bmp", strip[:, left : left + 300])
        os.utime(tmp_path / "p" / f"{name}.bmp", (1000 + left, 1000 + left))
    assert grouped(index, tmp_path / "p") == [["a.bmp", "b.bmp"]]


def test_the_larger_then_the_older_file_is_the_original(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    picture = scene(2, 240, 320)
    write(tmp_path / "p" / "a.jpg", jpeg(picture, 90))
    original = write(tmp_path / "p" / "b.png", picture)
    os.utime(original, (2000, 2000))
    for name, when in (("c.png", 3000), ("d.png", 1000)):
        shutil.copy(original, tmp_path / "p" / name)
        os.utime(tmp_path / "p" / name, (when, when))
    index.add([tmp_path / "p"])
    (group,) = index.duplicates()
    assert [(Path(copy.path).name, copy.identical) for copy in group] == [
        ("d.png", False),
        ("b.png", True),
        ("c.png", True),
        ("a.jpg", False),
    ]


def test_several_ways_to_one_file_are_one_picture(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    file = write(tmp_path / "p" / "b.png", scene(0, 240, 320))
    os.link(file, tmp_path / "p" / "hard.png")
    (tmp_path / "p" / "a.png").symlink_to(file)
    (tmp_path / "q").symlink_to(tmp_path / "p")
    assert grouped(index, tmp_path / "p", tmp_path / "q" / "b.png") == []
    write(tmp_path / "small.png", scene(0, 240, 320)[::2, ::2])
    (group,) = grouped(index, tmp_path / "small.png")
    assert group == ["b.png", "small.png"]


@pytest.mark.parametrize("fate", ["gone", "changed"])
def test_what_is_no_longer_there_is_neither_original_nor_copy(
    index: Index, tmp_path: Path, write: Write, scene: Scene, fate: str
) -> None:
    large = write(tmp_path / "p" / "a.png", scene(0, 480, 640))
    half = cv2.resize(scene(0, 480, 640), (320, 240), interpolation=cv2.INTER_AREA)
    small = write(tmp_path / "p" / "b.png", np.asarray(half, np.uint8))
    shutil.copy(large, tmp_path / "p" / "c.png")
    assert grouped(index, tmp_path / "p") == [["a.png", "c.png", "b.png"]]
    for path in (large, tmp_path / "p" / "c.png"):
        if fate == "gone":
            path.unlink()
        else:
            write(path, scene(5, 480, 640))
    # The last one left is no copy of anything.
    assert index.duplicates() == []
    assert index.stale() == {str(large): fate, str(tmp_path / "p" / "c.png"): fate}
    assert small.exists()


def test_a_file_that_was_only_touched_is_there(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / "p" / name, scene(0, 240, 320))
    index.add([tmp_path / "p"])
    os.utime(tmp_path / "p" / "a.png", (1000, 1000))
    (group,) = index.duplicates()
    assert [Path(copy.path).name for copy in group] == ["a.png", "b.png"]
    assert index.stale() == {}


def test_pictures_with_bars_are_compared_by_what_is_inside(
    index: Index, tmp_path: Path, write: Write, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bars alone make all thumbnails alike: each pair would be matched in several ways."""
    for number in range(12):
        bars = cv2.copyMakeBorder(scene(number, 120, 240), 60, 60, 0, 0, cv2.BORDER_CONSTANT)
        write(tmp_path / "p" / f"{number}.png", np.asarray(bars, np.uint8))
    index.add([tmp_path / "p"])
    monkeypatch.setattr("covis.search.copy_candidates.MIN_SIMILARITY_POOLED", 2)
    pairs = list(find_candidates(index.store, np.ones(12, bool), None))
    assert len(pairs) < 10
    assert index.duplicates() == []
