"""What `import covis` offers: to completion, to type checkers, and without loading the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import covis

SOURCE = Path(covis.__file__).parents[1]


def python(code: str, *arguments: str, **variables: str) -> str:
    """What a fresh process prints."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)} | variables
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["sfm.Map", "dense.match", "search.Index", "convert.opencv"])
def test_packages_are_there_after_the_import(name: str) -> None:
    code = f"import covis; print(covis.{name}.__name__)"
    assert python(code).rpartition(".")[2] == name.rpartition(".")[2]


def test_completion_sees_every_public_name() -> None:
    listed = python("import covis; print(*dir(covis))").split()
    assert set(covis.__all__) <= set(listed)
    assert {"match", "Index", "sfm", "dense", "search", "convert"} <= set(listed)


def test_the_import_loads_nothing_else() -> None:
    code = """
import sys
before = set(sys.modules)
import covis
dir(covis)
print(*sorted({name for name in set(sys.modules) - before if name.startswith("covis")}))
print("numpy" in sys.modules)
"""
    assert python(code).splitlines() == ["covis", "False"]


def test_exception_for_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'none'"):
        covis.none  # noqa: B018


USER = """
import covis

reveal_type(covis.match("a.jpg", "b.jpg"))
reveal_type(covis.Index("store").search("query.jpg").hits[0].path)
reveal_type(covis.sfm.Map.open)
reveal_type(covis.Matcher()(covis.Extractor()("a.jpg"), covis.Extractor()("b.jpg")).points0)
"""


@pytest.mark.slow
def test_a_users_type_checker_sees_the_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir=cache", "user.py"]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    revealed = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    expected = ("covis.types.Matches", "str", "covis.sfm.map.Map", "numpy.floating")
    assert len(revealed) == len(expected), done.stdout + done.stderr
    for line, kind in zip(revealed, expected, strict=True):
        assert kind in line
        assert '"Any"' not in line
