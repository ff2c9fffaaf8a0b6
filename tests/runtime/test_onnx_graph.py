"""What graphs keep, and that threads may share one."""

from __future__ import annotations

import gc
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from covis.options import RuntimeOptions
from covis.runtime.bundle import find_bundle
from covis.runtime.onnx import LARGE, OnnxGraph

STATUS = Path("/proc/self/status")


@pytest.fixture(scope="module")
def graph():
    return OnnxGraph(find_bundle("xfeat-covis").graph("detect"), RuntimeOptions(threads=1))


def run(graph, height, width, seed=0):
    image = np.random.default_rng(seed).random((1, 1, height, width), np.float32)
    return graph(["features"], image=image)[0]


def held():
    """Megabytes that this process has in memory."""
    gc.collect()
    return int(re.search(r"VmRSS:\s+(\d+)", STATUS.read_text())[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc here")
def test_a_large_picture_leaves_no_memory_behind(graph):
    run(graph, 320, 320)
    before = held()
    assert LARGE < 4 * 1280 * 1760
    run(graph, 1280, 1760)
    assert held() - before < 70  # 150 where the graph keeps what it worked in


def test_threads_share_a_graph(graph):
    alone = [run(graph, 96, 128, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: run(graph, 96, 128, seed), range(8)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
