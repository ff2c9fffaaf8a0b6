"""EdgePoint2's bundle is the network, at any size and number of images."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.export.edgepoint import official_state_dict  # noqa: E402
from covis.nets.edgepoint import EdgePoint  # noqa: E402
from covis.runtime.onnx import OnnxGraph  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
@pytest.mark.parametrize("count", [1, 3])
def test_detect(random_edgepoint, edgepoint_bundle, size, count):
    image = np.random.default_rng(0).standard_normal((count, 1, *size)).astype(np.float32)
    graph = OnnxGraph(edgepoint_bundle.graph("detect"))
    scores, descriptors = graph(["scores", "descriptors"], image=image)
    with torch.inference_mode():
        expected = random_edgepoint.maps(torch.from_numpy(image))
    for found, net in (
        (scores, expected.scores[:, 0]),
        (descriptors, expected.descriptors.permute(0, 2, 3, 1)),
    ):
        assert found.dtype == np.float32
        assert found.shape == net.shape
        np.testing.assert_allclose(found, net, rtol=0, atol=1e-4 * float(net.abs().max()))


def test_description(edgepoint_bundle):
    assert edgepoint_bundle.architecture == "edgepoint"
    assert list(edgepoint_bundle.graphs) == ["detect"]


def test_weights_come_out_with_the_official_names(random_edgepoint, edgepoint_bundle):
    """Not the same numbers, since norms are folded, but the same maps."""
    net = EdgePoint(random_edgepoint.sizes).eval()
    net.load_state_dict(official_state_dict(edgepoint_bundle))
    image = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        for one, two in zip(net.maps(image), random_edgepoint.maps(image), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-4 * float(two.abs().max()))
