"""Models that are damaged, in binary and in text, are an error in one line."""

from __future__ import annotations

import shutil
import struct

import pytest

from covis.errors import ArgumentError
from covis.sfm import Map, MapOptions, build_map
from covis.sfm.map import read_model
from covis.sfm.model_files import check_binary_model

pytestmark = pytest.mark.usefixtures("colmap")

FILES = ("cameras.bin", "rigs.bin", "frames.bin", "images.bin", "points3D.bin")


@pytest.fixture
def model(mapped, tmp_path):
    return shutil.copytree(mapped[0] / "sparse" / "0", tmp_path / "model")


def test_whole_models_are_taken(model):
    check_binary_model(model)
    assert read_model(model).num_reg_images() == 7


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_exception_for_a_file_that_is_cut(model, name, share):
    path = model / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(ArgumentError, match=rf"model: .*\({name} is cut short\); take it from"):
        read_model(model)


@pytest.mark.parametrize("name", FILES)
def test_exception_for_counts_and_lengths_that_are_none(model, name):
    path = model / name
    whole = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**60) + whole[8:])
    with pytest.raises(ArgumentError, match=f"{name} is cut short"):
        read_model(model)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ArgumentError, match=f"{name} goes on after its end"):
        read_model(model)


@pytest.mark.parametrize(
    ("name", "at"), [("cameras.bin", 32), ("frames.bin", 16), ("images.bin", 12)]
)
def test_exception_for_numbers_that_are_none(model, name, at):
    _overwrite(model / name, at, struct.pack("<d", float("nan")))
    with pytest.raises(ArgumentError, match=f"{name} has numbers that are none"):
        read_model(model)


def test_exception_for_points_that_are_nowhere(model):
    _overwrite(model / "points3D.bin", 16, struct.pack("<d", float("inf")))
    with pytest.raises(ArgumentError, match=r"points3D\.bin has points that are nowhere"):
        read_model(model)


def test_exception_for_a_camera_model_that_there_is_not(model):
    _overwrite(model / "cameras.bin", 12, struct.pack("<i", 77))
    with pytest.raises(ArgumentError, match="a camera model 77, which there is not"):
        read_model(model)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cameras.txt", lambda line: " ".join(line.split()[:3])),
        ("images.txt", lambda line: " ".join(line.split()[:5])),
        ("images.txt", lambda line: line.replace(line.split()[2], "nan")),
        ("points3D.txt", lambda line: f"{line} 99 7"),
        ("points3D.txt", lambda line: f"{line} 1 99999"),
        ("frames.txt", lambda line: ""),
    ],
)
def test_exception_for_text_that_does_not_fit(model, name, change, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    read_model(model).write_text(str(text))
    lines = (text / name).read_text().splitlines()
    first = next(at for at, line in enumerate(lines) if not line.startswith("#"))
    lines[first] = change(lines[first])
    (text / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(ArgumentError, match=r"text: no COLMAP model, or a damaged one \(.+\); "):
        read_model(text)


def test_a_damaged_model_of_its_own_is_told_and_made_anew(mapped, scene, tmp_path):
    folder = shutil.copytree(mapped[0], tmp_path / "map")
    points = folder / "sparse" / "0" / "points3D.bin"
    points.write_bytes(b"")  # As a full disk left it.
    with pytest.raises(ArgumentError, match=r"points3D\.bin is cut short"):
        Map.open(folder)
    with pytest.raises(ArgumentError, match=r"points3D\.bin is cut short.* map anew: --afresh"):
        build_map(scene.folder, folder)
    assert build_map(scene.folder, folder, options=MapOptions(afresh=True)).registered == 7
    assert points.stat().st_size > 1000


def _overwrite(path, at, value):
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
