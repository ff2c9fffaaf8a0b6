"""Dense features of one or two densities -> a feature pyramid, as detectors want it.

ViTDet's simple pyramid (arXiv 2203.16527, section 3) makes every level from the backbone's last
map alone. Here a level is made from the map nearest to it, so that the finer ones come from lifted
features, as in LiFT's section 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2

import torch
from torch import Tensor, nn

from covis.errors import ArgumentError
from covis.nets.dense import Backbone
from covis.nets.lift import LiFT

LEVELS = 4


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W], place by place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FeaturePyramid(nn.Module):
    """Maps by their strides {s: [B, C, h, w]} -> a level [B, O, h s / t, w s / t] for every
    stride t.

    A level as fine as a map is made from it; a finer one from the finest map, by transposed
    convolutions; a coarser one from the nearest finer map, by max pooling. Then come 1x1 and 3x3
    convolutions with layer norm.
    """

    def __init__(
        self, channels: int, given: Sequence[float], strides: Sequence[float], width: int
    ) -> None:
        """channels: C. given, strides: pixels a cell of the maps and of the levels. width: O.

        Raises ArgumentError where a level is not as fine as a map times a power of two.
        """
        super().__init__()
        self.strides = tuple(sorted(strides))
        self.sources = tuple(
            max((each for each in given if each <= stride), default=min(given))
            for stride in self.strides
        )
        levels = []
        for source, stride in zip(self.sources, self.strides, strict=True):
            times = log2(stride / source)
            if times != round(times):
                raise ArgumentError(
                    f"a level of stride {stride:g} cannot be made from a map of {source:g}: one "
                    "must be the other times a power of two."
                )
            levels.append(_level(channels, round(times), width))
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: Mapping[float, Tensor]) -> list[Tensor]:
        """The levels, finest first."""
        return [level(maps[s]) for level, s in zip(self.levels, self.sources, strict=True)]


def _level(channels: int, times: int, width: int) -> nn.Sequential:
    """times: how often the map is made coarser, or finer below 0."""
    scale: list[nn.Module] = []
    for step in range(-times):
        if step:
            scale += [ChannelNorm(channels), nn.GELU()]
        scale.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels //= 2
    scale += [nn.MaxPool2d(2, 2, ceil_mode=True) for _ in range(times)]
    return nn.Sequential(
        *scale,
        nn.Conv2d(channels, width, 1, bias=False),
        ChannelNorm(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        ChannelNorm(width),
    )


def pyramid_strides(patch: int) -> tuple[float, ...]:
    """ViTDet's 4, 8, 16 and 32 for patches of 8 or 16; in that proportion for others."""
    finest = patch / 2 if patch <= 8 else patch / 4
    return tuple(finest * 2**level for level in range(LEVELS))


@torch.no_grad()
def feature_maps(
    backbone: Backbone, image: Tensor, lift: LiFT | None = None, times: int = 1
) -> dict[float, Tensor]:
    """Images [B, 3, H, W], RGB in 0..1, sides multiples of what the backbone takes -> its features
    and, with a LiFT, those lifted up to `times` times, by stride. Without gradients.

    Raises BundleError when `lift` was trained on other features.
    """
    seen = backbone.normalise(image)
    features = backbone(seen)
    stride = backbone.kind.patch
    maps: dict[float, Tensor] = {stride: features}
    if lift is not None:
        lift.check(backbone.kind)
        maps |= {stride / 2**t: lift.lift(seen, features, t) for t in range(1, times + 1)}
    return maps
