"""What enlarges features, exported: the same as under PyTorch at any size, and as ORT likes it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
onnx = pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.export.lift import export_lift_alone, export_upsampler  # noqa: E402
from covis.nets.lift import FeatureKind, LiFT  # noqa: E402
from covis.nets.upsampler import Upsampler  # noqa: E402
from covis.options import RuntimeOptions  # noqa: E402
from covis.runtime.onnx import open_graphs  # noqa: E402

ABOUT = {"licence": "-", "source": "-"}


@torch.inference_mode()
def compare(net, bundle, channels):
    """At sizes below and above that of the example that was traced, and of one cell."""
    graph = open_graphs(bundle, ("lift",), RuntimeOptions(threads=1))["lift"]
    for rows, columns in ((1, 1), (3, 5), (2, 37)):
        image = torch.randn(1, 3, net.cell * rows, net.cell * columns)
        features = torch.randn(1, channels, rows, columns)
        (found,) = graph(["lifted"], image=image.numpy(), features=features.numpy())
        torch.testing.assert_close(
            torch.from_numpy(found), net(image, features), rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_an_upsampler(tmp_path):
    torch.manual_seed(0)
    net = Upsampler().eval()
    with torch.no_grad():
        for values in net.parameters():
            torch.nn.init.normal_(values, std=0.1)
    compare(net, export_upsampler(net, tmp_path / "up", name="up", **ABOUT), 5)


def test_a_lift(tmp_path):
    """Its convolutions without a bias have none, so that batch norms are folded into them."""
    torch.manual_seed(1)
    net = LiFT(FeatureKind("b", "", 0, "token", 12, 14)).eval()
    bundle = export_lift_alone(net, tmp_path / "lift", name="lift", **ABOUT)
    compare(net, bundle, 12)
    nodes = onnx.load(bundle.graph("lift")).graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert sorted(len(node.input) for node in convolutions) == [2, 2, 3, 3, 3, 3]
    assert not [node for node in nodes if node.op_type == "Expand"]
