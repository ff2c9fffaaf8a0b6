"""Sentences that several rooms say."""

from __future__ import annotations

from covis.messages import counted


def test_counted() -> None:
    assert counted(1, "picture") == "1 picture"
    assert counted(0, "picture") == "0 pictures"
    assert counted(1200, "match", "matches") == "1,200 matches"
    assert counted(1, "match", "matches") == "1 match"
