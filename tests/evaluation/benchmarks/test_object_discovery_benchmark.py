"""CorLoc: which images and boxes count."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from covis.dense import DenseFeatures
from covis.evaluation.benchmarks import object_discovery
from covis.evaluation.datasets.boxes import read_yolo_folder


@pytest.fixture
def folder(tmp_path):
    """Pictures of 80 x 60 pixels with a white rectangle, whose box is right in two of three, and
    one without an object."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    lines = {
        # The rectangle spans 20..50 x 10..40: shares of 80 x 60.
        "right": "0 0.4375 0.41667 0.375 0.5",
        "another": "0 0.9 0.9 0.1 0.1\n1 0.4375 0.41667 0.375 0.4",
        "wrong": "0 0.9 0.9 0.1 0.1",
        "none": "",
    }
    for name, text in lines.items():
        picture = np.zeros((60, 80, 3), np.uint8)
        picture[10:40, 20:50] = 255
        PIL.Image.fromarray(picture).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels" / f"{name}.txt").write_text(text)
    return tmp_path


def model(lifts):
    """Black and white are opposite; a cell for 10 pixels."""

    def describe(image):
        white = image.pixels[5::10, 5::10, 0] > 127
        values = np.where(white[..., None], (1.0, 0.0), (0.0, 1.0)).astype(np.float32)
        return DenseFeatures(values, (10.0, 10.0), image.width, image.height, "-")

    return describe


def test_corloc(folder):
    told = []
    table = object_discovery.evaluate(
        folder,
        model,
        read=read_yolo_folder,
        variants=object_discovery.VARIANTS[:1],
        report=lambda *counts: told.append(counts),
    )
    assert table.benchmark == "YOLO's layout"
    assert table.items == 3
    assert table.rows[0].scores == {"CorLoc": pytest.approx(2 / 3)}
    assert told == [(1, 3), (2, 3), (3, 3)]
    fewer = object_discovery.evaluate(
        folder, model, read=read_yolo_folder, variants=object_discovery.VARIANTS[:1], every=2
    )
    # "another" and "wrong": the first and the third by name.
    assert fewer.rows[0].scores == {"CorLoc": pytest.approx(1 / 2)}
