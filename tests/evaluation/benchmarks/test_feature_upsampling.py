"""How well small photos' features come back."""

from __future__ import annotations

import numpy as np
import pytest

from covis.dense import DenseFeatures
from covis.errors import ArgumentError
from covis.evaluation.benchmarks.feature_upsampling import evaluate


def colours(lifts):
    """The mean colour of a cell of 8 pixels; 'lifted' ones know those of 4 or of 2."""
    side = 8 >> lifts

    def describe(image):
        rows, columns = (each // side for each in image.pixels.shape[:2])
        cells = image.pixels.reshape(rows, side, columns, side, 3).mean(axis=(1, 3))
        unit = cells / np.linalg.norm(cells, axis=2, keepdims=True)
        return DenseFeatures(unit.astype(np.float32), (side, side), image.width, image.height, "-")

    return describe


def test_errors_by_hand():
    """Stripes of two colours, 8 pixels wide: at half the size a cell has both."""
    picture = np.zeros((128, 140, 3), np.uint8)
    picture[:, (np.arange(140) - 6) // 8 % 2 == 0, 0] = 200
    picture[:, (np.arange(140) - 6) // 8 % 2 == 1, 1] = 200
    table = evaluate([picture, np.zeros((90, 300, 3), np.uint8)], colours)
    assert table.items == 1
    rows = {row.variant: row.scores["error"] for row in table.rows}
    assert rows["+ LiFT once"] == pytest.approx(0, abs=1e-6)
    assert rows["+ LiFT twice"] == pytest.approx(0, abs=1e-6)
    assert rows["+ bilinear x 2"] == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)


def test_exception_small():
    with pytest.raises(ArgumentError, match="1 photos, and none with sides of 128"):
        evaluate([np.zeros((127, 400, 3), np.uint8)], colours)
