"""A graph in 8-bit integers, made of the float graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
onnx = pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.export import xfeat  # noqa: E402
from covis.options import RuntimeOptions  # noqa: E402
from covis.runtime import find_bundle  # noqa: E402
from covis.runtime.devices import fast_int8  # noqa: E402
from covis.runtime.onnx import OnnxGraph  # noqa: E402


def both(bundle):
    """Its graph to detect, in float and in integers."""
    alone = RuntimeOptions(threads=1)
    return [OnnxGraph(bundle.graph(role), alone) for role in ("detect", "detect-int8")]


def likeness(maps0, maps1):
    """Mean cosine of descriptors (B, h, w, D)."""
    lengths = np.linalg.norm(maps0, axis=3) * np.linalg.norm(maps1, axis=3)
    return float(((maps0 * maps1).sum(axis=3) / lengths).mean())


@pytest.mark.skipif(not fast_int8(), reason="sums may not fit into 16 bits here")
def test_the_shipped_graphs_agree(texture):
    image = texture[None, None, :192, :256, 1].astype(np.float32) / 255
    outputs = ["keypoints", "features", "reliability", "global"]
    known = np.array([0.3, 0.02], np.float32)
    for more in ({}, {"statistics": known}):
        (one, two) = (
            graph(outputs, image=image, **more) for graph in both(find_bundle("xfeat-covis"))
        )
        np.testing.assert_allclose(two[0], one[0], atol=1e-5)  # In float in both.
        assert likeness(one[1], two[1]) > 0.995
        assert abs(one[2] - two[2]).mean() < 0.02
        assert (one[3] * two[3]).sum() > 0.985


def test_an_export_with_pictures_has_both(random_net, tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.random((2, 64, 96), np.float32)
    bundle = xfeat.export_xfeat(
        random_net, tmp_path / "b", name="b", licence="-", source="-", pictures=list(pictures)
    )
    assert sorted(bundle.graphs) == ["detect", "detect-int8", "refine"]
    if fast_int8():
        one, two = (graph(["features"], image=pictures[:1, None])[0] for graph in both(bundle))
        assert likeness(one, two) > 0.98
    model = onnx.load(bundle.graph("detect-int8"))
    stored = Counter(t.data_type for t in model.graph.initializer if len(t.dims) == 4)
    # Two layers of block2, three of block3, three of block4, four of block5, two of the fusion and
    # of the reliability.
    assert stored[onnx.TensorProto.INT8] == 16
