"""Help, and the spellings of options, of every command."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from covis.cli import app

Run = Callable[..., Result]


def commands(of: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(of, "commands", None)
    if inner is None:
        yield path
    for name, command in (inner or {}).items():
        yield from commands(command, (*path, name))


def options(path: tuple[str, ...]) -> dict[str, list[str]]:
    """The spellings of each option, by its first one."""
    command: Any = get_command(app)
    for name in path:
        command = command.commands[name]
    given = [p.opts for p in command.params if p.param_type_name == "option"]
    return {max(names, key=lambda name: name.startswith("--")): names for names in given}


ALL = list(commands(get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_names_no_types_of_python(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert not re.search(r"<[a-z]|[{}]|list\[|\b(INTEGER|FLOAT|TEXT|PATH)\b", result.output)
    arguments = re.search(r"^Usage: covis [a-z -]+ \[OPTIONS\](.*)$", result.output, re.M)
    assert arguments is not None
    assert arguments[1] == arguments[1].upper()
    assert "...." not in result.output


def test_what_is_written_is_output_everywhere() -> None:
    """And `--out` is taken as well; help shows one spelling."""
    writing = {path: options(path)["--output"] for path in ALL if "--output" in options(path)}
    assert len(writing) >= 19
    for path, names in writing.items():
        assert {"-o", "--output", "--out"} <= set(names), path
        assert "--out," not in CliRunner().invoke(app, [*path, "--help"]).output
    assert not any("--out" in options(path) for path in ALL)


@pytest.mark.parametrize("command", ["add", "search", "remove"])
def test_a_store_is_taken_by_each_of_its_names(command: str) -> None:
    (names,) = (names for names in options((command,)).values() if "--store" in names)
    assert {"--to", "--in", "--from", "--store"} == set(names)


def test_photos_to_train_on_have_one_name() -> None:
    for path in ALL:
        # Scenes are rendered with photographs, not trained on them.
        if path[0] == "train" and path[1] != "scenes":
            assert options(path)["--photos"] == ["--photos", "--images"]


def test_old_spellings_work(covis: Run, pair: tuple[Path, Path]) -> None:
    listed = Path("pairs.txt")
    listed.write_text(f"{pair[0]} {pair[1]}\n")
    done = covis("match-many", "--pairs", listed, "--out", "done", "--draw", "--features", "sift")
    assert done.exit_code == 0, done.output
    assert list(Path("done", "drawings").iterdir())


def test_shells_can_complete_commands() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output
    asked = {"_COVIS_COMPLETE": "complete_bash", "COMP_WORDS": "covis mat", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], env=asked, prog_name="covis")
    assert result.output.split() == ["match", "match-many"]
