"""A server of its own process with rendered photos, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.server import Server, start

from covis.demo import render_demo
from covis.draw.canvas import save_picture

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


@pytest.fixture(scope="session")
def server(photos) -> Iterator[Server]:
    """One that was given the folder."""
    found = start(photos.parent, str(photos))
    yield found
    found.stop()


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
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
        "--window-size=1280,1000", "--disable-background-networking",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()
