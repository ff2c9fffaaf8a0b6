"""The entry point: help, versions, and how mistakes end."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import Result

import covis.dense
import covis.sfm
from covis import __version__
from covis.cli import dense, locate, map, match, match_many, options, search
from covis.options import AUTO_DENSE, Effort, MatchOptions, Rotate
from covis.types import GeometryKind

Run = Callable[..., Result]

HEAVY = ("numpy", "cv2", "onnxruntime", "PIL", "poselib", "torch", "rich")


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import sys
from covis.cli import app
app(["--help"], standalone_mode=False)
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "match-many" in run.stdout
    assert "heavy: []" in run.stdout


def test_python_dash_m_tells_a_mistake_in_one_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "covis", "match", "x.jpg", "y.jpg", "--features", "sift"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "covis: x.jpg: no such file; check the path.\n"


def test_version(covis: Run) -> None:
    assert covis("--version").stdout == f"covis {__version__}\n"


def test_no_command_shows_help(covis: Run) -> None:
    assert "Usage: covis" in covis().output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["match", "a.png"],
        ["match", "a.png", "b.png", "--matcher", "magic"],
        ["match", "a.png", "b.png", "--max-keypoints", "0"],
        ["match", "a.png", "b.png", "--max-size", "-1"],
        ["match", "a.png", "b.png", "--seed", "-1"],
        ["--nonsense"],
        ["weights", "nonsense"],
        ["export", "map", "model"],
        ["remove", "--from", "store"],
    ],
)
def test_exception_for_wrong_options_is_one_line_with_2(covis: Run, arguments: list[str]) -> None:
    result = covis(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"covis: [a-z].*[^.]\.\n", result.stderr) is not None, result.stderr


def test_exception_for_a_mistake_says_where_to_read(covis: Run) -> None:
    assert covis("match").stderr == ("covis: missing argument 'IMAGE0'. See covis match --help.\n")
    assert covis("search", "a.png", "--in", "s", "--budget", "7q").stderr == (
        "covis: invalid value for --budget: '7q' is no time; give for example 500ms, 2s or none. "
        "See covis search --help.\n"
    )


def test_exception_for_no_choice_names_the_choices(covis: Run) -> None:
    told = covis("match", "a.png", "b.png", "--geometry", "foo").stderr
    assert told.startswith("covis: invalid value for '--geometry': 'foo' is not one of ")
    assert "'essential'" in told


def match_with(
    error: type[BaseException], covis: Run, pair: tuple[Path, Path], patch: pytest.MonkeyPatch
) -> Result:
    """What `covis match` does where matching raises an error."""

    def broken(*_: object, **__: object) -> None:
        raise error

    patch.setattr("covis.api.match", broken)
    return covis("match", *pair)


def test_control_c_exits_in_one_line_with_130(
    covis: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = match_with(KeyboardInterrupt, covis, pair, monkeypatch)
    assert (result.exit_code, result.output) == (130, "covis: stopped; run it again to go on.\n")


def test_sigterm_ends_as_control_c_does_with_143(
    covis: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("covis.api.match", terminated)
    try:
        result = covis("match", *pair)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.exit_code, result.output) == (143, "covis: stopped; run it again to go on.\n")


def test_what_nobody_expected_keeps_its_traceback(
    covis: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = match_with(ZeroDivisionError, covis, pair, monkeypatch)
    assert isinstance(result.exception, ZeroDivisionError)


def test_options_offer_what_the_library_takes() -> None:
    taken = {each.name: each.default for each in fields(MatchOptions)}
    left_to_covis = {
        "matcher": options.DEFAULT_MATCHER,
        "max_keypoints": options.DEFAULT_MAX_KEYPOINTS,
        "max_size": options.DEFAULT_MAX_SIZE,
    }
    for command in (match.command, match_many.command):
        offered = inspect.signature(command).parameters
        for name, default in taken.items():
            assert offered[name].default == left_to_covis.get(name, default)
    assert get_args(get_args(options.Rotate)[0]) == get_args(Rotate)
    assert get_args(get_args(options.Effort)[0]) == get_args(Effort)
    assert get_args(get_args(options.Geometry)[0]) == get_args(GeometryKind)
    for command, does, name in (
        (dense.match_command, covis.dense.match, "model"),
        (dense.discover_command, covis.dense.discover, "tau"),
        (search.command, covis.Index.search, "candidates"),
        (locate.command, covis.sfm.Locator, "neighbours"),
        (map.command, covis.sfm.MapOptions, "neighbours"),
        (map.command, covis.sfm.MapOptions, "overlap"),
        (map.command, covis.sfm.MapOptions, "distance"),
        (map.command, covis.sfm.MapOptions, "camera_model"),
    ):
        of_command, of_library = (inspect.signature(each).parameters for each in (command, does))
        assert of_command[name].default == of_library[name].default
    assert inspect.signature(dense.show_command).parameters["model"].default == AUTO_DENSE


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "covis", *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    name = "a\x1b[31m\x07\nb.jpg"
    result = run_process("match", tmp_path / name, tmp_path / "c.jpg")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert r"a\x1b[31m\x07\x0ab.jpg" in result.stderr


def test_what_the_system_refuses_is_one_line(
    covis: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/closed/bundle.json")

    monkeypatch.setattr("covis.api.match", refuse)
    result = covis("match", *pair)
    assert (result.exit_code, result.stderr) == (
        2,
        "covis: /closed/bundle.json: Permission denied; check its rights and its disk.\n",
    )
