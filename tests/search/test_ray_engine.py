"""Adding with Ray, on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.ray_workers import one_worker_killed

from covis.errors import CovisError
from covis.search import Index


def test_exception_where_ray_is_missing(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CovisError, match=r"needs Ray: .* pip install '\.\[ray\]'"):
        index.add([photos], engine="ray")


@pytest.mark.slow
def test_ray_stores_what_this_process_would(
    index: Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a worker is killed on the way."""
    ray = pytest.importorskip("ray", reason="the engine needs Ray")
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (photos / "bad.jpg").write_bytes(b"no picture")
    here = Index(tmp_path / "here", features="sift", max_keypoints=200)
    here.add([photos])
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with one_worker_killed():
            added = index.add([photos], engine="ray")
    finally:
        ray.shutdown()
    assert (added.added, list(added.failed)) == (6, [str(photos / "bad.jpg")])
    assert index.verify().problems == []
    expected = here.store.images.to_table().sort_by("content")
    found = index.store.images.to_table().sort_by("content")
    for name in ("content", "width", "keypoints", "scores"):
        assert found[name].to_pylist() == expected[name].to_pylist()
    vectors = (np.array(table["vector"].to_pylist()) for table in (found, expected))
    np.testing.assert_allclose(next(vectors), next(vectors), atol=1e-5)
