"""EdgePoint2: keypoints and compact descriptors for small budgets (arXiv 2504.17280).

Module names are the published ones, so that published state dicts load unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.errors import BundleError
from covis.nets.weights import load_strictly, read_network

STRIDE = 4
"""Pixels a cell of the descriptor map covers, each way."""

SIZE_MULTIPLE = 32
"""Height and width of the network's input are multiples of this."""

GROUP = 16
"""Channels of a group of the descriptor head's 3x3 convolution."""


@dataclass(frozen=True)
class Sizes:
    """Channels of a configuration."""

    stem: int
    block1: int
    block2: int
    block3: int
    descriptor: int
    score: int


CONFIGURATIONS: Mapping[str, Sizes] = {
    "T32": Sizes(8, 8, 16, 24, 32, 8),
    "S32": Sizes(8, 8, 24, 32, 32, 8),
    "S64": Sizes(8, 8, 24, 32, 64, 8),
    "M64": Sizes(8, 16, 32, 48, 64, 8),
    "L64": Sizes(8, 16, 48, 64, 64, 8),
    "E64": Sizes(16, 16, 48, 64, 64, 16),
}
"""As published."""


class EdgePointOutput(NamedTuple):
    """The network's two maps.

    descriptors: [B, dim, H/4, W/4], not normalised; cell (i, j) lies at the pixels' corner
        (4 j + 2, 4 i + 2), where the centre of the top-left pixel is (0.5, 0.5).
    scores: [B, 1, H, W], logits of how much each pixel is a keypoint.
    """

    descriptors: Tensor
    scores: Tensor


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(
                inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Residual(nn.Module):
    """Two 3x3 convolutions with norms beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x) + self.skip(x))


class EdgePoint(nn.Module):
    """The EdgePoint2 network."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        joined = sizes.block1 + sizes.block2 + sizes.block3
        self.block1 = nn.Sequential(
            ConvNorm(1, sizes.stem, kernel=4, stride=2),
            ConvNorm(sizes.stem, sizes.block1),
            Residual(sizes.block1, sizes.block1),
        )
        self.block2 = Residual(sizes.block1, sizes.block2)
        self.block3 = Residual(sizes.block2, sizes.block3)
        self.desc_head = nn.Sequential(
            nn.Conv2d(joined, joined, 1),
            ConvNorm(joined, joined, groups=joined // GROUP),
            nn.Conv2d(joined, sizes.descriptor, 1),
        )
        self.conv1 = nn.Conv2d(sizes.block1, sizes.score, 1)
        self.conv2 = nn.Conv2d(sizes.block2, sizes.score, 1)
        self.conv3 = nn.Conv2d(sizes.block3, sizes.score, 1)
        self.score_head = nn.Sequential(
            nn.Conv2d(sizes.score, sizes.score, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(sizes.score, sizes.score, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(sizes.score, 4, 3, padding=1),
        )

    def normalise(self, image: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 1, H, W]: grey, zero mean and unit variance over each image."""
        grey = image.mean(dim=1, keepdim=True)
        centred = grey - grey.mean(dim=(2, 3), keepdim=True)
        variance = centred.square().mean(dim=(2, 3), keepdim=True)
        return centred / (variance + 1e-5).sqrt()

    def maps(self, grey: Tensor) -> EdgePointOutput:
        """A normalised image [B, 1, H, W] -> the two maps."""
        x1 = self.block1(grey)
        quarter = F.avg_pool2d(x1, 2)
        x2 = self.block2(F.avg_pool2d(quarter, 2))
        x3 = self.block3(F.avg_pool2d(x2, 4))
        joined = torch.cat([quarter, _enlarged(x2, 2), _enlarged(x3, 8)], dim=1)
        summed = self.conv1(x1) + _enlarged(self.conv2(x2), 4) + _enlarged(self.conv3(x3), 16)
        scores = F.pixel_shuffle(self.score_head(summed), 2)
        return EdgePointOutput(self.desc_head(joined), scores)

    def forward(self, image: Tensor) -> EdgePointOutput:
        """[B, C, H, W], H and W multiples of 32, any value range -> the two maps."""
        with torch.no_grad():
            grey = self.normalise(image)
        return self.maps(grey)


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """The configuration of a state dict. Raises KeyError where it is another network's."""

    def outputs(name: str) -> int:
        return state[f"{name}.weight"].shape[0]

    return Sizes(
        outputs("block1.0.layer.0"),
        outputs("block1.1.layer.0"),
        outputs("block2.layer.0"),
        outputs("block3.layer.0"),
        outputs("desc_head.2"),
        outputs("conv1"),
    )


def load_official(path: str | Path) -> EdgePoint:
    """EdgePoint2 with published weights, in evaluation mode; its sizes are the tensors'.

    path: a state dict with the official names, as .safetensors, .pt or .pth.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    state = read_network(path, "edgepoint")
    try:
        sizes = sizes_of(state)
    except (KeyError, IndexError):
        raise BundleError(f"{path}: not the weights of EdgePoint2.") from None
    net = EdgePoint(sizes)
    load_strictly(net, state, path)
    return net.eval()
