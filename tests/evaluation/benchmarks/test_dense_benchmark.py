"""What the benchmarks of dense features share: which features are compared, sizes, the table."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest

from covis.dense import DenseFeatures
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks import davis
from covis.evaluation.benchmarks.dense import (
    VARIANTS,
    Table,
    at_size,
    measure,
    peak,
    reset_peak,
    run,
)
from covis.images.decode import load_image

PICTURE = np.zeros((20, 40, 3), np.uint8)


def grid(lifts):
    """A model whose features are their cells' numbers, a cell for 8 pixels unlifted."""

    def describe(image):
        cell = 8 / 2**lifts
        height, width = image.pixels.shape[:2]
        rows, columns = int(-(-height // cell)), int(-(-width // cell))
        numbers = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
        values = np.stack([np.cos(numbers), np.sin(numbers)], axis=2)
        step = cell * image.width / width, cell * image.height / height
        return DenseFeatures(values, step, image.width, image.height, "grid")

    return describe


def test_every_variant_at_every_size():
    def score(describe, tick):
        tick()
        tick()
        features = describe(PICTURE)
        return {"cells": float(features.descriptors[..., 0].size), "step": features.step[0]}

    told = []
    table = measure(
        score,
        grid,
        benchmark="b",
        note="n",
        items=2,
        sizes=(None, 80),
        report=lambda *counts: told.append(counts),
    )
    assert [row.variant for row in table.rows] == [v.name for v in VARIANTS] * 2
    # 3 x 5 cells of 8 pixels, then of 4: 5 x 10, then of 2; twice as large, 5 x 10 to begin with.
    cells = [row.scores["cells"] for row in table.rows]
    assert cells == [15, 50, 50, 200, 200, 50, 200, 200, 800, 800]
    assert [row.scores["step"] for row in table.rows] == [8, 4, 4, 2, 2, 4, 2, 2, 1, 1]
    assert told == [(n, 20) for n in range(1, 21)]
    assert "| own | backbone | 1500.00 | 800.00 |" in table.markdown()
    assert json.loads(table.json())["rows"][9]["scores"]["cells"] == 800


def test_seconds_and_memory_are_of_the_row():
    def score(describe, tick):
        return {"n": float(describe(PICTURE).width)}

    table = measure(score, grid, benchmark="b", note="", items=1, variants=VARIANTS[:1])
    (row,) = table.rows
    assert 0 < row.seconds <= row.total


def test_peak_forgets():
    reset_peak()
    before = peak()
    if before is None:
        pytest.skip("this system does not tell how large a process has been")
    large = np.ones(1 << 24)
    assert peak() >= before + large.nbytes * 0.9
    del large
    reset_peak()
    assert peak() < before + (1 << 26)


def test_sizes_keep_coordinates():
    image = at_size(load_image(PICTURE), 10)
    assert image.pixels.shape == (5, 10, 3)
    assert (image.width, image.height) == (40, 20)
    assert at_size(image, None) is image


@pytest.mark.parametrize("sizes", [(), (0,)])
def test_exception_sizes(sizes):
    with pytest.raises(ArgumentError, match="sizes must be"):
        measure(lambda describe, tick: {}, grid, benchmark="b", note="", items=1, sizes=sizes)


def test_in_covis_eval(tmp_path):
    """A clip of one's own, with a model that knows every pixel: whole percents, one row each."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[8:16, 8:16] = 255
    for name in ("frames", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        PIL.Image.fromarray(picture).save(tmp_path / "frames" / f"{number}.jpg", quality=100)
        PIL.Image.fromarray(picture[..., 0]).save(tmp_path / "masks" / f"{number}.png")

    def evaluate(data, model, **options):
        assert model == "mine"
        return davis.evaluate(data, pixels, **options)

    told = []
    rows = run(
        evaluate,
        tmp_path,
        Settings(features="mine", max_size=0),
        lambda done, total: told.append((done, total)),
        "label propagation",
    )
    assert [row.method.partition(", ")[2] for row in rows] == [v.name for v in VARIANTS]
    assert rows[0].figures["J&F"] == pytest.approx(100)
    assert set(rows[0].figures) == {"J&F", "J", "F", "ms an image", "peak MB"}
    assert (rows[0].part, rows[0].items, rows[0].protocol) == ("own size", 1, "label propagation")
    assert told == [(n, 5) for n in range(1, 6)]


def test_the_dense_model_of_the_package_is_the_default(tmp_path):
    asked = []

    def evaluate(data, model, **options):
        asked.append((model, options["sizes"], options["every"]))
        return Table("b", model, 1, (), "")

    for settings in (Settings(), Settings(features="x", max_size=224, every=3)):
        assert run(evaluate, tmp_path, settings, lambda done, total: None, "p") == []
    assert asked == [("lift-xfeat-covis", (None,), 1), ("x", (224,), 3)]


def pixels(lifts):
    def describe(image):
        white = image.pixels[..., 0] > 127
        values = np.where(white[..., None], (1.0, 0.0), (0.0, 1.0)).astype(np.float32)
        return DenseFeatures(values, (1.0, 1.0), image.width, image.height, "-")

    return describe
