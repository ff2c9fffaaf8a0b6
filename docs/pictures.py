"""Draw the pictures of README.md and docs/ with covis' own commands, from rendered scenes.

    python docs/pictures.py [demo hard why parts masks map place web webmap]

`map`, `place` and `webmap` need pycolmap, `web` and `webmap` the extra "web" and Chromium.
Photographs that covis is measured on may not be published here, so the pictures show the street
corner of `covis demo`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from covis.demo import render_demo
from covis.draw.canvas import save_picture

DOCS = Path(__file__).resolve().parent
SIZE = 960, 720
KIOSK = ((112, 325), (195, 298), (325, 320), (320, 655), (200, 677), (105, 645))
"""Its outline in the first frame of `masks`, in pixels."""
FRAMES = 24
SHOWN = (0, 8, 16, 23)


def main() -> None:
    for name in sys.argv[1:] or PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            PICTURES[name](Path(folder), str(DOCS / f"{name}.jpg"))
        print(DOCS / f"{name}.jpg")


def covis(*arguments: object) -> None:
    command = [sys.executable, "-m", "covis", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def demo(_: Path, output: str) -> None:
    covis("demo", "-o", output)


def hard(folder: Path, output: str) -> None:
    rows = []
    for matcher in ("nearest", "lightglue"):
        covis("demo", "--baseline", 2.6, "--matcher", matcher, "-o", folder / f"{matcher}.png")
        rows.append(cv2.imread(str(folder / f"{matcher}.png"))[..., ::-1])
    save_picture(np.vstack(rows), output)


def why(folder: Path, output: str) -> None:
    photos = folder / "photos"
    photos.mkdir()
    for seed in range(12):
        pair = render_demo(SIZE, seed)
        save_picture(pair.image0, photos / f"street{seed:02}.jpg")
        if seed == 4:
            save_picture(pair.image1[200:560, 420:900], folder / "crop.jpg")
    covis("add", photos, "--to", folder / "photos.covis")
    covis("search", folder / "crop.jpg", "--in", folder / "photos.covis", "-k", 3, "-o", output)


def parts(folder: Path, output: str) -> None:
    save_picture(render_demo(SIZE, 0).image0, folder / "one.jpg")
    save_picture(render_demo(SIZE, 3, 1.6).image1, folder / "other.jpg")
    covis("dense", "match", folder / "one.jpg", folder / "other.jpg", "-o", output)


def masks(folder: Path, output: str) -> None:
    frames = folder / "frames"
    frames.mkdir()
    for number, baseline in enumerate(np.linspace(0.2, 3, FRAMES)):
        save_picture(render_demo(SIZE, 0, float(baseline)).image0, frames / f"{number:02}.jpg")
    mask = np.zeros(SIZE[::-1], np.uint8)
    cv2.fillPoly(mask, [np.array(KIOSK)], 255)
    cv2.imwrite(str(folder / "first.png"), mask)
    out = folder / "masks"
    covis("dense", "propagate", frames, "--mask", folder / "first.png", "-o", out, "--draw")
    shown = [cv2.imread(str(out / "drawings" / f"{number:02}.jpg")) for number in SHOWN]
    small = [cv2.resize(frame, (480, 360), interpolation=cv2.INTER_AREA) for frame in shown]
    save_picture(np.hstack(small)[..., ::-1], output)


def map_(folder: Path, output: str) -> None:
    photos = folder / "photos"
    photos.mkdir()
    for number, baseline in enumerate(np.linspace(0, 3, 10)):
        pair = render_demo(SIZE, 0, float(baseline))
        save_picture(pair.image0, photos / f"left{number}.jpg")
        save_picture(pair.image1, photos / f"right{number}.jpg")
    covis("map", photos, "-o", folder / "model", "--draw", output)


def place(folder: Path, output: str) -> None:
    map_(folder, str(folder / "map.jpg"))
    save_picture(render_demo(SIZE, 0, 1.45).image0, folder / "new.jpg")
    covis("locate", folder / "new.jpg", "--in", folder / "model", "-o", output)


def web(folder: Path, output: str) -> None:
    def matched(url: str) -> str:
        one, other = asked(f"{url}api/demo", {})
        given = {"image0": one["id"], "image1": other["id"], "matcher": "nearest"}
        job = asked(f"{url}api/match", given)["job"]
        while asked(f"{url}api/jobs/{job}")["state"] in ("waiting", "running"):
            time.sleep(0.2)
        return f"#/match/{job}"

    page(folder, output, matched, "1180,1190")


def webmap(folder: Path, output: str) -> None:
    map_(folder, str(folder / "map.jpg"))
    page(folder, output, lambda _: "#/map", "1180,900", folder / "model", folder / "photos")


def page(folder: Path, output: str, at: Callable[[str], str], size: str, *given: Path) -> None:
    """A picture of the page at what `at` says of the server's address."""
    command = [sys.executable, "-m", "covis", "web", "--no-open", *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = re.findall(r"http://\S+", server.stdout.readline())[0]
            shot = folder / "web.png"
            browse = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars"]
            browse += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
            browse += [
                f"--window-size={size}",
                "--virtual-time-budget=30000",
                f"--screenshot={shot}",
            ]
            subprocess.run([*browse, f"{url}{at(url)}"], check=True, capture_output=True)
        finally:
            server.terminate()
    save_picture(cv2.imread(str(shot))[..., ::-1], output)


def asked(url: str, body: object = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Origin": url.partition("/api")[0]})
    return json.load(urllib.request.urlopen(request))


PICTURES = {
    "demo": demo,
    "hard": hard,
    "why": why,
    "parts": parts,
    "masks": masks,
    "map": map_,
    "place": place,
    "web": web,
    "webmap": webmap,
}

if __name__ == "__main__":
    main()
