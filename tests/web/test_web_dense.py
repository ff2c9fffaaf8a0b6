"""The page Dense: in a browser, and what it asks for."""

from __future__ import annotations

import io
import re
import shutil
import threading
import zipfile

import cv2
import numpy as np
import PIL.Image
import pytest
from helpers.browser import Page
from helpers.frames import SIDE, SIZE, STEP, truth

pytest.importorskip("starlette")

from covis.dense import match, region_similarity
from covis.errors import CovisError
from covis.web import clips, dense_page, described
from covis.web.access import Access, NoSuchError
from covis.web.described import Described
from covis.web.jobs import Jobs
from covis.web.maps import Maps
from covis.web.shown import Shrunk
from covis.web.site import Site
from covis.web.sources import Sources


@pytest.fixture
def site(frames, tmp_path):
    access = Access(tmp_path)
    sources = Sources([str(frames)], access)
    made = Site(access, sources, Jobs(), Shrunk(), Maps(sources), Described())
    yield made
    made.jobs.close()


def over(site, started):
    job = site.jobs.get(started["job"])
    for _ in range(6000):
        if job.over:
            return job
        threading.Event().wait(0.01)
    raise AssertionError(job.state)


def labels_as_upload(site, labels):
    """A mask as the page sends it."""
    return site.access.keep("mask.png", cv2.imencode(".png", labels)[1].tobytes()).id


def clip_of(site, name):
    return next(
        each["id"] for each in dense_page.options(site, {})["clips"] if each["name"] == name
    )


@pytest.mark.slow
def test_places_are_found_and_a_drawn_mask_is_carried(browser, server, frames):
    from selenium.webdriver import ActionChains, Keys

    page = Page(browser, server.url)
    page.open("dense")
    page.drop(0, frames / "square" / "0.png")
    page.give(1, frames / "square" / "3.png")
    page.press("Compare")
    picture = page.one(".places-of[tabindex]")
    for image in page.all(".places-of > img:first-child"):
        page.wait(lambda image=image: image.get_property("naturalWidth") == SIZE[0])
    page.centre(picture)
    # The middle of the square in frame 0: 70 of 240, 90 of 180.
    width, height = picture.size["width"], picture.size["height"]
    off = round((70 / 240 - 0.5) * width), round((90 / 180 - 0.5) * height)
    ActionChains(browser, 0).move_to_element_with_offset(picture, *off).click().perform()
    first = page.one(".places li").text
    x0, y0, x1, y1, cosine = map(float, re.findall(r"[\d.]+", first))
    assert (x0, y0) == pytest.approx((70, 90), abs=1.5)
    assert (x1 - x0, y1 - y0) == pytest.approx((3 * STEP, 0), abs=5)
    assert cosine > 0.8
    heat = page.one(".places-of .heat")
    page.wait(lambda: heat.get_property("naturalWidth") == SIZE[0])
    picture.send_keys(Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.ENTER)
    page.wait(lambda: len(page.all(".places li")) == 2)
    browser.refresh()  # They are there again.
    page.wait(lambda: len(page.all(".places li")) == 2)

    page.press("A mask through frames")
    page.pick("clip", "clips/square")
    page.wait(lambda: page.one("[data-frame]").get_attribute("data-frame") == "0.png")
    brush = page.one("canvas.brush")
    page.centre(brush)
    scale = brush.size["width"] / SIZE[0]
    mouse = ActionChains(browser, 0)
    for row in range(6):  # Over the square, in lines.
        y = round((65 + 10 * row - 90) * scale)
        mouse.move_to_element_with_offset(brush, round((46 - 120) * scale), y)
        mouse.click_and_hold().move_by_offset(round((SIDE - 12) * scale), 0).release()
    mouse.perform()
    brush.send_keys(Keys.ARROW_LEFT, " ")
    page.press("Undo")
    page.press("Carry through the frames")
    viewer = page.one("[data-frames='4']")
    shown = page.one("img.carried")
    page.wait(lambda: shown.get_property("naturalWidth") == SIZE[0])
    page.one("input[name=frame]").send_keys(Keys.END)
    page.wait(lambda: "4 of 4 frames" in viewer.text)
    page.press("Download the masks")
    page.one("button[data-saved]")
    job = browser.current_url.rpartition("/")[2]
    content = server.ask(f"/api/dense/files/{job}")[2]
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.namelist() == [f"{number}.png" for number in range(4)]
        last = np.asarray(PIL.Image.open(packed.open("3.png")))
    assert region_similarity(last > 0, truth(3)) > 0.6
    browser.refresh()
    page.one("[data-frames='4']")
    browser.set_window_size(390, 800)
    try:
        page.wait(lambda: page.one("canvas.brush").size["width"] < 400)
        assert not page.overflows()
    finally:
        browser.set_window_size(1280, 1000)
    browser.get("about:blank")
    assert page.complaints() == []


