"""No function grows beyond what one reads at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 80
"""Lines of a function, its signature and docstring included."""
MOST_OF_COMMANDS = 60
"""Lines of the body of `covis.match` and of each command."""


def functions(folder: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def lines(first: ast.stmt, last: ast.stmt) -> int:
    assert last.end_lineno is not None
    return last.end_lineno - first.lineno + 1


def test_no_function_is_too_long():
    measured = {
        name: lines(node, node)
        for folder in ("src", "benchmarks", "examples")
        for name, node in functions(ROOT / folder)
    }
    assert len(measured) > 1000
    assert {name: count for name, count in measured.items() if count > MOST} == {}


def test_commands_and_match_are_short():
    measured = {
        name: lines(node.body[0], node.body[-1])
        for name, node in functions(ROOT / "src" / "covis")
        if "/cli/" in name or name.endswith("api.py:match")
    }
    assert any(name.endswith("api.py:match") for name in measured)
    assert {name: count for name, count in measured.items() if count >= MOST_OF_COMMANDS} == {}
