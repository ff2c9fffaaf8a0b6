"""The page Match, in a browser."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import PIL.Image
import pytest
from helpers.browser import Page
from helpers.server import start

RED = """
const shown = document.querySelector("canvas"), copy = document.createElement("canvas");
[copy.width, copy.height] = [shown.width, shown.height];
const c = copy.getContext("2d", { willReadFrequently: true });
c.drawImage(shown, 0, 0);
const pixels = c.getImageData(0, 0, copy.width, copy.height).data;
let count = 0;
for (let i = 0; i < pixels.length; i += 4) {
  if (pixels[i] > 200 && pixels[i + 1] < 110 && pixels[i + 2] < 110) count++;
}
return count;
"""
"""Pixels in the colour of matches that do not agree."""


@pytest.mark.slow
def test_two_pictures_are_matched_looked_at_and_laid_onto_each_other(browser, server, photos):
    from selenium.webdriver import ActionChains, Keys

    page = Page(browser, server.url)
    page.open("match")
    page.drop(0, photos / "street0.png")
    page.give(1, photos / "street0-other.png")
    page.choose("effort", "fast")
    page.press("Match")
    assert page.one("[data-verdict]").get_attribute("data-verdict") == "same"
    assert "agree" in page.one(".verdict").text
    page.one("details summary").click()
    tried = r"Tried: edgepoint-covis, as they are: .* Stopped: "
    page.wait(lambda: re.search(tried, page.one("details").text))
    canvas = page.one("canvas[data-drawn]")
    drawn = int(canvas.get_attribute("data-drawn"))
    assert 50 < drawn <= 200
    slider = page.one(".controls input[type=range]")
    slider.send_keys(Keys.HOME)
    page.wait(lambda: canvas.get_attribute("data-drawn") == "1")
    slider.send_keys(Keys.END)
    page.wait(lambda: int(canvas.get_attribute("data-drawn")) > drawn)
    before = browser.execute_script(RED)
    page.one("label.inline input").click()
    page.wait(lambda: browser.execute_script(RED) > before + 50)

    # Zoomed by keys, and a point's partner told where the pointer is near one.
    canvas.send_keys("+", "+", Keys.ARROW_LEFT, "0")
    for across in range(-200, 200, 10):
        ActionChains(browser, 0).move_to_element_with_offset(canvas, across - 150, 0).perform()
        if page.one(".told").is_displayed():
            break
    assert re.search(r"↔ .*; score \d\.\d\d", page.one(".told").text)

    # A page that is loaded again shows the same answer.
    assert "#/match/" in browser.current_url
    browser.refresh()
    assert page.one("[data-verdict]").get_attribute("data-verdict") == "same"
    assert page.one("select[name=effort]").get_attribute("value") == "fast"

    page.press("Laid onto each other")
    above = page.one(".laid .top")
    page.wait(lambda: above.get_property("naturalWidth") == 400)
    assert re.search(r"pixels off in the median", page.one("main").text)
    edge = page.one(".laid .edge").get_attribute("style")
    page.all(".controls input[type=range]")[0].send_keys(Keys.HOME)
    assert page.one(".laid .edge").get_attribute("style") != edge
    page.all(".controls input[type=range]")[1].send_keys(Keys.HOME)
    assert above.value_of_css_property("opacity") == "0"

    links = {a.text: a.get_attribute("href") for a in page.all("a.button")}
    read = {name: server.ask(re.sub(r"^http://[^/]+", "", url)) for name, url in links.items()}
    assert all("attachment" in headers["Content-Disposition"] for _, headers, _ in read.values())
    found = json.loads(read["JSON"][2])
    assert found["verdict"]["label"] == "same"
    assert len(found["points0"]) == found["matches"]
    warped = PIL.Image.open(io.BytesIO(read["Warped picture"][2]))
    assert (warped.size, warped.mode) == ((400, 300), "RGBA")
    assert 0.3 < np.mean(np.asarray(warped)[:, :, 3] > 0) < 1
    assert PIL.Image.open(io.BytesIO(read["Drawing"][2])).width > 800
    assert page.complaints() == []


@pytest.mark.slow
def test_covis_demo_shows_the_pair(browser, tmp_path):
    server = start(tmp_path, command=["demo", "--web"])
    try:
        assert server.url.endswith("/#/match/demo")
        browser.get(server.url)
        page = Page(browser, server.url)
        page.one("section :is(.progress, [data-verdict])")  # It is matched at once.
        assert "street-1.png" in page.one("main").text
        browser.get("about:blank")  # Else it would go on asking a server that is gone.
        assert page.complaints() == []
    finally:
        server.stop()


@pytest.mark.slow
def test_the_demo_pair_mistakes_and_a_narrow_page(browser, server, tmp_path):
    from selenium.webdriver import Keys

    page = Page(browser, server.url)
    page.open("match")
    note = tmp_path / "note.png"
    note.write_text("no picture")
    page.all(".slot input[type=file]")[0].send_keys(str(note))
    assert "note.png" in page.one(".slot .error").text
    # Refusing it is what the console tells of; nothing else may be there.
    assert all("/api/upload" in line for line in page.complaints())
    page.choose("matcher", "nearest")
    page.press("Try the demo pair")
    assert page.one("[data-verdict]").get_attribute("data-verdict") == "same"
    browser.set_window_size(390, 800)
    try:
        page.wait(lambda: page.one("canvas").size["width"] < 400)
        assert not page.overflows()
        for name in ("search", "duplicates"):
            page.open(name)
            assert not page.overflows()
        # The link past the menu leaves the page as it is.
        page.one(".skip").send_keys(Keys.ENTER)
        assert browser.switch_to.active_element.get_attribute("id") == "page"
        assert browser.title == "covis: duplicates"
        browser.find_element("tag name", "body").send_keys("1")
        page.wait(lambda: browser.title == "covis: match")
        browser.find_element("tag name", "body").send_keys("?")
        assert "Wheel, pinch" in page.one("dialog[open]").text
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        page.wait(lambda: not page.all("dialog[open]"))
        theme = "return getComputedStyle(document.body).backgroundColor"
        before = browser.execute_script(theme)
        page.one("#theme").click()
        assert browser.execute_script(theme) != before
        page.one("#theme").click()
    finally:
        browser.set_window_size(1280, 1000)
    assert page.complaints() == []
