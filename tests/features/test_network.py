"""Pictures that go through a network together."""

from __future__ import annotations

import numpy as np

from covis.features.network import batches
from covis.runtime.onnx import LARGE


def test_no_batch_is_so_large_that_its_memory_is_given_back() -> None:
    """Where one picture is not; else each batch would have to get all of it again."""
    photos = [np.zeros((640, 960), np.float32)] * 7
    small = [np.zeros((240, 320), np.float32)] * 5
    large = [np.zeros((1500, 1500), np.float32)] * 2
    found = [(places, batch.shape) for places, batch in batches([*photos, *small, *large])]
    assert [places for places, _ in found] == [
        *([0, 1, 2], [3, 4, 5], [6]),
        *([7, 8, 9, 10], [11]),
        *([12], [13]),
    ]
    assert [len(places) for places, _ in found] == [shape[0] for _, shape in found]
    assert all(4 * np.prod(shape) <= LARGE for _, shape in found[:5])
