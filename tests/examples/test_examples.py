"""Each of examples/ runs as it stands, on small pictures made by code."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from helpers.examples import EXAMPLES, run_example

from covis.demo import render_demo

ELSEWHERE = {"map_and_locate"}
"""Run by tests/sfm/test_map_example.py."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """The demo's two views, and a part of the first one beside them."""
    folder = tmp_path_factory.mktemp("examples") / "photos"
    folder.mkdir()
    pair = render_demo((480, 360))
    for name, pixels in (("a.png", pair.image0), ("b.png", pair.image1)):
        cv2.imwrite(str(folder / name), pixels[:, :, ::-1])
    cv2.imwrite(str(folder.parent / "crop.png"), pair.image0[100:300, 120:360, ::-1])
    return folder


def test_match_two_photos(photos, tmp_path):
    drawing = tmp_path / "matches.png"
    lines = run_example("match_two_photos", photos / "a.png", photos / "b.png", drawing)
    assert lines[1].startswith("the same? same")
    assert cv2.imread(str(drawing)) is not None


def test_match_a_folder(photos, tmp_path):
    (line,) = run_example("match_a_folder", photos, tmp_path / "out")
    assert line.startswith("a, b: ")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.npz", "b.npz", "a--b.npz"}


def test_search_a_folder(photos, tmp_path):
    crop = photos.parent / "crop.png"
    lines = run_example("search_a_folder", photos, crop, tmp_path / "photos.covis")
    assert [Path(line.partition(":")[0]).name for line in lines] == ["a.png", "b.png"]


def test_dense_match(photos):
    lines = run_example("dense_match", photos / "a.png", photos / "b.png", "240,180", "100,200")
    assert len(lines) == 3
    assert "cosine" in lines[1]


def test_with_opencv_and_hloc(photos, tmp_path):
    pytest.importorskip("h5py", reason="hloc's files need h5py: covis[train]")
    (line,) = run_example(
        "with_opencv_and_hloc", photos / "a.png", photos / "b.png", tmp_path / "out"
    )
    assert line.split()[1:5] == ["matches", "of", "a.png", "and"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"matches.png", "features.h5", "matches.h5", "pairs.txt"}


def test_every_example_is_run_and_short():
    scripts = sorted(EXAMPLES.glob("*.py"))
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in scripts} <= tested | ELSEWHERE
    assert all(len(path.read_text("utf-8").splitlines()) < 40 for path in scripts)
