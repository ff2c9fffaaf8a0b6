"""The entry point: help, versions, and how mistakes end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import Result

from covis import __version__
from covis.api import Rotate
from covis.cli import dense, options
from covis.dense.features import DEFAULT_DENSE, FINE_DENSE
from covis.dense.object_discovery import TAU
from covis.features.extractor import DEFAULT_MAX_SIZE
from covis.matching.matcher import DEFAULT_MATCHER
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
    ],
)
def test_exception_for_wrong_options_exits_with_2(covis: Run, arguments: list[str]) -> None:
    assert covis(*arguments).exit_code == 2


def test_exception_for_no_choice_names_the_choices(covis: Run) -> None:
    told = covis("match", "a.png", "b.png", "--geometry", "foo").stderr.splitlines()[-1]
    assert told.startswith("Error: Invalid value for '--geometry': 'foo' is not one of ")
    assert "'essential'" in told


def test_control_c_exits_quietly_with_130(
    covis: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("covis.api.match", interrupted)
    result = covis("match", *pair)
    assert (result.exit_code, result.output) == (130, "")


def test_what_nobody_expected_keeps_its_traceback(
    covis: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("covis.api.match", broken)
    assert isinstance(covis("match", *pair).exception, ZeroDivisionError)


def test_options_offer_what_the_library_takes() -> None:
    assert get_args(options.RotateChoice) == get_args(Rotate)
    assert options.DEFAULT_MATCHER == DEFAULT_MATCHER
    assert get_args(options.GeometryChoice) == get_args(GeometryKind)
    assert options.DEFAULT_MAX_SIZE == DEFAULT_MAX_SIZE
    assert (dense.DEFAULT_DENSE, dense.FINE_DENSE) == (DEFAULT_DENSE, FINE_DENSE)
    assert dense.DEFAULT_TAU == TAU
