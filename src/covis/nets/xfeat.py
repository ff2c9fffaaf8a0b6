"""XFeat: accelerated features (Potje et al., CVPR 2024, arXiv 2404.19174, section 3).

Module names are the official ones, so published state dicts load unchanged.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.nets.weights import load_strictly, read_network

STRIDE = 8
"""Pixels an output cell covers, each way."""

SIZE_MULTIPLE = 32
"""Height and width of the network's input are multiples of this."""


class XFeatOutput(NamedTuple):
    """The network's three maps, one cell every 8 pixels.

    features: [B, 64, H/8, W/8], descriptors, not normalised.
    keypoint_logits: [B, 65, H/8, W/8], the cell's 64 pixels row by row, then "no keypoint".
    reliability: [B, 1, H/8, W/8] in 0..1.
    """

    features: Tensor
    keypoint_logits: Tensor
    reliability: Tensor


class BasicLayer(nn.Module):
    """Convolution without bias, batch norm without scale, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, affine=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class XFeat(nn.Module):
    """The XFeat network (section 3.1) and the refinement head of XFeat* (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.skip1 = nn.Sequential(nn.AvgPool2d(4, 4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(
            BasicLayer(1, 4),
            BasicLayer(4, 8, stride=2),
            BasicLayer(8, 8),
            BasicLayer(8, 24, stride=2),
        )
        self.block2 = nn.Sequential(BasicLayer(24, 24), BasicLayer(24, 24))
        self.block3 = nn.Sequential(
            BasicLayer(24, 64, stride=2), BasicLayer(64, 64), BasicLayer(64, 64, 1)
        )
        self.block4 = nn.Sequential(
            BasicLayer(64, 64, stride=2), BasicLayer(64, 64), BasicLayer(64, 64)
        )
        self.block5 = nn.Sequential(
            BasicLayer(64, 128, stride=2),
            BasicLayer(128, 128),
            BasicLayer(128, 128),
            BasicLayer(128, 64, 1),
        )
        self.block_fusion = nn.Sequential(
            BasicLayer(64, 64), BasicLayer(64, 64), nn.Conv2d(64, 64, 1)
        )
        self.heatmap_head = nn.Sequential(
            BasicLayer(64, 64, 1), BasicLayer(64, 64, 1), nn.Conv2d(64, 1, 1), nn.Sigmoid()
        )
        self.keypoint_head = nn.Sequential(
            BasicLayer(64, 64, 1),
            BasicLayer(64, 64, 1),
            BasicLayer(64, 64, 1),
            nn.Conv2d(64, 65, 1),
        )
        hidden: list[nn.Module] = []
        for inputs in (128, 512, 512, 512):
            hidden += [nn.Linear(inputs, 512), nn.BatchNorm1d(512, affine=False), nn.ReLU()]
        self.fine_matcher = nn.Sequential(*hidden, nn.Linear(512, 64))

    def normalise(self, image: Tensor, statistics: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, 1, H, W]: grey, zero mean and unit variance over each image.

        statistics: [2], the mean and variance to go by instead, for parts of a larger image; NaN
        for each image's own.
        """
        # The runtime's mean over one channel takes as long as a layer.
        grey = image if image.shape[1] == 1 else image.mean(dim=1, keepdim=True)
        mean = grey.mean(dim=(2, 3), keepdim=True)
        if statistics is not None:
            mean = torch.where(statistics[0].isnan(), mean, statistics[0])
        centred = grey - mean
        variance = centred.square().mean(dim=(2, 3), keepdim=True)
        if statistics is not None:
            variance = torch.where(statistics[1].isnan(), variance, statistics[1])
        return centred / (variance + 1e-5).sqrt()

    def pyramid(self, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 1, H, W] -> 64-channel maps at 1/8, 1/16 and 1/32."""
        x2 = self.block2(self.block1(grey) + self.skip1(grey))
        x3 = self.block3(x2)
        x4 = self.block4(x3)
        return x3, x4, self.block5(x4)

    def fuse(self, pyramid: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The pyramid's maps -> features [B, 64, H/8, W/8]."""
        x3, x4, x5 = pyramid
        size = x3.shape[-2:]
        up4 = F.interpolate(x4, size, mode="bilinear", align_corners=False)
        up5 = F.interpolate(x5, size, mode="bilinear", align_corners=False)
        features: Tensor = self.block_fusion(x3 + up4 + up5)
        return features

    def heads(self, grey: Tensor, features: Tensor) -> XFeatOutput:
        """The normalised image [B, 1, H, W] and its features -> the three maps."""
        cells = F.pixel_unshuffle(grey, STRIDE)
        return XFeatOutput(features, self.keypoint_head(cells), self.heatmap_head(features))

    def forward(self, image: Tensor) -> XFeatOutput:
        """[B, C, H, W], H and W multiples of 32, any value range -> the three maps."""
        with torch.no_grad():
            grey = self.normalise(image)
        return self.heads(grey, self.fuse(self.pyramid(grey)))


def load_official(path: str | Path) -> XFeat:
    """XFeat with published weights, in evaluation mode.

    path: a state dict with the official names, as .safetensors or PyTorch's .pt/.pth. Batch
    norms may be separate or folded into the convolutions; running statistics that are absent
    are taken as folded.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    state = read_network(path, "xfeat")
    net = XFeat()
    # A folded norm is the identity: mean 0 and a variance that its epsilon completes to 1.
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            state.setdefault(f"{name}.running_mean", torch.zeros(module.num_features))
            state.setdefault(
                f"{name}.running_var", torch.full((module.num_features,), 1 - module.eps)
            )
            state.setdefault(f"{name}.num_batches_tracked", torch.tensor(0))
    load_strictly(net, state, path)
    return net.eval()
