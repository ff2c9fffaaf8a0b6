"""The page Search, in a browser: a store is made, searched, looked after."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from helpers.browser import Page
from helpers.server import start
from helpers.textures import clouds

pytest.importorskip("starlette")

from covis.errors import CovisError
from covis.search import Index
from covis.web import search_page
from covis.web.access import Access, NoSuchError
from covis.web.described import Described
from covis.web.jobs import Jobs
from covis.web.maps import Maps
from covis.web.shown import Shrunk
from covis.web.site import Site
from covis.web.sources import Sources


@pytest.mark.slow
def test_a_folder_is_added_and_a_box_on_a_picture_is_found_in_it(browser, server, photos):
    from selenium.webdriver import ActionChains, Keys

    store = photos.parent / "street.covis"
    page = Page(browser, server.url)
    page.open("search")
    assert f"{store} is not made yet" in page.one("main").text
    page.press("Add the photos in photos")
    added = page.one("[data-added]").text
    # Of six pictures; one of the others is none, and one leads out of the folder.
    assert added.startswith("6 added, 0 unchanged")
    assert "2 failed" in added
    failed = page.one("[data-added] + div").text
    assert "broken.jpg" in failed
    assert "link.png leads out of" in failed

    page.give(0, photos / "street0.png")
    # A box by keys: made, moved to the right, made smaller, and removed.
    frame = page.one(".drawable")
    frame.send_keys(Keys.ENTER, Keys.ARROW_RIGHT, Keys.SHIFT + Keys.ARROW_UP, Keys.NULL)
    style = page.one(".marked").get_attribute("style")
    assert [round(float(part)) for part in re.findall(r": ([\d.]+)%", style)] == [27, 25, 50, 48]
    frame.send_keys(Keys.ESCAPE)
    assert not page.one(".marked").is_displayed()
    image = page.one(".drawable img")
    width, height = image.size["width"], image.size["height"]
    mouse = ActionChains(browser, 50)
    hint = page.one(".slots + p")
    assert hint.text.startswith("Draw a box")
    mouse.move_to_element(image).click_and_hold().move_by_offset(round(0.3 * width), 2).release()
    mouse.perform()
    assert "too small to look for" in hint.text
    # A box from 20 % to 90 % of either side.
    mouse.move_to_element_with_offset(image, round(-0.3 * width), round(-0.3 * height))
    mouse.click_and_hold().move_by_offset(round(0.7 * width), round(0.7 * height)).release()
    mouse.perform()
    assert page.one(".marked").is_displayed()
    assert hint.text.startswith("Draw a box")
    page.choose("budget", "none")
    # It is made ready meanwhile: once as a whole, and once the box.
    entries = "performance.getEntriesByName(location.origin + '/api/search/ready')"
    script = f"return {entries}.filter((each) => each.responseStatus === 200).length"
    page.wait(lambda: browser.execute_script(script) >= 2)
    page.press("Search")
    cards = page.wait(lambda: page.all('.hits[data-live="false"] .card'))
    assert "show the same" in page.one("[aria-label=Hits] h2").text
    same = next(card for card in cards if str(photos / "street0.png") in card.text)
    assert [card.get_attribute("data-verdict") for card in cards][:2] == ["same", "same"]
    assert "similarity" in same.text
    assert "inliers" in same.text
    # The outline is where the box was drawn.
    points = same.find_element("css selector", "polygon").get_attribute("points")
    x, y = zip(*(map(float, each.split(",")) for each in points.split()), strict=True)
    assert min(x) == pytest.approx(0.2 * 400, abs=10)
    assert max(y) == pytest.approx(0.9 * 300, abs=10)

    page.press("Lines")
    assert int(page.one("dialog canvas[data-drawn]").get_attribute("data-drawn")) > 20
    assert page.one("dialog [data-verdict]").get_attribute("data-verdict") == "same"
    page.press("Close")

    # The answer is there again after a reload, and a hit is searched with.
    browser.refresh()
    page.wait(lambda: page.all('.hits[data-live="false"] .card'))
    assert page.one(".marked").is_displayed()
    page.press("Search with this")
    page.wait(lambda: not page.all(".marked") or not page.one(".marked").is_displayed())
    page.wait(lambda: page.all('.hits[data-live="false"] .card'))

    if not page.one("main > section:last-child details").get_attribute("open"):
        page.press("The store")
    # One is forgotten, on a second click; its file stays.
    held = len(list(photos.iterdir()))
    page.press("Remove")
    page.press("Forget it")
    assert page.one("[data-removed]").text == f"1 file forgotten; {store} holds 5 pictures."
    page.wait(lambda: "holds 5 pictures" in page.one("main > section:last-child").text)
    assert len(list(photos.iterdir())) == held

    page.press("Verify")
    page.wait(lambda: "The store is whole." in page.one("main").text)
    assert page.complaints() == []


@pytest.mark.slow
def test_all_stores_are_searched_at_once_with_more_effort(browser, tmp_path):
    pictures = [clouds(np.random.default_rng(seed), 320, 448, (5, 10, 40)) for seed in range(4)]
    pictures = [np.clip(each / 3 * 255, 0, 255).astype(np.uint8) for each in pictures]
    for store, some in (("one", pictures[:2]), ("two", pictures[2:])):
        (tmp_path / store).mkdir()
        for number, each in enumerate(some):
            cv2.imwrite(str(tmp_path / store / f"{number}.png"), each)
        Index(tmp_path / f"{store}.covis", max_keypoints=300).add(tmp_path / store)
    # One of them turned by 50 degrees and shrunk: more than the features of stores bear.
    matrix = cv2.getRotationMatrix2D((224, 160), 50, 0.4)
    turned = cv2.warpAffine(pictures[1], matrix, (448, 320), flags=cv2.INTER_AREA)
    query = tmp_path / "query.png"
    cv2.imwrite(str(query), turned)
    server = start(tmp_path, *(str(tmp_path / f"{store}.covis") for store in ("one", "two")))
    try:
        page = Page(browser, server.url)
        page.open("search")
        page.give(0, query)
        page.pick("store", "all of them")
        assert "choose it alone" in page.one("main > section:last-child").text
        page.choose("budget", "none")
        page.press("Search")
        cards = page.wait(lambda: page.all('.hits[data-live="false"] .card'))
        assert "is sure to show the same" in page.one("[aria-label=Hits] h2").text
        assert "one.covis and " in page.one("[aria-label=Hits] h2").text
        assert {each.text for each in page.all("[data-store]")} == {"one.covis", "two.covis"}
        assert len(cards) == 4

        page.choose("effort", "thorough")
        assert page.one("select[name=budget]").get_attribute("value") == "none"
        page.choose("effort", "auto")
        assert page.one("select[name=budget]").get_attribute("value") == "5 s"
        page.choose("budget", "none")
        page.press("Search")
        cards = page.wait(lambda: page.all('.hits[data-live="false"] .card[data-verdict=same]'))
        assert "once more." in page.one("[aria-label=Hits]").text
        assert str(tmp_path / "one" / "1.png") in cards[0].text
        assert re.search(r"after \d+ attempts?", cards[0].text)
        assert cards[0].find_element("css selector", "[data-store]").text == "one.covis"
        page.press("Lines")
        page.wait(lambda: int(page.one("dialog canvas").get_attribute("data-drawn") or 0) > 5)
        page.press("Close")

        # It is forgotten in the store that it is of.
        page.press("Remove")
        page.press("Forget it")
        said = f"1 file forgotten; {tmp_path / 'one.covis'} holds 1 picture."
        assert page.one("[data-removed]").text == said
        assert page.complaints() == []
    finally:
        assert server.stop() == 0


def test_a_store_is_searched_and_looked_after_by_what_the_page_asks(photos, tmp_path, monkeypatch):
    from covis.web.server import offered

    server = start(tmp_path, str(photos), str(tmp_path / "a.covis"))
    try:
        assert server.said("/api/stores/store1") == {
            "uri": f"{tmp_path / 'a.covis'}",
            "made": False,
        }
        added = server.job(server.said("/api/stores/store1/add", {"folder": "folder0"}))
        assert added["state"] == "done", added
        held = server.said("/api/stores/store1")
        assert (held["images"], held["failures"]) == (6, 1)
        listed = server.said("/api/pictures?source=store1")["pictures"]
        query = next(each["id"] for each in listed if each["name"] == "turned.png")
        found = server.job(
            server.said("/api/search", {"store": "store1", "image": query, "budget": "none"})
        )["answer"]
        assert found["hits"][0]["path"] == str(photos / "turned.png")
        assert found["certain"] >= 2
        # What is being thought of is made ready; what is wrong with it the search says.
        for region, ready in ((None, True), ([1, 2, 50, 50], True), ([1, 2, 0, 0], False)):
            given = {"store": "store1", "image": query, "region": region}
            assert server.said("/api/search/ready", given) == {"ready": ready}
        started = server.said(
            "/api/search", {"store": "store1", "image": query, "region": [1, 2, 0, 0]}
        )
        wrong = server.job(started)
        assert wrong["state"] == "failed"
        assert "region" in wrong["error"]
        again = server.job(server.said("/api/stores/store1/add", {"folder": "folder0"}))
        assert "0 added, 6 unchanged" in again["answer"]["text"]
        lost = server.said("/api/upload?name=a.png", (photos / "street2.png").read_bytes())["id"]
        unknown = server.job(server.said("/api/stores/store1/remove", {"image": lost}))
        assert unknown["state"] == "failed"
        assert "is not in" in unknown["error"]
        forgot = server.job(server.said("/api/stores/store1/remove", {"missing": True}))
        assert "0 files forgotten" in forgot["answer"]["text"]
        forgot = server.job(server.said("/api/stores/store1/remove", {"image": query}))
        assert "1 file forgotten" in forgot["answer"]["text"]
        assert (photos / "turned.png").is_file()
        # It ends well in the middle of work, and nothing of its own is left.
        server.said("/api/stores/store1/verify", {})
        server.said("/api/search", {"store": "store1", "image": query})
    finally:
        assert server.stop() == 0
    assert not list(server.temporary.iterdir())
    # Next time the store is offered without a word, to this machine only.
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))
    assert offered([], "127.0.0.1") == [str(tmp_path / "a.covis")]
    assert offered([], "0.0.0.0") == []
    assert offered(["b"], "127.0.0.1") == ["b"]


def test_the_folder_of_a_picture_is_opened_on_this_machine_only(photos, tmp_path, monkeypatch):
    access = Access(tmp_path)
    sources = Sources([str(photos)], access)
    opened = []
    monkeypatch.setattr(search_page.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(
        search_page.subprocess, "Popen", lambda command, **_: opened.append(command)
    )
    parts = access, sources, Jobs(), Shrunk(), Maps(sources), Described()
    image = sources.allowed(str(photos / "street0.png")).id
    search_page.folder(Site(*parts, local=True), {"image": image})
    assert opened == [["/bin/xdg-open", str(photos)]]
    with pytest.raises(CovisError, match="covis runs on another machine"):
        search_page.folder(Site(*parts, local=False), {"image": image})
    monkeypatch.setattr(search_page.shutil, "which", lambda _: None)
    with pytest.raises(CovisError, match="no xdg-open is installed"):
        search_page.folder(Site(*parts, local=True), {"image": image})
    with pytest.raises(NoSuchError):
        search_page.folder(Site(*parts, local=True), {"image": str(photos / "street0.png")})
    assert len(opened) == 1
    parts[2].close()


def test_stores_are_held_in_memory_once(album, tmp_path):
    stores = [f"{album}.covis", str(tmp_path / "other.covis")]
    Index(stores[1]).add(album / "street1.png")
    sources = Sources(stores, Access(tmp_path))
    one, other = sources.all
    single = sources.index(one)
    assert sources.index(one) is single
    assert sources.index(other).uri == other.uri
    assert sources.index(one) is single
    both = sources.index(one, other)
    assert len(both) == 5
    assert sources.index(one, other) is both
    again = sources.index(one)
    assert again is not single
    assert sources.index(one) is again
    assert sources.index(one, other) is not both
