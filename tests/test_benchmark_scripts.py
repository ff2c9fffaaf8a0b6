"""The scripts of benchmarks/: that they start, and what a wrong command line says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
PARTS = {
    "common",
    "copied_pictures",
    "enlargements",
    "large_store",
    "map_kills",
    "map_places",
    "rendered_room",
    "rendered_walls",
}
"""What scripts import."""
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in PARTS)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_docstring(script: str) -> None:
    pytest.importorskip("torch", reason="verdict.py reads covis.training: covis[train]")
    result = run(script, "--help")
    assert result.returncode == 0, result.stderr
    first = (FOLDER / f"{script}.py").read_text("utf-8").splitlines()[0].removeprefix('"""')
    assert first in result.stdout
    assert "options:" in result.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("lightglue", ["--parts", "speed,nope"], "no part 'nope'; there are: speed, adaptive"),
        ("search", ["nope"], "no part 'nope'; there are: adding, memory"),
        ("duplicates", ["nope"], "no part 'nope'; there are: copies, documents, views"),
        ("cross_modal", ["nope"], "no part 'nope'; there are: same, different, frames, dense"),
        ("dense", ["nope"], "no part 'nope'; there are: willow"),
        ("retrieval", ["--methods", "nope"], "no method 'nope'; there are: colours"),
        ("web", ["nope"], "no part 'nope'; there are: start, match, search, scroll, map, clients"),
        ("map", ["--sides", "covis; nope"], "no side 'nope'; there are: covis, covis, SIFT"),
    ],
)
def test_exception_in_one_line(script: str, arguments: list[str], message: str) -> None:
    result = run(script, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
