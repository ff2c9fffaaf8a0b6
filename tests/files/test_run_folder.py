"""Folders that runs share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from covis.errors import ArgumentError, CovisError
from covis.files.run_folder import differences, locked, run_folder

SETTINGS = {"features": "xfeat", "seed": 0}


def test_a_folder_is_made_and_taken_again_with_the_same_settings(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with run_folder(out, SETTINGS, ("matches", "drawings"), {}):
        assert json.loads((out / "settings.json").read_text()) == SETTINGS
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [
            "drawings",
            "matches",
        ]
    (out / "x.npz.1.partial").touch()
    (out / "matches" / "y.npz.1.partial").touch()
    (out / "matches" / "y.npz").touch()
    with run_folder(out, SETTINGS, ("matches",), {}):
        assert not list(out.rglob("*.partial"))
        assert (out / "matches" / "y.npz").exists()


def test_other_or_damaged_settings_are_refused(tmp_path: Path) -> None:
    with run_folder(tmp_path, SETTINGS, (), {}):
        pass
    with (
        pytest.raises(ArgumentError, match=r"other settings \(seed 0 then, 1 now\)"),
        run_folder(tmp_path, SETTINGS | {"seed": 1}, (), {}),
    ):
        pass
    (tmp_path / "settings.json").write_text("[1")
    with (
        pytest.raises(CovisError, match=r"settings\.json is damaged"),
        run_folder(tmp_path, SETTINGS, (), {}),
    ):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CovisError, match="cannot make this folder"),
        run_folder(tmp_path / "file", SETTINGS, ("matches",), {}),
    ):
        pass


def test_one_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        locked(tmp_path),
        pytest.raises(ArgumentError, match="another process"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_differences_leave_out_what_follows_from_others() -> None:
    then = {"features": "a", "weights": "12", "max_size": None, "seed": 0}
    now = {"features": "b", "weights": "", "max_size": 960, "seed": 0}
    follows = {"weights": "features"}
    assert differences(then, now, follows) == [
        "features a then, b now",
        "max size none then, 960 now",
    ]
    now["features"] = "a"
    assert differences(then, now, follows)[0] == "weights 12 then, none now"
    assert differences(then, then, follows) == []
