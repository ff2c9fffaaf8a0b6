"""Sentences that several rooms say."""

from __future__ import annotations

from covis.messages import counted, differences


def test_counted() -> None:
    assert counted(1, "picture") == "1 picture"
    assert counted(0, "picture") == "0 pictures"
    assert counted(1200, "match", "matches") == "1,200 matches"
    assert counted(1, "match", "matches") == "1 match"


def test_differences_leave_out_what_follows_from_others() -> None:
    then = {"features": "a", "weights": "12", "max_size": None, "seed": 0}
    now = {"features": "b", "weights": "", "max_size": 960, "seed": 0}
    follows = {"weights": "features"}
    assert differences(then, now, follows) == [
        "features a then, b now",
        "max size none then, 960 now",
    ]
    now["features"] = "a"
    assert differences(then, now, follows)[0] == "weights 12 then, none now"
    assert differences(then, then, follows) == []
