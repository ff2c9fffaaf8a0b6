"""Measure `covis web` with a real browser: its start, a match, a search, clients at once, memory.

    python benchmarks/web.py [start match search scroll map clients] [--store STORE] [--rounds N]

Needs the extras `web` and `browser`, and Chromium with its driver. Without a name all parts run.
Pictures are rendered. --store opens a store that is there, such as the 100,000 images that
`benchmarks/search.py search --folder DIR` keeps in DIR/search-100000; else one of 24 pictures is
made. --query is the picture that is looked for there. The server's memory, resident and at its
highest, is printed after each part.

    start    seconds from the command to a page that can be used
    match    two photos: from the click to the lines, against `covis match`, targets: 1.3 times
    search   from the click to the first results, and to the last: for an upload that is clicked at
             once, one that was made ready meanwhile, and the best hit
    scroll   --thumbnails of them in one list, scrolled through: frames above 100 ms
    map      a model of 100 photos and --points points, written for it: to the first picture of it,
             frames above 100 ms while it is turned (without a GPU those say little), memory, which
             holds the store as well, searched once
    clients  --searches searches by 8 clients at once, for pictures that are all different, or those
             of the folder --query in --store: answers that are not those that each gets alone,
             processor time, waits, memory in the first quarter of them and in the last
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common
from search import pictures, write

from covis import Index
from covis.demo import render_demo
from covis.draw.canvas import save_picture
from covis.errors import CovisError

PARTS = "start", "match", "search", "scroll", "map", "clients"
CLIENTS = 8
WAIT = 120
SHOWN = '.hits[data-live="false"] .card'
"""What is on the page with the last results of a search."""
SEARCHED = """
const [words, done] = arguments, began = performance.now();
let first;
for (const old of document.querySelectorAll(".hits")) old.className = "";
new MutationObserver((_, watch) => {
  if (!first && document.querySelector(".hits .card")) first = performance.now() - began;
  if (!document.querySelector('.hits[data-live="false"] .card')) return;
  watch.disconnect();
  done([first, performance.now() - began]);
}).observe(document.body, { childList: true, subtree: true });
[...document.querySelectorAll("button")].find((each) => each.textContent === words).click();
"""
"""Presses a button, and gives the milliseconds to the first results and to the last."""
READY = "performance.getEntriesByName(location.origin + '/api/search/ready').length"
"""How often a picture was made ready."""
STALL = 100
"""Milliseconds of a frame that is told of."""
FRAMES = """
const [count, done] = arguments, times = [];
let last = performance.now();
function frame(now) {
  times.push(now - last);
  last = now;
  %s;
  if (times.length < count) requestAnimationFrame(frame); else done(times.slice(1));
}
requestAnimationFrame(frame);
"""
"""Does something in each of so many frames, and gives how long each took in milliseconds."""


class Server:
    """A running `covis web`."""

    def __init__(self, *given: Path) -> None:
        command = [sys.executable, "-m", "covis", "web", "--no-open", *map(str, given)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = re.findall(r"http://\S+", self.process.stdout.readline())[0]

    def ask(self, path: str, body: object = None) -> Any:
        host = self.url.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(host, timeout=WAIT)
        content = None if body is None else json.dumps(body)
        headers = {"Origin": f"http://{host}"}
        connection.request("GET" if body is None else "POST", path, content, headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def memory(self) -> str:
        return f"{self.resident():.0f} MB, at its highest {self.resident('VmHWM'):.0f} MB"

    def resident(self, which: str = "VmRSS") -> float:
        """Megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{which}:\s+(\d+)", status)[0]) / 1024

    def processor(self) -> float:
        """Seconds that it has worked."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Browser:
    """Headless Chromium."""

    def __init__(self) -> None:
        try:
            from selenium import webdriver
        except ModuleNotFoundError:
            raise CovisError("this needs selenium: the extra 'browser'.") from None
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise CovisError("this needs chromium and chromedriver (Debian: chromium-driver).")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        ):  # fmt: skip
            options.add_argument(argument)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.driver.set_script_timeout(WAIT)

    def one(self, selector: str) -> Any:
        until = time.perf_counter() + WAIT
        while not (found := self.driver.find_elements("css selector", selector)):
            if time.perf_counter() > until:
                raise CovisError(f"the page did not show {selector}.")
            time.sleep(0.005)
        return found[0]

    def until(self, condition: str) -> None:
        end = time.perf_counter() + WAIT
        while not self.driver.execute_script(f"return {condition}"):
            if time.perf_counter() > end:
                raise CovisError(f"the page did not come to {condition}.")
            time.sleep(0.02)

    def press(self, words: str) -> None:
        for button in self.driver.find_elements("css selector", "button"):
            if button.is_displayed() and button.text == words:
                self.driver.execute_script("arguments[0].click()", button)
                return
        raise CovisError(f"the page has no button '{words}'.")

    def open(self, url: str, name: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{url}#/{name}")
        self.one(f"main[data-ready={name}]")

    def empty(self, label: str) -> None:
        script = f"document.querySelector('section[aria-label={label}]').replaceChildren()"
        self.driver.execute_script(script)

    def give(self, slot: int, path: Path) -> None:
        self.driver.find_elements("css selector", "input[type=file]")[slot].send_keys(str(path))
        self.one(f".slot:nth-child({slot + 1}) img")


def start(_: Path, __: Path, browser: Browser, options: argparse.Namespace) -> None:
    seconds = []
    for _round in range(options.rounds):
        began = time.perf_counter()
        server = Server()
        browser.open(server.url, "match")
        seconds.append(time.perf_counter() - began)
        server.stop()
    print(f"start: {statistics.median(seconds):.2f} s to a page that can be used (target 2)")


def match(folder: Path, _: Path, browser: Browser, options: argparse.Namespace) -> None:
    pair = [folder / "a.jpg", folder / "b.jpg"]
    server = Server()
    browser.open(server.url, "match")
    for slot, path in enumerate(pair):
        browser.give(slot, path)
    page, shell = [], []
    for _round in range(options.rounds):
        browser.empty("Result")
        began = time.perf_counter()
        browser.one("button.main:not(:disabled)").click()
        browser.one("canvas[data-drawn]")
        page.append(time.perf_counter() - began)
        began = time.perf_counter()
        command = [sys.executable, "-m", "covis", "match", *map(str, pair)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shell.append(time.perf_counter() - began)
    one, other = statistics.median(page), statistics.median(shell)
    print(f"match: {one:.2f} s on the page, {other:.2f} s by the command: {one / other:.2f} times")
    print(f"    server: {server.memory()}")
    server.stop()


def search(folder: Path, store: Path, browser: Browser, options: argparse.Namespace) -> None:
    server = Server(store)
    browser.open(server.url, "search")
    ways = "an upload, clicked at once", "an upload, made ready", "the best hit"
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _round in range(options.rounds + 1):
        for way, rows in found.items():
            if way != ways[2]:
                before = browser.driver.execute_script(f"return {READY}")
                browser.give(0, options.query or folder / "a.jpg")
            if way == ways[1]:
                browser.until(f"{READY} > {before}")
            browser.one("button.main:not(:disabled)")
            button = "Search with this" if way == ways[2] else "Search"
            rows.append(browser.driver.execute_async_script(SEARCHED, button))
    # The first one opens the store.
    print(f"search: the store opened and searched in {found[ways[0]][0][1]:.0f} ms; then:")
    for way, rows in found.items():
        first, last = (sorted(row[n] for row in rows[1:]) for n in (0, 1))
        print(f"    {way}: first results after {statistics.median(first):.0f} ms (at least")
        print(f"    {first[0]:.0f}, target 150), the last after {statistics.median(last):.0f} ms")
    print(f"    server: {server.memory()}")
    server.stop()


def frames(browser: Browser, step: str, count: int) -> str:
    """How frames went in which the page did something, in words."""
    times = browser.driver.execute_async_script(FRAMES % step, count)
    slow = sum(time > STALL for time in times)
    return f"{slow} of {len(times)} frames above {STALL} ms, the longest {max(times):.0f} ms"


def scroll(folder: Path, _: Path, browser: Browser, options: argparse.Namespace) -> None:
    photos = folder / "thumbnails"
    photos.mkdir()
    for number in range(options.thumbnails):
        if number < 24:
            save_picture(render_demo((640, 480), number).image0, photos / f"{number}.jpg")
        else:
            shutil.copy(photos / f"{number % 24}.jpg", photos / f"{number}.jpg")
    server = Server(photos)
    browser.open(server.url, "match")
    browser.press("From your folders")
    shown = 0
    while shown < options.thumbnails:
        browser.until(f"document.querySelectorAll('dialog .thumbs img').length > {shown}")
        shown = len(browser.driver.find_elements("css selector", "dialog .thumbs img"))
        if shown < options.thumbnails:
            browser.press("More")
    step = "document.querySelector('dialog').scrollTop += 60"
    print(f"scroll: {shown} thumbnails: {frames(browser, step, 120)} (target none)")
    print(f"    server: {server.memory()}")
    server.stop()


def map_(folder: Path, store: Path, browser: Browser, options: argparse.Namespace) -> None:
    write_model(folder / "map", options.points)
    server = Server(folder / "map", store)
    browser.open(server.url, "search")
    browser.give(0, options.query or folder / "a.jpg")
    browser.one("button.main:not(:disabled)").click()
    browser.one(SHOWN)
    began = time.perf_counter()
    browser.open(server.url, "map")
    browser.one("canvas.view3d[data-points]")
    took = time.perf_counter() - began
    drag = (
        "document.querySelector('canvas.view3d').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}))"
    )
    print(f"map: {options.points:,} points, 100 photos: seen after {took:.2f} s; turned:")
    print(f"    {frames(browser, drag, 60)}; server: {server.memory()}")
    server.stop()


def write_model(folder: Path, count: int) -> None:
    """A COLMAP model of 100 cameras around points, each seen by two of them."""
    import numpy as np
    import pycolmap

    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 800.0, 960, 720)
    model.add_camera_with_trivial_rig(camera)
    seen = np.array_split(np.arange(count), 100)
    for number in range(1, 101):
        angle = 2 * np.pi * number / 100
        turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0],
                         [np.sin(angle), 0, np.cos(angle)]])  # fmt: skip
        image = pycolmap.Image(
            f"{number:03}.jpg", np.full((2 * len(seen[0]) + 2, 2), 100.0), 1, number
        )
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(turn), np.array([0.0, 0.0, 8.0]))
        model.add_image_with_trivial_frame(image, pose)
    used = np.zeros(101, int)
    for first, part in enumerate(seen, 1):
        for xyz in rng.normal(0, 2, (len(part), 3)):
            track = pycolmap.Track()
            for number in (first, first % 100 + 1):
                track.add_element(number, int(used[number]))
                used[number] += 1
            model.add_point3D(xyz, track, rng.integers(0, 255, 3, np.uint8))
    folder.mkdir()
    model.write_binary(str(folder))


def clients(folder: Path, given: Path, _: Browser, options: argparse.Namespace) -> None:
    """Each client looks for all the pictures, in an order of its own."""
    store, queries = given, options.query
    own = options.store is None or queries is None
    if own:
        store, queries = folder / "clients.covis", folder / "clients"
        for number, picture in enumerate(pictures(24, (480, 640))):
            write(queries / f"{number:02}.png", picture)
        Index(store).add(queries)
    server = Server(store, queries)
    (kind,) = {each["kind"] for each in server.ask("/api/sources")["sources"]} - {"store"}
    listed = server.ask(f"/api/pictures?source={kind}1")["pictures"]

    def ask(image: str) -> tuple[tuple[str, ...], float]:
        wanted = {"store": "store0", "image": image, "budget": "none", "hits": 5}
        began = time.perf_counter()
        while "job" not in (started := server.ask("/api/search", wanted)):
            time.sleep(0.1)  # As the page says: too much to do already.
        news = {"version": -1, "state": "waiting"}
        while news.get("state") in ("waiting", "running"):
            news = server.ask(f"/api/jobs/{started['job']}?after={news['version']}")
        answer = news.get("answer") or {"hits": []}
        return tuple(hit["path"] for hit in answer["hits"]), time.perf_counter() - began

    expected = {each["id"]: ask(each["id"])[0] for each in listed}
    for each in listed:
        if not expected[each["id"]] or (own and expected[each["id"]][0] != each["path"]):
            raise CovisError(f"{each['path']} is not found.")
    wrong, memory, waited = [], [], [[] for _ in range(CLIENTS)]
    cpu, began = server.processor(), time.perf_counter()

    def client(number: int) -> None:
        for search in range(number, options.searches, CLIENTS):
            image = listed[(search * 7 + number) % len(listed)]["id"]
            answer, seconds = ask(image)
            wrong.extend([image] if answer != expected[image] else [])
            waited[number].append(seconds)
            memory.append(server.resident())

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    took, cpu = time.perf_counter() - began, server.processor() - cpu
    quarter = len(memory) // 4
    ends = [statistics.median(part) for part in (memory[:quarter], memory[-quarter:])]
    means = [statistics.mean(each) for each in waited]
    print(f"clients: {options.searches} searches for {len(listed)} pictures by {CLIENTS}:")
    print(f"    {len(memory)} answered, {len(wrong)} of them other than alone;")
    print(f"    {options.searches / took:.1f} a second, {1000 * cpu / len(memory):.0f} ms of the")
    print(f"    processor each; the longest {max(map(max, waited)):.1f} s, the mean")
    print(f"    {min(means):.2f} to {max(means):.2f} s by client; memory in the first quarter")
    print(f"    {ends[0]:.0f} MB, in the last {ends[1]:.0f} MB; server: {server.memory()}")
    server.stop()


def run(options: argparse.Namespace) -> None:
    parts = options.parts or PARTS
    common.check_known("part", parts, PARTS)
    browser = Browser()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pair = render_demo((1600, 1200))
            save_picture(pair.image0, folder / "a.jpg")
            save_picture(pair.image1, folder / "b.jpg")
            store = options.store
            if store is None and {"search", "map"} & set(parts):
                photos, store = folder / "photos", folder / "photos.covis"
                photos.mkdir()
                for seed in range(24):
                    save_picture(render_demo((640, 480), seed).image0, photos / f"{seed}.jpg")
                Index(store).add(photos)
            for part in parts:
                globals()["map_" if part == "map" else part](folder, store, browser, options)
    finally:
        browser.driver.quit()


if __name__ == "__main__":
    parser = common.parser(__doc__)
    parser.add_argument("parts", nargs="*", help="all when left out")
    parser.add_argument("--store", type=Path, help="a store that is there")
    parser.add_argument("--query", type=Path, help="a picture to look for; else a rendered one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--thumbnails", type=int, default=500)
    parser.add_argument("--points", type=int, default=200_000)
    sys.exit(common.main(run, parser))
