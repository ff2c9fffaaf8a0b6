"""ALIKED's bundle is the network, at any size and number of keypoints."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.export.aliked import MAPS  # noqa: E402
from covis.runtime.onnx import OnnxGraph  # noqa: E402

pytestmark = pytest.mark.slow


def in_torch(net, pixels):
    """Scores and maps, channels last, as the bundle gives them."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        maps = net.maps(image)
        return [net.scores(maps)[0], *(level[0].permute(1, 2, 0) for level in maps)]


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
def test_detect(random_aliked, aliked_bundle, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = OnnxGraph(aliked_bundle.graph("detect"))(["scores", *MAPS], pixels=pixels)
    for one, two in zip(found, in_torch(random_aliked, pixels), strict=True):
        assert one.dtype == np.float32
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-4 * float(two.abs().max()))


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("box", [(0, 0, 96, 64), (3, 8, 90, 48)])
def test_describe(random_aliked, aliked_bundle, count, box):
    rng = np.random.default_rng(count)
    maps = in_torch(random_aliked, rng.integers(0, 256, (64, 96, 3)).astype(np.uint8))[1:]
    keypoints = (rng.random((count, 2)) * [box[2] - 1, box[3] - 1]).astype(np.float32)
    named = {name: np.ascontiguousarray(level) for name, level in zip(MAPS, maps, strict=True)}
    (found,) = OnnxGraph(aliked_bundle.graph("describe"))(
        ["descriptors"], keypoints=keypoints, box=np.array(box), **named
    )
    with torch.inference_mode():
        expected = random_aliked.describe(maps, torch.from_numpy(keypoints), torch.tensor(box))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_description(aliked_bundle):
    assert aliked_bundle.architecture == "aliked"
    assert sorted(aliked_bundle.graphs) == ["describe", "detect"]
