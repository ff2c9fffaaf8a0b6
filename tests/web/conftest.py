"""A server of its own process with rendered photos, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.corner import FOCAL, HEIGHT, WALLS, WIDTH, look, render, texture
from helpers.frames import write_frames
from helpers.server import Server, start

from covis.demo import render_demo
from covis.draw.canvas import save_picture
from covis.search import Index

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

SIZE = 400, 300


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder with four street corners, a smaller and a turned copy, a file that is no picture,
    and a link that leads out of it."""
    folder = tmp_path_factory.mktemp("web") / "photos"
    folder.mkdir()
    for seed in range(3):
        pair = render_demo(SIZE, seed)
        save_picture(pair.image0, folder / f"street{seed}.png")
        if seed == 0:
            save_picture(pair.image1, folder / "street0-other.png")
            save_picture(pair.image0[::2, ::2], folder / "small.jpg")
            save_picture(pair.image0.transpose(1, 0, 2)[:, ::-1], folder / "turned.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    save_picture(render_demo((64, 64)).image0, folder.parent / "outside.png")
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    return folder


@dataclass(frozen=True)
class Model:
    """A map of five photos of a corner, beside one of noise. new: another photo of the corner."""

    folder: Path
    photos: Path
    new: Path
    points: int


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Model:
    """Not to be changed."""
    pytest.importorskip("pycolmap", reason="maps need pycolmap: covis[map]")
    from covis.sfm import MapOptions, build_map

    folder = tmp_path_factory.mktemp("map")
    photos = folder / "corner"
    photos.mkdir()
    textures = [texture(seed) for seed in range(len(WALLS))]
    for number, angle in enumerate(np.radians((-20, -10, 0, 10, 20, 4))):
        height = -0.3 + 0.12 * (number % 3)
        centre = np.array([4.0 * np.sin(angle), height, 2.0 - 4.0 * np.cos(angle)])
        pixels = render(look(centre, np.array([0, -0.3, 2.0])), centre, textures)
        cv2.imwrite(str(folder / "new.png" if number == 5 else photos / f"{number}.png"), pixels)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(photos / "noise.png"), cv2.GaussianBlur(noise, (0, 0), 2))
    options = MapOptions(
        max_keypoints=800, matcher="nearest", refine_keypoints=False, camera_model="PINHOLE",
        camera_params=(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2),
    )  # fmt: skip
    made = build_map(photos, folder / "model", options=options)
    return Model(folder / "model", photos, folder / "new.png", made.points)


@pytest.fixture(scope="session")
def album(photos, tmp_path_factory) -> Path:
    """A folder of copies and another picture, with a store of them beside it."""
    folder = tmp_path_factory.mktemp("album") / "album"
    folder.mkdir()
    for name in ("street0.png", "small.jpg", "turned.png", "street1.png"):
        shutil.copy2(photos / name, folder / name)
    Index(f"{folder}.covis").add(folder)
    return folder


@pytest.fixture(scope="session")
def frames(tmp_path_factory) -> Path:
    """A folder with a folder of frames, and a video of them."""
    return write_frames(tmp_path_factory.mktemp("frames") / "clips")


@pytest.fixture(scope="session")
def model_or_none(request) -> Model | None:
    """None where there is no pycolmap."""
    return request.getfixturevalue("model") if find_spec("pycolmap") else None


@pytest.fixture(scope="session")
def server(photos, album, frames, model_or_none) -> Iterator[Server]:
    """One for all tests, which was given the photos (folder0), a store that is not made yet
    (store1), the album's, frames, and a map with its photos."""
    given = [photos, photos.parent / "street.covis", f"{album}.covis", frames]
    if model_or_none is not None:
        given += [model_or_none.folder, model_or_none.photos]
    found = start(photos.parent, *map(str, given))
    yield found
    assert found.stop() == 0
    assert not list(found.temporary.iterdir())


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    pytest.importorskip("selenium")
    from selenium import webdriver

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no Chromium here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        "--window-size=1280,1000", "--disable-background-networking",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()
