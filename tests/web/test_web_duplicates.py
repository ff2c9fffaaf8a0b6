"""The page Duplicates, in a browser: groups, a list, a move, and its undoing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.browser import Page


@pytest.mark.slow
def test_copies_are_shown_listed_moved_and_brought_back(browser, server, album, tmp_path):
    folder = album
    page = Page(browser, server.url)
    page.open("duplicates")
    page.pick("store", "album.covis")
    page.press("Look for copies")
    cards = page.wait(lambda: page.all(".group .card"))
    assert len(page.all(".group")) == 1
    assert "best" in cards[0].text
    told = {name: card.text for card in cards for name in
            ("street0.png", "small.jpg", "turned.png") if name in card.text}  # fmt: skip
    assert set(told) == {"street0.png", "small.jpg", "turned.png"}
    assert "50 % of its size" in told["small.jpg"]
    best = "street0.png" if "best" in told["street0.png"] else "turned.png"
    turned = told["turned.png" if best == "street0.png" else "street0.png"]
    assert "turned by" in turned
    assert not page.button("Choose none").get_attribute("disabled")
    page.press("Choose all but the best")
    page.press("Move 2 files")
    assert len(list(folder.iterdir())) == 4  # The first click only asks.
    page.one("[data-sure]").click()
    assert page.one("[data-moved]").get_attribute("data-moved") == "2"
    assert {path.name for path in folder.iterdir()} == {best, "street1.png"}
    (moved,) = Path(f"{album}.covis-moved").iterdir()
    journal = [json.loads(line) for line in (moved / "moved.jsonl").read_text().splitlines()]
    assert {line["from"] for line in journal} == {
        str(folder / name) for name in told if name != best
    }
    browser.refresh()  # It can still be undone.
    page.button("Undo the move")
    assert [card.is_displayed() for card in page.all(".group .card")].count(True) == 1
    page.press("Undo the move")
    assert page.one("[data-back]").get_attribute("data-back") == "2"
    assert len(list(folder.iterdir())) == 4
    assert page.complaints() == []

    # What the page would not ask: all of a group, others' files, no second click.
    job = browser.current_url.rpartition("/")[2]
    group = server.said(f"/api/jobs/{job}")["answer"]["groups"][0]
    ids = [copy["image"] for copy in group]
    for body in (
        {"images": ids, "sure": True}, {"images": ["0" * 24], "sure": True},
        {"images": ids[1:]}, {"images": []}, {"images": "x"},
    ):  # fmt: skip
        assert server.ask(f"/api/duplicates/{job}/move", body)[0] == 400, body
    assert len(list(folder.iterdir())) == 4
    status, headers, content = server.ask(f"/api/duplicates/{job}/list", {"images": ids[1:]})
    assert status == 200
    assert "duplicates.txt" in headers["Content-Disposition"]
    assert content.decode().splitlines() == [copy["path"] for copy in group[1:]]

    # Nor what is left of a group after a move.
    server.said(f"/api/duplicates/{job}/move", {"images": ids[1:], "sure": True})
    status, _, content = server.ask(
        f"/api/duplicates/{job}/move", {"images": ids[:1], "sure": True}
    )
    assert status == 400
    assert b"keep one of each group" in content
    assert server.said(f"/api/duplicates/{job}/undo", {})["back"] == 2
    assert len(list(folder.iterdir())) == 4

    # Nothing is written over: what came in a file's place stays, and the file, too.
    server.said(f"/api/duplicates/{job}/move", {"images": ids[1:2], "sure": True})
    taken = group[1]["path"]
    (tmp_path / "other").write_text("other")
    shutil.move(tmp_path / "other", taken)
    undone = server.said(f"/api/duplicates/{job}/undo", {})
    assert undone["back"] == 0
    assert "something else is there now" in undone["failed"][0]
    assert Path(taken).read_text() == "other"