def test_places_are_those_of_the_command_line(site, frames, monkeypatch):
    paths = [frames / "square" / f"{number}.png" for number in (0, 3)]
    ids = [site.sources.allowed(str(path)).id for path in paths]
    job = over(site, dense_page.describe(site, {"image0": ids[0], "image1": ids[1]}))
    assert job.state == "done", job.error
    assert job.answer["model"] == "lift-xfeat-covis"
    expected = match(*paths, [[70, 90]])
    said = dense_page.place(site, {"job": job.id, "x": 70, "y": 90, "keep": True})
    assert said["to"] == pytest.approx(expected.points1[0].tolist(), abs=0.1)
    assert said["cosine"] == pytest.approx(float(expected.cosines[0]), abs=1e-3)
    assert job.answer["places"] == [said]
    drawn = dense_page.heat(site, {"job": job.id, "x": 70, "y": 90})
    assert PIL.Image.open(io.BytesIO(drawn.body)).size == SIZE
    with pytest.raises(CovisError, match=r"lies outside 0\.png, which is 240x180"):
        dense_page.place(site, {"job": job.id, "x": 300, "y": 1})
    for wrong in ({}, {"x": "a", "y": 1}, {"x": [1], "y": 2}, {"x": "nan", "y": 1}):
        with pytest.raises(CovisError):
            dense_page.place(site, {"job": job.id, **wrong})
    with pytest.raises(CovisError, match="no model"):
        dense_page.describe(site, {"image0": ids[0], "image1": ids[1], "model": "/tmp"})
    # A bounded number is kept; what went is made again.
    monkeypatch.setattr(described, "KEPT", 1)
    site.described.features(
        site.sources.allowed(str(frames / "square" / "1.png")), "lift-xfeat-covis"
    )
    assert len(site.described._kept) == 1
    assert dense_page.place(site, {"job": job.id, "x": 70, "y": 90}) == said
    assert len(site.described._kept) == 1


@pytest.mark.parametrize("name", ["clips/square", "clips/film.avi"])
def test_masks_of_several_objects_are_carried_from_a_frame_on(site, name):
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[truth(1)] = 2
    labels[:40, 150:] = 1
    clip = clip_of(site, name)
    told = dense_page.frame(site, {"clip": clip, "start": 1})
    assert (told["width"], told["height"], told["left"]) == (*SIZE, 3)
    # Drawn on a picture of half the size.
    mask = labels_as_upload(site, labels[::2, ::2])
    job = over(site, dense_page.carry(site, {"clip": clip, "start": 1, "mask": mask}))
    assert (job.state, job.answer["frames"]) == ("done", 3), job.error
    assert job.answer["model"] == "lift-xfeat-covis-fine"
    last = np.asarray(PIL.Image.open(sorted((job.kept["masks"] / "masks").iterdir())[-1]))
    assert region_similarity(last == 2, truth(3)) > 0.6
    assert region_similarity(last == 1, labels == 1) > 0.6
    answer = dense_page.drawn(site, {"job": job.id, "frame": 2})
    assert PIL.Image.open(answer.path).size == SIZE
    with pytest.raises(CovisError, match="frame must be"):
        dense_page.drawn(site, {"job": job.id, "frame": 3})
    shutil.rmtree(job.kept["masks"])
    for ask in (dense_page.files, dense_page.drawn):
        with pytest.raises(NoSuchError, match="no longer kept"):
            ask(site, {"job": job.id, "frame": 0})


def test_mistakes_with_masks_are_told_in_the_words_of_the_command_line(site, monkeypatch):
    clip = clip_of(site, "clips/square")
    # The link that leads out is no frame.
    assert dense_page.frame(site, {"clip": clip})["left"] == 4
    empty = labels_as_upload(site, np.zeros(SIZE[::-1], np.uint8))
    job = over(site, dense_page.carry(site, {"clip": clip, "mask": empty}))
    assert job.state == "failed"
    assert "the mask has no object" in job.error
    with pytest.raises(CovisError, match="has 4 frames, the last is 3"):
        dense_page.frame(site, {"clip": clip, "start": 4})
    for wrong in ("../x", "", None, "0" * 16):
        with pytest.raises(NoSuchError, match="no such frames"):
            dense_page.frame(site, {"clip": wrong})
    monkeypatch.setattr(dense_page, "FRAMES", 3)
    with pytest.raises(CovisError, match="covis dense propagate takes any number"):
        dense_page.carry(site, {"clip": clip, "mask": empty})


def test_of_results_the_oldest_go(site, monkeypatch):
    monkeypatch.setattr(dense_page, "RESULTS", 2)
    rooms = [dense_page._room(site) for _ in range(4)]
    assert [room.is_dir() for room in rooms] == [False, False, True, True]


def test_frames_are_looked_for_in_given_folders_only(tmp_path, frames):
    access = Access(tmp_path)
    one = Sources([str(frames / "square" / "0.png")], access)
    site = Site(access, one, Jobs(), Shrunk(), Maps(one), Described())
    assert dense_page.options(site, {})["clips"] == []
    assert clips.clips(site) == {}
    site.jobs.close()
