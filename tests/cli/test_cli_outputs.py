"""No command writes over what it reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from covis.cli.outputs import check_drawing, check_output
from covis.errors import ArgumentError, ImageError

Run = Callable[..., Result]


@pytest.mark.parametrize(
    "command",
    [
        ("match", "a.png", "b.png", "--features", "sift", "-o", "a.png"),
        ("match", "a.png", "b.png", "--features", "sift", "-o", "b.png"),
        ("match", "a.png", "b.png", "--features", "sift", "--mask1", "m.png", "-o", "m.png"),
        ("search", "a.png", "--in", "store", "-o", "a.png"),
        ("dense", "match", "a.png", "b.png", "-o", "b.png"),
        ("dense", "show", "a.png", "-o", "a.png"),
        ("dense", "discover", "a.png", "-o", "a.png"),
        ("locate", "a.png", "--in", "map", "-o", "a.png"),
    ],
    ids=lambda command: " ".join(command[:-1]),
)
def test_an_input_is_not_written_over(
    covis: Run, pair: tuple[Path, Path], command: tuple[str, ...]
) -> None:
    Path("m.png").write_bytes(pair[0].read_bytes())
    output = Path(command[-1])
    before = output.read_bytes()
    result = covis(*command)
    assert result.exit_code == 2
    assert "must not be written over" in result.stderr
    assert str(output) in result.stderr
    assert output.read_bytes() == before


def test_a_map_is_not_drawn_over_a_photo(covis: Run, pair: tuple[Path, Path]) -> None:
    pytest.importorskip("pycolmap", reason="maps need pycolmap: covis[map]")
    before = pair[0].read_bytes()
    result = covis("map", pair[0].parent, "-o", "model", "--draw", "a.png")
    assert result.exit_code == 2
    assert "must not be written over" in result.stderr
    assert pair[0].read_bytes() == before


@pytest.mark.parametrize("out", ["truth", "masks"])
def test_masks_are_not_written_over(covis: Run, pair: tuple[Path, Path], out: str) -> None:
    from covis.dense import write_mask
    from covis.images.decode import load_image

    for folder in ("clip", "truth", "masks"):
        Path(folder).mkdir()
    os.rename(pair[0], "clip/0.png")
    labels = load_image("clip/0.png").pixels[:, :, 0] > 127
    for folder in ("truth", "masks"):
        write_mask(Path(folder) / "0.png", 255 * labels)
    before = Path(out, "0.png").read_bytes()
    result = covis("dense", "propagate", "clip", "--mask", "masks/0.png", "--truth", "truth",
                   "-o", out)  # fmt: skip
    assert result.exit_code == 2
    assert "must not be written over" in result.stderr
    assert Path(out, "0.png").read_bytes() == before


def test_other_names_of_an_input_are_seen(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photo")
    (tmp_path / "symbolic.jpg").symlink_to(photo)
    os.link(photo, tmp_path / "hard.jpg")
    for name in ("photo.jpg", "symbolic.jpg", "hard.jpg", f"../{tmp_path.name}/photo.jpg"):
        with pytest.raises(ArgumentError, match="must not be written over"):
            check_output(tmp_path / name, None, photo)


def test_a_file_in_a_folder_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "deeper" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"a photo")
    with pytest.raises(ArgumentError, match="must not be written over"):
        check_output(photo, tmp_path / "photos")
    check_output(photo, tmp_path / "others")
    check_output(tmp_path / "photos" / "new.jpg", tmp_path / "photos")
    check_output(tmp_path / "photos" / "deeper", tmp_path / "photos")


def test_drawings_are_checked_as_well(tmp_path: Path) -> None:
    check_drawing(None, tmp_path)
    check_drawing(tmp_path / "new.png", tmp_path)
    with pytest.raises(ImageError, match="suffix"):
        check_drawing(tmp_path / "new.xyz")
