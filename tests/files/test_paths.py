"""One path is a list of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from covis.errors import ArgumentError
from covis.files.paths import listed


@pytest.mark.parametrize("one", ["photos/a.jpg", Path("photos/a.jpg")])
def test_one_path_is_a_list_of_one(one: str | Path) -> None:
    assert listed(one) == [one]
    assert listed([one, "b.jpg"]) == [one, "b.jpg"]
    assert listed(iter([one])) == [one]
    assert listed(()) == []


@pytest.mark.parametrize("empty", ["", [""], ["a.jpg", ""]])
def test_exception_for_an_empty_path(empty: str | list[str]) -> None:
    with pytest.raises(ArgumentError, match="empty path"):
        listed(empty)
