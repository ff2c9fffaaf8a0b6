"""examples/map_and_locate.py on the rendered scene."""

from __future__ import annotations

from helpers.examples import run_example


def test_map_and_locate(colmap, scene, another, tmp_path):
    lines = run_example("map_and_locate", scene.folder, another[0], tmp_path / "model")
    assert lines[0].startswith("7 of 7 photos placed")
    assert lines[-1].startswith("confidence ")
