"""Networks with random weights whose batch norms do something."""

from __future__ import annotations

from importlib import import_module

import pytest


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
