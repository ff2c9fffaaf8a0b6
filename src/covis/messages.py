"""What is said in several rooms, in the same words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def counted(count: int, word: str, words: str | None = None) -> str:
    """A number and its noun: 1 picture, 2 pictures; `words` for plurals that take no s."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def turned(turn: int, mirrored: bool) -> list[str]:
    """How one picture stands to another, a phrase each; none for upright."""
    words = ["mirrored"] if mirrored else []
    return [*words, f"turned by {turn} degrees"] if turn else words


def extra(name: str) -> str:
    """How to install an extra."""
    return f"in covis' folder: python -m pip install '.[{name}]'"


def not_there(path: str | os.PathLike[str], what: str = "file") -> str:
    """The sentence for a path that does not exist."""
    return f"{os.fspath(path)}: no such {what}; check the path."


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any], follows: Mapping[str, str]
) -> list[str]:
    """What differs between two runs' settings, a phrase each.

    follows: settings that depend on another one, and are not worth a word where that differs.
    """

    def differ(name: str | None) -> bool:
        return name is not None and then.get(name) != now.get(name)

    def said(value: Any) -> str:
        return "none" if value in (None, "") else str(value)

    return [
        f"{name.replace('_', ' ')} {said(then.get(name))} then, {said(value)} now"
        for name, value in now.items()
        if differ(name) and not differ(follows.get(name))
    ]
