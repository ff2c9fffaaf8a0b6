"""Graphs stay loaded from one call to the next, as long as their files are what they were."""

from __future__ import annotations

import os
import shutil

import numpy as np
import onnxruntime
import pytest

import covis
from covis.errors import BundleError
from covis.runtime import onnx
from covis.runtime.bundle import find_bundle
from covis.runtime.onnx import OnnxGraph


@pytest.fixture
def loaded(monkeypatch):
    """The files that were loaded."""
    monkeypatch.setattr(onnx, "_kept", onnx._Kept())
    paths, load = [], onnx._loaded

    def counting(path, threads):
        paths.append(path)
        return load(path, threads)

    monkeypatch.setattr(onnx, "_loaded", counting)
    return paths


@pytest.fixture
def graph(tmp_path):
    folder = find_bundle("xfeat-covis").folder
    return shutil.copyfile(min(folder.glob("*.onnx"), key=os.path.getsize), tmp_path / "a.onnx")


def test_a_second_match_loads_nothing(loaded):
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    covis.match(picture, picture, matcher="nearest", max_keypoints=50)
    before = len(loaded)
    assert before > 0
    covis.match(picture, picture, matcher="nearest", max_keypoints=50)
    assert len(loaded) == before


def test_a_changed_file_and_other_threads_are_loaded(loaded, graph):
    for _ in range(2):
        OnnxGraph(graph, covis.options.RuntimeOptions(threads=1))
    assert len(loaded) == 1
    os.utime(graph, ns=(1, 1))
    OnnxGraph(graph, covis.options.RuntimeOptions(threads=1))
    assert len(loaded) == 2
    graph.write_bytes(b"words")
    with pytest.raises(BundleError, match=r"a\.onnx: ONNX Runtime cannot load it"):
        OnnxGraph(graph)
    graph.unlink()
    with pytest.raises(BundleError, match=r"a\.onnx"):
        OnnxGraph(graph)


def test_those_used_last_are_kept_within_bounds(loaded, graph, monkeypatch):
    others = [shutil.copyfile(graph, graph.with_name(f"{name}.onnx")) for name in "bc"]
    monkeypatch.setattr(onnx, "KEPT_BYTES", 2 * graph.stat().st_size)
    for path in (graph, others[0], graph, others[1], graph):
        OnnxGraph(path)
    assert len(loaded) == 3
    OnnxGraph(others[0])
    assert len(loaded) == 4


def test_a_forked_child_has_its_own(loaded, graph, monkeypatch):
    assert isinstance(OnnxGraph(graph)._session, onnxruntime.InferenceSession)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # A session's threads are not in the child.
    OnnxGraph(graph)
    assert len(loaded) == 2
