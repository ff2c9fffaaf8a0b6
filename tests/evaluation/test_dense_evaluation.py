"""What the benchmarks of dense features share: which features are compared, sizes, the table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from covis.dense import DenseFeatures
from covis.errors import ArgumentError
from covis.evaluation.dense import VARIANTS, at_size, measure, peak, reset_peak
from covis.images import load_image

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
    def score(describe):
        features = describe(PICTURE)
        return {"cells": float(features.descriptors[..., 0].size), "step": features.step[0]}

    lines = []
    table = measure(
        score, grid, benchmark="b", note="n", items=1, sizes=(None, 80), report=lines.append
    )
    assert [row.variant for row in table.rows] == [v.name for v in VARIANTS] * 2
    # 3 x 5 cells of 8 pixels, then of 4: 5 x 10, then of 2; twice as large, 5 x 10 to begin with.
    cells = [row.scores["cells"] for row in table.rows]
    assert cells == [15, 50, 50, 200, 200, 50, 200, 200, 800, 800]
    assert [row.scores["step"] for row in table.rows] == [8, 4, 4, 2, 2, 4, 2, 2, 1, 1]
    assert len(lines) == 10
    assert "| own | backbone | 1500.00 | 800.00 |" in table.markdown()
    assert json.loads(table.json())["rows"][9]["scores"]["cells"] == 800


def test_seconds_and_memory_are_of_the_row():
    table = measure(lambda describe: {"n": float(describe(PICTURE).width)}, grid, benchmark="b",
                    note="", items=1, variants=VARIANTS[:1])  # fmt: skip
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
        measure(lambda describe: {}, grid, benchmark="b", note="", items=1, sizes=sizes)
