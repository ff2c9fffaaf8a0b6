"""EdgePoint2 -> the graph of its bundle, and back to its weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from covis.export.bundle import About, writing_bundle
from covis.export.onnx_graph import read_weights, write_graph
from covis.nets.edgepoint import SIZE_MULTIPLE, EdgePoint, sizes_of
from covis.runtime.bundle import Bundle


def fold_norms(net: EdgePoint) -> EdgePoint:
    """A copy whose batch norms are folded into the convolutions before them; evaluation mode.

    ONNX Runtime does this by itself for all but the grouped convolution, which then takes a third
    of the network's time.
    """
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        if isinstance(module, nn.Sequential):
            for index, norm in enumerate(module):
                conv = module[index - 1]
                if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                    module[index - 1] = fuse_conv_bn_eval(conv, norm)
                    module[index] = nn.Identity()
    return net


class DetectGraph(nn.Module):
    """A normalised grey image [B, 1, H, W] -> logits [B, H, W] and descriptors [B, H/4, W/4, D]."""

    def __init__(self, net: EdgePoint) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.net.maps(image)
        return maps.scores[:, 0], maps.descriptors.permute(0, 2, 3, 1)


def export_edgepoint(
    net: EdgePoint, folder: Path, *, half: bool = False, **about: Unpack[About]
) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    half: store the weights as float16.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    size = torch.export.Dim
    with writing_bundle(folder, "edgepoint", ["detect"], **about) as new:
        write_graph(
            DetectGraph(fold_norms(net)),
            {"image": torch.randn(2, 1, 2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE)},
            ["scores", "descriptors"],
            {
                "image": {
                    0: size("images"),
                    2: SIZE_MULTIPLE * size("rows"),
                    3: SIZE_MULTIPLE * size("columns"),
                }
            },
            new / "detect.onnx",
            half=half,
        )
    return Bundle.read(folder)


def official_state_dict(bundle: Bundle) -> dict[str, Tensor]:
    """The weights of a bundle by their official names, with batch norms that change nothing.

    What was folded into the convolutions stays there, but for their biases, which the official
    convolutions before a norm do not have.
    """
    stored = {
        name.removeprefix("net."): torch.from_numpy(values.copy())
        for name, values in read_weights(bundle.graph("detect")).items()
    }
    state: dict[str, Tensor] = {}
    for name, module in EdgePoint(sizes_of(stored)).named_modules():
        if isinstance(module, nn.BatchNorm2d):
            path, index = name.rsplit(".", 1)
            bias = stored.pop(f"{path}.{int(index) - 1}.bias")
            module.bias = nn.Parameter(bias, requires_grad=False)
            module.running_var = torch.full_like(bias, 1 - module.eps)
            state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return state | stored
