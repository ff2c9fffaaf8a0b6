"""The page Map: in a browser, and what it asks for."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from helpers.browser import Page

pytest.importorskip("starlette")
pytest.importorskip("pycolmap", reason="maps need pycolmap: covis[map]")

from covis.errors import CovisError, ImageError
from covis.sfm.map import read_model
from covis.web import map_page, maps
from covis.web.access import Access
from covis.web.described import Described
from covis.web.jobs import Jobs
from covis.web.maps import Maps, OpenMap
from covis.web.shown import Shrunk
from covis.web.site import Site
from covis.web.sources import Sources


def site_of(folder: Path, *given: Path) -> Site:
    """A site without a server."""
    uploads = folder / "uploads"
    uploads.mkdir(exist_ok=True)
    access = Access(uploads)
    sources = Sources(map(str, given), access)
    return Site(access, sources, Jobs(), Shrunk(), Maps(sources), Described())


@pytest.fixture(scope="module")
def opened(model, tmp_path_factory) -> tuple[Site, OpenMap]:
    site = site_of(tmp_path_factory.mktemp("site"), model.folder, model.photos)
    return site, site.maps.open(site.sources.all[0], 0)


def lit(element) -> int:
    """Pixels of an element on the screen that are of no background."""
    pixels = np.asarray(PIL.Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"), int)
    return int((np.abs(pixels - pixels[2, 2]).sum(axis=2) > 60).sum())


@pytest.mark.slow
def test_a_map_is_turned_looked_into_and_a_photo_located_in_it(browser, server, model):
    from selenium.webdriver import ActionChains, Keys

    page = Page(browser, server.url)
    page.open("map")
    assert "5 of 6 photos placed" in page.one("[data-map]").text
    canvas = page.one("canvas.view3d")
    page.wait(lambda: canvas.get_attribute("data-textures") == "5")
    assert int(canvas.get_attribute("data-points")) == model.points
    before, shown = canvas.get_attribute("data-view"), canvas.screenshot_as_png
    assert lit(canvas) > 2000
    # Turned by the mouse and by keys, moved, zoomed, and back.
    mouse = ActionChains(browser, 0).move_to_element(canvas)
    mouse.click_and_hold().move_by_offset(90, 20).release().perform()
    page.wait(lambda: canvas.get_attribute("data-view") != before)
    assert canvas.screenshot_as_png != shown
    canvas.send_keys(Keys.ARROW_LEFT, Keys.SHIFT + Keys.ARROW_UP, Keys.NULL, "+", "-", "-", "0")
    page.wait(lambda: canvas.get_attribute("data-view") == before)

    # A photo by its key, then by the list; what it shares; both beside each other.
    canvas.send_keys("n")
    assert page.one("[data-photo]").get_attribute("data-photo") == "0.png"
    page.pick("photo", "2.png")
    page.wait(lambda: page.one("[data-photo]").get_attribute("data-photo") == "2.png")
    assert "Shares points with 4 photos" in page.one(".aside").text
    page.press("See from there")
    page.one(".aside .thumbs button").click()
    drawn = page.one("dialog canvas[data-drawn]")
    assert int(drawn.get_attribute("data-drawn")) > 20
    assert "of the map that both see" in page.one("dialog").text
    page.press("Close")

    # Why one has no place.
    page.press("1 photo has no place: why")
    why = page.one("[data-unplaced]").text
    assert "noise.png: no other photo shows enough of the same" in why
    assert "Take more photos between them" in why

    # A new photo is located, and one of something else is not.
    page.drop(0, model.new)
    located = page.one("[data-located]")
    assert located.get_attribute("data-located") == "true"
    told = page.one("[aria-label=Located]").text
    assert "give or take" in told
    assert "confidence" in told
    page.wait(lambda: canvas.get_attribute("data-cameras") == "6")
    browser.refresh()  # It is there again.
    assert page.one("[data-located]").get_attribute("data-located") == "true"
    page.give(0, model.photos / "noise.png")
    page.wait(lambda: "Cannot say" in page.one("[aria-label=Located]").text)

    page.pick("export", "nerfstudio")
    page.press("Download")
    page.one("button[data-saved=nerfstudio]")
    browser.set_window_size(390, 800)
    try:
        page.wait(lambda: page.one("canvas.view3d").size["width"] < 400)
        assert not page.overflows()
    finally:
        browser.set_window_size(1280, 1000)
    browser.get("about:blank")
    assert page.complaints() == []


def test_points_are_sent_binary_in_a_frame_of_their_own(opened, model, monkeypatch):
    site, found = opened
    content = map_page.points(site, {"map": "map0"}).body
    count = len(content) // 15
    assert count == model.points
    places = np.frombuffer(content, "<f4", 3 * count).reshape(-1, 3)
    assert np.abs(places).max() < 100
    colours = np.frombuffer(content, np.uint8, offset=12 * count).reshape(-1, 3)
    assert colours.std() > 10
    # Distances are those of the map, in units of its radius; nothing is mirrored.
    scene, theirs = found.scene, found.points[0]
    there = np.linalg.norm(theirs[1:] - theirs[:-1], axis=1) / scene.radius
    assert np.linalg.norm(np.diff(places, axis=0), axis=1) == pytest.approx(there, rel=1e-3)
    assert np.linalg.det(scene.axes) == pytest.approx(1)
    # The walls are ahead, the floor below: where the photos look, and what is down in them.
    assert np.median(places[:, 2]) < np.mean([c["eye"][2] for c in found.cameras()])
    # Of many some, evenly.
    monkeypatch.setattr(maps, "POINTS", 50)
    some = site.maps.open(site.sources.all[0], 0)
    fresh = OpenMap(site.sources.all[0], model.folder / "sparse" / "0", site.sources)
    assert some is found
    assert len(fresh.binary()) == 50 * 15
    assert {tuple(place) for place in fresh.points[0]} <= {tuple(place) for place in theirs}


def test_cameras_open_towards_what_they_see_and_stand_as_their_photos_do(opened, monkeypatch):
    _, found = opened
    number = next(iter(found.images))
    camera = found.scene.camera(found.pose(number), found.camera(number), 1)
    corners = np.array(camera["corners"]).reshape(4, 3)
    # The top is above the bottom, the left one left of the right one as it looks into the scene.
    assert corners[0][1] > corners[3][1]
    assert corners[0][0] < corners[1][0]
    # Of a file that EXIF turns clockwise, the upright picture's first corner is the file's last.
    turned = found.scene.camera(found.pose(number), found.camera(number), 6)
    assert np.array(turned["corners"]).reshape(4, 3) == pytest.approx(np.roll(corners, 1, axis=0))
    points, _, _ = found.shared(*list(found.images)[:2])
    width, height = found.size(number)
    monkeypatch.setattr(OpenMap, "exif", lambda *_: 6)
    upright, _, _ = found.shared(*list(found.images)[:2])
    assert found.size(number) == (height, width)
    expected = np.column_stack([height - points[:, 1], points[:, 0]])
    assert upright == pytest.approx(expected, abs=1e-3)


def test_two_photos_share_the_points_that_both_see(opened):
    site, found = opened
    first, second = list(found.images)[:2]
    answer = map_page.pair(site, {"map": "map0", "photo0": first, "photo1": second})
    counts = dict(found.partners(first))
    assert answer["matches"] == counts[second] == len(answer["scores"])
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    # Each lies where the point is seen: projected by COLMAP, within its own error.
    model = found.reconstruction
    image = found.images[first]
    seen = {
        tuple(np.round(point.xy, 1)): point.point3D_id for point in image.get_observation_points2D()
    }
    ends = np.reshape(answer["points0"], (-1, 2))
    ids = [seen[tuple(np.round(end, 1))] for end in ends]
    projected = np.array([image.project_point(model.point3D(each).xyz) for each in ids])
    assert np.median(np.linalg.norm(projected - ends, axis=1)) < 1.5
    with pytest.raises(CovisError, match="two photos"):
        map_page.pair(site, {"map": "map0", "photo0": first, "photo1": first})
    with pytest.raises(CovisError, match="no such photo"):
        map_page.photo(site, {"map": "map0", "photo": 12345})


def test_photos_that_lie_elsewhere_are_not_read(model, tmp_path):
    site = site_of(tmp_path, model.folder)
    told = map_page.scene(site, {"map": "map0"})
    assert [camera["image"] for camera in told["cameras"]] == [None] * 5
    assert told["unplaced"][0]["image"] is None
    assert f"lie in {model.photos}, which covis web was not given" in told["hidden"]
    numbers = [camera["photo"] for camera in told["cameras"]]
    with pytest.raises(CovisError, match="was not given"):
        map_page.pair(site, {"map": "map0", "photo0": numbers[0], "photo1": numbers[1]})
    for name in ("../photos/0.png", str(model.photos / "0.png"), "../../etc/passwd"):
        assert site.maps.open(site.sources.all[0], 0).picture(name) is None
    # Another photo of the same name elsewhere is not taken for it.
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "0.png").write_bytes(model.new.read_bytes())
    told = map_page.scene(site_of(tmp_path, model.folder, tmp_path / "album"), {"map": "map0"})
    assert [camera["image"] for camera in told["cameras"]] == [None] * 5
    (tmp_path / "album" / "link.png").symlink_to(model.photos / "0.png")
    with pytest.raises(ImageError, match="lies in no folder"):
        site_of(tmp_path, tmp_path / "album").sources.allowed(str(tmp_path / "album" / "link.png"))


def test_a_map_below_a_folder_and_one_of_colmaps_own(model, tmp_path):
    site = site_of(tmp_path, model.folder.parent)
    source = next(each for each in site.sources.all if each.kind == "map")
    assert source.uri == str(model.folder)
    told = map_page.scene(site, {"map": source.id})
    assert all(camera["image"] for camera in told["cameras"])
    assert told["hidden"] == ""
    # Named by its sparse/0 it is the same map; a model that covis did not make is shown, too.
    inner = site_of(tmp_path, model.folder / "sparse" / "0")
    assert inner.sources.all[0].uri == str(model.folder)
    bare = tmp_path / "bare"
    bare.mkdir()
    read_model(model.folder / "sparse" / "0").write_binary(str(bare))
    other = tmp_path / "other"  # Of another size.
    other.mkdir()
    cv2.imwrite(str(other / "0.png"), np.zeros((30, 40, 3), np.uint8))
    site = site_of(tmp_path, bare, other, model.photos)
    told = map_page.scene(site, {"map": "map0"})
    assert len(told["cameras"]) == 5
    paths = {site.access.picture(camera["image"]).path for camera in told["cameras"]}
    assert paths == {str(model.photos / f"{number}.png") for number in range(5)}
    assert not told["locates"]
    assert told["without"] == 0
    with pytest.raises(CovisError, match="no features of covis to find places by"):
        _ = site.maps.open(site.sources.all[0], 0).locator


def test_a_list_called_images_makes_no_map_of_a_folder(tmp_path):
    (tmp_path / "album" / "deep" / "er" / "and" / "deeper").mkdir(parents=True)
    (tmp_path / "album" / "images.txt").write_text("a.png\n")
    (tmp_path / "album" / "deep" / "er" / "covis.json").write_text("{}")
    kinds = {each.kind for each in site_of(tmp_path, tmp_path / "album").sources.all}
    assert kinds == {"folder", "store", "map"}
    (tmp_path / "album" / "deep" / "er" / "covis.json").rename(
        tmp_path / "album" / "deep" / "er" / "and" / "deeper" / "covis.json"
    )
    # Further below than is looked.
    kinds = {each.kind for each in site_of(tmp_path, tmp_path / "album").sources.all}
    assert kinds == {"folder", "store"}


def test_maps_without_a_model_or_damaged_or_without_pycolmap(model, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "covis.json").write_bytes((model.folder / "covis.json").read_bytes())
    site = site_of(tmp_path, empty)
    with pytest.raises(CovisError, match="has no model yet: run covis map"):
        map_page.scene(site, {"map": "map0"})
    cut = empty / "sparse" / "0"
    cut.mkdir(parents=True)
    for each in (model.folder / "sparse" / "0").iterdir():
        (cut / each.name).write_bytes(each.read_bytes()[:-9])
    with pytest.raises(CovisError, match="damaged"):
        map_page.scene(site, {"map": "map0"})
    assert map_page.listed(site, {})["problem"] == ""
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    told = map_page.listed(site, {})
    assert told["problem"].startswith("maps need pycolmap: ")
    with pytest.raises(CovisError, match="maps need pycolmap"):
        map_page.scene(site_of(tmp_path, model.folder), {"map": "map0"})


def test_exports_are_files_to_be_saved(opened):
    site, _ = opened
    for kind, inside in (("binary", "points3D.bin"), ("nerfstudio", "transforms.json")):
        answer = map_page.export(site, {"map": "map0", "kind": kind})
        with zipfile.ZipFile(answer.path) as packed:
            assert inside in packed.namelist()
            if kind == "nerfstudio":
                assert b'"file_path": "images/0.png"' in packed.read(inside)
        answer.background.func()
    answer = map_page.export(site, {"map": "map0", "kind": "ply"})
    assert Path(answer.path).read_bytes().startswith(b"ply\n")
    answer.background.func()
    assert not list(site.access.folder.iterdir())
    with pytest.raises(CovisError, match="no kind"):
        map_page.export(site, {"map": "map0", "kind": "../x"})


def test_of_open_maps_the_oldest_go_and_changed_ones_are_read_anew(model, tmp_path):
    site = site_of(tmp_path, model.folder)
    source = site.sources.all[0]
    first = site.maps.open(source, 0)
    assert site.maps.open(source, 0) is first
    path = model.folder / "sparse" / "0" / "points3D.bin"
    path.touch()
    assert site.maps.open(source, 0) is not first
    assert len(site.maps._open) <= maps.OPEN
