"""A slow average of a network that learns, steadier than the network itself."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, step: int, keep: float) -> None:
    """Move the average towards the network, of the same layers, after an update.

    step: updates before this one. keep: the average's share that stays; less in the first steps,
    while it has little to average. Whole numbers, such as batch norms' counts, are copied.
    """
    keep = min(keep, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - keep)
        else:
            mean.copy_(value)
