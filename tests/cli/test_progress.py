"""Bars on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from covis.cli.progress import StageBars, progress


@pytest.fixture
def errors(monkeypatch):
    """Makes the error output a terminal or a pipe; gives what was written to it."""
    written = io.StringIO()

    def become(terminal):
        console = Console(file=written, force_terminal=terminal, width=100)
        monkeypatch.setattr("rich.console.Console", lambda **given: console)
        return written

    return become


def test_a_bar_for_each_stage(errors):
    written = errors(True)
    with StageBars() as bars:
        bars("features", 1, 3)
        bars("features", 3, 3)
        bars("matches", 7, None)
    assert "features" in written.getvalue()
    assert "3/3" in written.getvalue()
    assert "7/?" in written.getvalue()


def test_nothing_elsewhere(errors):
    written = errors(False)
    with StageBars() as bars:
        bars("features", 1, 3)
    with progress() as report:
        report(1, 2)
    assert written.getvalue().strip() == ""
