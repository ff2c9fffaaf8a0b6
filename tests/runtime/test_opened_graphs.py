"""Graphs that were opened stay opened, as long as they are the same and so is the process."""

from __future__ import annotations

import os
import shutil

import pytest

from covis.errors import BundleError
from covis.options import RuntimeOptions
from covis.runtime import onnx
from covis.runtime.bundle import SHIPPED, Bundle


@pytest.fixture
def bundle(tmp_path):
    shutil.copytree(SHIPPED / "edgepoint-covis", tmp_path / "copy")
    return Bundle.read(tmp_path / "copy")


def opened(bundle, threads=1):
    return onnx.open_graphs(bundle, ["detect"], RuntimeOptions(threads=threads))["detect"]


def test_a_graph_is_opened_once_for_each_number_of_threads(bundle, monkeypatch):
    monkeypatch.setattr("covis.options.cpu_threads", lambda: 2)
    assert opened(bundle) is opened(bundle)
    assert opened(bundle, threads=2) is not opened(bundle)


def test_a_changed_file_is_opened_anew(bundle):
    before = opened(bundle)
    later = bundle.graph("detect").stat().st_mtime_ns + 10**9
    os.utime(bundle.graph("detect"), ns=(later, later))
    assert opened(bundle) is not before
    bundle.graph("detect").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="cannot load it"):
        opened(bundle)
    bundle.graph("detect").unlink()
    with pytest.raises(BundleError, match=r"detect\.onnx: cannot be read"):
        opened(bundle)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_opens_its_own(bundle):
    opened(bundle)
    child = os.fork()
    if child == 0:
        os._exit(onnx._opened.cache_info().currsize)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert onnx._opened.cache_info().currsize > 0
