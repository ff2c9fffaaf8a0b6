"""Weights that a run begins with, instead of random ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.nets.weights import load_strictly, read_network
from covis.runtime.architectures import ARCHITECTURES, load
from covis.runtime.bundle import Bundle, find_bundle

SHIPPED = {
    "xfeat": "xfeat-covis",
    "edgepoint": "edgepoint-covis",
    "lightglue": "lightglue-xfeat-covis",
    "lift": "lift-xfeat-covis",
}
"""What a network's own name stands for."""


def read_start(start: str | Path, architecture: str) -> dict[str, Tensor]:
    """The weights of a network by their official names.

    start: a .safetensors, .pt or .pth file, or a model: its name, its folder, or the network's
    name for the one in the package.

    Raises BundleError where there is no such model or file, TrainingError for another network's.
    """
    row = ARCHITECTURES[architecture]
    if Path(start).is_file():
        net: nn.Module | None = load(row.loads)(start) if row.loads else None
        return read_network(start, architecture) if net is None else net.state_dict()
    bundle = model_of(start, architecture)
    assert bundle is not None
    if bundle.architecture != architecture:
        raise TrainingError(
            f"{start}: a model of {bundle.architecture}; this run needs one of {architecture}."
        )
    state: dict[str, Tensor] = load(row.official)(bundle)
    return state


def model_of(start: str | Path, architecture: str) -> Bundle | None:
    """The model that a start is; None for a file of weights. Raises BundleError as it does."""
    return None if Path(start).is_file() else find_bundle(_name(start, architecture))


def _name(start: str | Path, architecture: str) -> str:
    name = str(start)
    return SHIPPED[architecture] if name == architecture else name


def begin_with(net: nn.Module, start: str | Path, architecture: str) -> None:
    """Put the weights of `read_start` into `net`.

    Raises as it does, and BundleError when they are of other sizes.
    """
    load_strictly(net, read_start(start, architecture), start)


@torch.no_grad()
def give_norms_their_share(net: nn.Module, images: Tensor) -> None:
    """Let batch norms that change nothing, as those of models have it whose norms were folded into
    the convolutions, scale by what `images` [B, C, H, W] show, the network's output as before.

    In training a norm goes by its batch: one that knew nothing of it would change every output.
    """

    def learn(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        running_mean, running_var = norm.running_mean, norm.running_var
        assert running_mean is not None
        assert running_var is not None
        x = inputs[0].float()
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3))
        scale = norm.weight / torch.sqrt(running_var + norm.eps)
        norm.bias.add_(scale * (mean - running_mean))
        norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
        running_mean.copy_(mean)
        running_var.copy_(variance)

    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    hooks = [norm.register_forward_pre_hook(learn) for norm in norms]
    was_training = net.training
    try:
        net.eval()(images)
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
