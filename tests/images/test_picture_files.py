"""Which files are pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from covis.errors import ArgumentError, ImageError
from covis.images import heic
from covis.images.decode import load_image
from covis.images.picture_files import (
    PICTURE_SUFFIXES,
    pictures_below,
    pictures_in,
    pictures_to_pair,
    read_pairs,
    walk_pictures,
)


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES - {".heic", ".heif"}))
def test_what_is_listed_can_be_read(suffix: str, tmp_path: Path) -> None:
    """Pillow reads HEIC with a plug-in only; a file of it gets a line that says so."""
    PIL.Image.init()
    kind = PIL.Image.registered_extensions().get(suffix)
    if kind not in PIL.Image.SAVE:
        pytest.skip(f"this Pillow has no {suffix}")
    pixels = np.full((20, 30, 3), 255, np.uint8)
    mode = "1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB"
    PIL.Image.fromarray(pixels).convert(mode).save(tmp_path / f"a{suffix}")
    assert load_image(tmp_path / f"a{suffix}").pixels.min() >= 250


def test_heic_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic._registered.cache_clear()
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ImageError, match=r"a\.HEIC: reading HEIC needs pillow-heif.*'\.\[heic\]'"):
        load_image(tmp_path / "a.HEIC")
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "none.heic")
    heic._registered.cache_clear()


def test_pairs_are_read_with_spaces_quotes_tabs_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(
        '# comment\n\na.jpg  b#1.jpg\n"my a.jpg" b.jpg\nmy a.jpg\tmy b.jpg\n/x/a.jpg sub/b.jpg\n'
    )
    assert read_pairs(path) == [
        (tmp_path / "a.jpg", tmp_path / "b#1.jpg"),
        (tmp_path / "my a.jpg", tmp_path / "b.jpg"),
        (tmp_path / "my a.jpg", tmp_path / "my b.jpg"),
        (Path("/x/a.jpg"), tmp_path / "sub/b.jpg"),
    ]


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg b.jpg c.jpg", "a.jpg\t"])
def test_exception_for_a_line_that_is_no_pair(line: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"a.jpg b.jpg\n{line}\n")
    with pytest.raises(ArgumentError, match="line 2"):
        read_pairs(path)


def test_exception_for_pairs_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no such file; check the path"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(ArgumentError, match="cannot read the pairs"):
        read_pairs(tmp_path)


def test_pictures_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.png", "b.JPG"]


def test_exception_for_a_folder_without_pairs(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="0 pictures"):
        pictures_to_pair(tmp_path)
    with pytest.raises(ArgumentError, match="no such folder"):
        pictures_to_pair(tmp_path / "none")


def test_pictures_are_walked_by_name_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.PNG", ".h/x.jpg", ".x.jpg", "s.lance/x.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(path, tmp_path) for path in walk_pictures([tmp_path])]
    assert found == ["b.jpg", os.path.join("a", "z.PNG")]
    assert list(walk_pictures([tmp_path / "notes.txt"])) == [str(tmp_path / "notes.txt")]


def test_less_common_names_are_pictures_too(tmp_path: Path) -> None:
    names = ["a.JFIF", "b.jpe", "c.jp2", "d.ppm", "e.tga", "f.mpo"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in pictures_in(tmp_path)] == names
    assert [os.path.basename(path) for path in walk_pictures([tmp_path])] == names


def test_pictures_below_a_folder_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.png", "c/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / "a" / "z.png", tmp_path / "b.jpg", tmp_path / "c" / "y.png"]
    assert pictures_below(tmp_path) == expected
    assert pictures_below(tmp_path / "none") == []


def relative(paths: Iterable[str], root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in paths]


def test_linked_folders_are_walked_once_and_last(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for path in (root / "z" / "a.jpg", root / "b.jpg", other / "c.jpg"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (root / "again").symlink_to(root / "z")
    (root / "elsewhere").symlink_to(other)
    (other / "loop").symlink_to(root)
    found = relative(walk_pictures([root]), root)
    assert found == ["b.jpg", os.path.join("z", "a.jpg"), os.path.join("elsewhere", "c.jpg")]


def test_thumbnails_of_storage_boxes_are_left_out_and_told(tmp_path: Path) -> None:
    for name in ("a.jpg", "@eaDir/a.jpg", "#recycle/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told: list[str] = []
    assert relative(walk_pictures([tmp_path], told.append), tmp_path) == ["a.jpg"]
    assert [line.split(" is left out: ")[0] for line in told] == [
        str(tmp_path / "#recycle"),
        str(tmp_path / "@eaDir"),
    ]


def test_folders_that_may_not_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[str] = []
    assert relative(walk_pictures([tmp_path], told.append), tmp_path) == ["a.jpg"]
    assert told == [f"{tmp_path / 'closed'} is left out: Permission denied."]
    with pytest.raises(ArgumentError, match=r"no pictures there .* Permission denied"):
        walk_pictures([tmp_path / "closed"])
