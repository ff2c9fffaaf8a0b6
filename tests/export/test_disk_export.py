"""DISK's bundle is the network, at any size and number of keypoints."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.runtime.onnx import OnnxGraph  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [(16, 32), (32, 80)])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_bundle_is_the_network(random_disk, disk_bundle, size, count):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    scores, features = OnnxGraph(disk_bundle.graph("detect"))(["scores", "features"], pixels=pixels)
    keypoints = rng.integers(0, size[::-1], (count, 2))
    (found,) = OnnxGraph(disk_bundle.graph("describe"))(
        ["descriptors"], features=features, keypoints=keypoints
    )
    with torch.inference_mode():
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        expected, descriptors = random_disk(image)
    np.testing.assert_allclose(scores, expected[0], rtol=0, atol=1e-4)
    wanted = torch.nn.functional.normalize(descriptors[0, :, keypoints[:, 1], keypoints[:, 0]].T)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_description(disk_bundle):
    assert disk_bundle.architecture == "disk"
    assert sorted(disk_bundle.graphs) == ["describe", "detect"]
