"""SuperPoint's bundle is the network, at any size."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.runtime.onnx import OnnxGraph  # noqa: E402


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (64, 80), (37, 123)])
def test_detect(random_superpoint, superpoint_bundle, size):
    image = np.random.default_rng(0).random((1, 1, *size), np.float32)
    found = OnnxGraph(superpoint_bundle.graph("detect"))(["scores", "descriptors"], image=image)
    with torch.inference_mode():
        scores, descriptors = random_superpoint(torch.from_numpy(image))
    assert found[0].shape == (size[0] // 8 * 8, size[1] // 8 * 8)
    np.testing.assert_allclose(found[0], scores[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1], descriptors[0].permute(1, 2, 0), rtol=0, atol=1e-4)


def test_description(superpoint_bundle):
    assert superpoint_bundle.architecture == "superpoint"
