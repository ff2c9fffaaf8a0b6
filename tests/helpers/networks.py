"""Networks with random weights whose batch norms do something."""

from __future__ import annotations


def stir_norms(net, spread, least, most):
    """Running means of a standard deviation of `spread`, variances from `least` to `most`."""
    import torch

    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, spread)
            module.running_var.uniform_(least, most)
    return net
