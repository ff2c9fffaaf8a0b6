"""Networks with random weights whose batch norms do something."""

from __future__ import annotations

from importlib import import_module

import pytest


def seeded(seed):
    """PyTorch with that seed; the test is skipped where it is missing."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    torch.manual_seed(seed)
    return torch


def stir_norms(net, spread, least, most):
    """Running means of a standard deviation of `spread`, variances from `least` to `most`."""
    import torch

    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, spread)
            module.running_var.uniform_(least, most)
    return net


def as_bundle(kind, net, folder):
    """The network, exported by `covis.export`'s module of a name, as a bundle of the folder's."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    export = getattr(import_module(f"covis.export.{kind}"), f"export_{kind}")
    return export(net, folder, name=folder.name, licence="-", source="-")


def assert_alike(net, image, other, share):
    """Two images give the same maps, to a share of the largest value of each."""
    import torch

    with torch.inference_mode():
        for one, two in zip(net(image), net(other), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=share * float(one.abs().max()))


def assert_apart(net, images):
    """An image of a batch gives the maps that it gives alone."""
    import torch

    with torch.inference_mode():
        for together, alone in zip(net(images), net(images[1:2]), strict=True):
            torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-4)


def dinov2_as_exported(state, path):
    """An ONNX file with the weights of a DINOv2, called and turned as PyTorch's exporter did it to
    the published one, beside those of another network."""
    import onnx

    stored, nodes = {"decoder.bias": state["layernorm.bias"]}, []

    def put(kind, place, value):
        name = f"onnx::{kind}_{len(stored)}"
        stored[name] = value
        where = f"/backbone/{place.replace('.', '/').replace('layer/', 'layer.')}"
        nodes.append(onnx.helper.make_node(kind, [name], [f"of {name}"], where))

    for name, value in state.items():
        if name == "embeddings.position_embeddings":
            put("Reshape", "embeddings.Reshape_1", value[:, 1:])
            put("Concat", "embeddings.Concat_6", value[:, :1])
        elif name.endswith(".weight") and value.dim() == 2:
            put("MatMul", f"{name.removesuffix('.weight')}.MatMul", value.T)
        else:
            stored[f"backbone.{name}"] = value
    tensors = [onnx.numpy_helper.from_array(each.numpy(), name) for name, each in stored.items()]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
