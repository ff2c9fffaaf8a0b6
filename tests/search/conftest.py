"""Pictures made by code, and an index of them with OpenCV's SIFT, which needs no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.textures import clouds
from numpy.typing import NDArray

from covis.search import Index

Pixels = NDArray[np.uint8]


def scene(seed: int, height: int = 150, width: int = 200) -> Pixels:
    """Blobs of several sizes: something to find features on, different for every seed."""
    picture = clouds(np.random.default_rng(seed), height, width, (5, 10, 40))
    return np.clip(picture / 3 * 255, 0, 255).astype(np.uint8)


def write(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture(name="scene", scope="session")
def _scene() -> Callable[..., Pixels]:
    return scene


@pytest.fixture(name="write", scope="session")
def _write() -> Callable[[Path, Pixels], Path]:
    return write


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six scenes, two of them a level deeper."""
    for number in range(6):
        folder = tmp_path / "photos" / ("deeper" if number > 3 else "")
        write(folder / f"{number}.png", scene(number))
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "store", features="sift", max_keypoints=200)


@pytest.fixture
def filled(index: Index, photos: Path) -> Index:
    index.add([photos])
    return index


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many pictures were extracted so far."""
    from covis.features.extractor import Extractor

    counts: list[int] = []
    batch = Extractor.batch

    def counting(self, images):
        counts.append(len(images))
        return batch(self, images)

    monkeypatch.setattr(Extractor, "batch", counting)
    return lambda: sum(counts)
