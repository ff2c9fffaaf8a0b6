"""DISK: features trained by reinforcement (Tyszkiewicz et al., NeurIPS 2020, arXiv 2006.13566).

Module names are the official ones, so published state dicts load unchanged. The official code
names the layers of a block by their place, with one for dropout that is never used: hence the gap.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.nets.weights import load_strictly, read_network

SIZE_MULTIPLE = 16
"""Height and width of the network's input are multiples of this."""

DIMENSION = 128
"""Numbers of a descriptor."""

WINDOW = 5
"""Side of every convolution, in pixels."""

DOWN = (16, 32, 64, 64, 64)
UP = (64, 64, 64, DIMENSION + 1)


class Block(nn.Sequential):
    """Instance norm, PReLU and a 5x5 convolution; the first of the network has the last alone."""

    def __init__(self, inputs: int, outputs: int, *, first: bool = False) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if not first:
            layers["0"] = nn.InstanceNorm2d(inputs)
            layers["1"] = nn.PReLU(inputs)
        layers["3"] = nn.Conv2d(inputs, outputs, WINDOW, padding=WINDOW // 2)
        super().__init__(layers)


class Up(nn.Module):
    """The coarser map, enlarged twice, joined to the finer one."""

    def __init__(self, below: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.conv = Block(below + beside, outputs)

    def forward(self, below: Tensor, beside: Tensor, whole: bool = True) -> Tensor:
        """[B, below, H, W] and [B, beside, 2H, 2W] -> [B, outputs, 2H, 2W].

        whole: with the convolution; without it [B, below + beside, 2H, 2W].
        """
        enlarged = F.interpolate(below, scale_factor=2.0, mode="bilinear", align_corners=False)
        joined = torch.cat([enlarged, beside], dim=1)
        layers = list(self.conv.children())
        result: Tensor = nn.Sequential(*(layers if whole else layers[:-1]))(joined)
        return result


class UNet(nn.Module):
    """Four halvings by averages, four doublings."""

    def __init__(self) -> None:
        super().__init__()
        self.path_down = nn.ModuleList(
            nn.Sequential(
                nn.AvgPool2d(2) if inputs != 3 else nn.Identity(),
                Block(inputs, outputs, first=inputs == 3),
            )
            for inputs, outputs in zip((3, *DOWN[:-1]), DOWN, strict=True)
        )
        self.path_up = nn.ModuleList(
            Up(below, beside, outputs)
            for below, beside, outputs in zip((DOWN[-1], *UP[:-1]), DOWN[-2::-1], UP, strict=True)
        )

    def forward(self, x: Tensor, whole: bool = True) -> Tensor:
        """[B, 3, H, W] -> [B, 129, H, W]; without the last convolution, [B, 80, H, W]."""
        levels = []
        for down in self.path_down:
            x = down(x)
            levels.append(x)
        last = len(self.path_up) - 1
        for number, up in enumerate(self.path_up):
            x = up(x, levels[-2 - number], whole or number < last)
        return x


class DISK(nn.Module):
    """Scores of every pixel, and descriptors where they are asked for.

    The last convolution makes a score and a descriptor for every pixel, 157 of the 190 thousand
    million multiplications of an image of 640 x 960. Here it makes the scores alone; `describe`
    takes the rest of its weights to a few thousand pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W], RGB in 0..1, sides multiples of 16 -> scores [B, H, W], descriptors.

        Scores are logits: published thresholds begin at 0. Descriptors are [B, 128, H, W], not
        yet of unit length; they are taken at whole pixels.
        """
        maps = self.last(self.features(image))
        return maps[:, DIMENSION], maps[:, :DIMENSION]

    @property
    def last(self) -> nn.Conv2d:
        up = self.unet.path_up[-1]
        assert isinstance(up, Up)
        convolution = up.conv[-1]
        assert isinstance(convolution, nn.Conv2d)
        return convolution

    def features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 80, H, W]: what the last convolution sees."""
        return self.unet(image, whole=False)

    def scores(self, features: Tensor) -> Tensor:
        """[B, 80, H, W] -> [B, H, W]."""
        last = self.last
        assert last.bias is not None
        weight, bias = last.weight[DIMENSION:], last.bias[DIMENSION:]
        return F.conv2d(features, weight, bias, padding=WINDOW // 2)[:, 0]

    def describe(self, features: Tensor, keypoints: Tensor) -> Tensor:
        """Descriptors [N, 128] of unit length at pixels [N, 2] int64 (x, y) of features
        [H, W, 80]."""
        last = self.last
        assert last.bias is not None
        margin = WINDOW // 2
        padded = F.pad(features, (0, 0, margin, margin, margin, margin))
        width = padded.shape[1]
        steps = torch.arange(WINDOW)
        inside = (steps[:, None] * width + steps).reshape(-1)
        corner = keypoints[:, 1] * width + keypoints[:, 0]
        patches = padded.reshape(-1, padded.shape[2])[corner[:, None] + inside]
        weight = last.weight[:DIMENSION].permute(2, 3, 1, 0).reshape(-1, DIMENSION)
        found = patches.flatten(1) @ weight + last.bias[:DIMENSION]
        return F.normalize(found, dim=1)


def load_official(path: str | Path) -> DISK:
    """DISK with the weights of a published file, for inference.

    Raises BundleError when the file is not there, or holds other weights.
    """
    net = DISK()
    load_strictly(net, read_network(path, "disk"), path)
    return net.eval()
