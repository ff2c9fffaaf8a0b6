"""`covis map` as a user types it."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from covis.cli import app


@pytest.fixture
def covis(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.usefixtures("colmap")
def test_map_places_photos_and_says_so(covis, scene, tmp_path):
    options = ("--camera-model", "PINHOLE", "--camera-params", "420,420,240,180")
    more = ("--max-keypoints", 800, "--export", "nerfstudio", "--export", "ply", "--draw", "m.png")
    result = covis("map", scene.folder, "-o", "model", *options, *more)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("7 of 7 photos placed, ")
    assert "21 pairs matched (21 now)" in lines[1]
    assert "features" in lines[1]
    assert (tmp_path / "m.png").exists()
    assert (tmp_path / "model" / "export" / "nerfstudio" / "transforms.json").exists()
    again = covis("map", scene.folder, "-o", "model", "--json")
    found = json.loads(again.stdout)
    assert (found["registered"], found["new_pairs"], found["models"]) == (7, 0, [7])


def test_a_map_is_exported_without_its_photos(covis, mapped, tmp_path):
    model = shutil.copytree(mapped[0], tmp_path / "model")
    result = covis("export", "map", "model", "ply", "nerfstudio", "ply")
    assert result.exit_code == 0, result.output
    folder = model / "export"
    expected = [folder / "ply" / "points.ply", folder / "nerfstudio" / "transforms.json"]
    assert [tmp_path / line for line in result.stdout.splitlines()] == expected
    frames = json.loads(expected[1].read_text("utf-8"))["frames"]
    assert len(frames) == 7
    for arguments, words in (
        (("model", "obj"), "no export 'obj'"),
        (("none", "ply"), "none: no map there"),
    ):
        result = covis("export", "map", *arguments)
        assert (result.exit_code, words in result.stderr) == (2, True)


@pytest.mark.usefixtures("colmap")
def test_map_tells_what_became_of_photos(covis, scene, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(1, 6):
        shutil.copy2(scene.folder / f"{number}.png", photos)
    options = ("--camera-model", "PINHOLE", "--camera-params", "420,420,240,180")
    assert covis("map", photos, "-o", "m", "--max-keypoints", 500, *options).exit_code == 0
    (photos / "1.png").unlink()
    (photos / "2.png").rename(photos / "b.png")
    result = covis("map", photos, "-o", "m", *options, "--no-refine-keypoints")
    assert result.exit_code == 0, result.output
    told = result.stderr.splitlines()
    assert told == [
        "covis: 1 photo gone, dropped: 1.png.",
        "covis: 1 photo renamed: 2.png is b.png.",
    ]
    assert result.stdout.startswith("4 of 4 photos placed, ")


@pytest.mark.usefixtures("colmap")
def test_map_tells_mistakes_in_a_line(covis, scene):
    for arguments, words in (
        (("none", "-o", "m"), "none: no such folder of photos"),
        ((scene.folder, "-o", "m", "--pairs", "all"), "neither a file nor a way"),
        ((scene.folder, "-o", "m", "--export", "obj"), "no export 'obj'"),
        ((scene.folder, "-o", "m", "--camera-params", "a,b"), "numbers with commas"),
        ((scene.folder, "-o", "m", "--camera-model", "PINHOL"), "no camera model 'PINHOL'"),
    ):
        result = covis("map", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("covis: ")
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
