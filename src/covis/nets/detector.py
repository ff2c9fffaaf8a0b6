"""A small one-stage detector on a feature pyramid: FCOS (arXiv 1904.01355) without anchors.

Every cell of every level says, for the place in its middle, which class of object is there, how
far the object's four sides are, and how near the place is to the object's centre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from covis.nets.pyramid import FeaturePyramid

GROUPS = 8
PRIOR = 0.01
"""How probable an object is at a place before anything is learnt."""


@dataclass(frozen=True)
class Predictions:
    """Of all places of all levels, the finest first, N in all.

    classes: [B, N, K] logits. distances: [B, N, 4], pixels to the left, top, right and bottom side.
    centres: [B, N] logits of centre-ness. places: [N, 2], (x, y) in pixels. strides: [N].
    """

    classes: Tensor
    distances: Tensor
    centres: Tensor
    places: Tensor
    strides: Tensor


class Tower(nn.Sequential):
    """`depth` 3x3 convolutions with group norm and ReLU, [B, W, h, w] -> the same."""

    def __init__(self, width: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.GroupNorm(GROUPS, width),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class Detector(nn.Module):
    """Feature maps by stride -> `Predictions`; one head for all levels (section 3)."""

    def __init__(
        self,
        channels: int,
        given: Sequence[float],
        strides: Sequence[float],
        classes: int,
        width: int = 96,
        depth: int = 2,
    ) -> None:
        """channels, given, strides: see `FeaturePyramid`. width: channels of the levels, a
        multiple of 8; depth: convolutions of each of the head's two towers.

        Raises ArgumentError as `FeaturePyramid` does.
        """
        super().__init__()
        self.pyramid = FeaturePyramid(channels, given, strides, width)
        self.what, self.where = Tower(width, depth), Tower(width, depth)
        self.classes = _last(width, classes, bias=-log(1 / PRIOR - 1))
        self.distances, self.centres = _last(width, 4), _last(width, 1)
        self.scales = nn.Parameter(torch.ones(len(self.pyramid.strides)))

    def forward(self, maps: Mapping[float, Tensor]) -> Predictions:
        parts = []
        for level, stride, scale in zip(
            self.pyramid(maps), self.pyramid.strides, self.scales, strict=True
        ):
            what, where = self.what(level), self.where(level)
            rows, columns = level.shape[-2:]
            y, x = torch.meshgrid(
                torch.arange(rows, device=level.device) + 0.5,
                torch.arange(columns, device=level.device) + 0.5,
                indexing="ij",
            )
            places = torch.stack([x, y], dim=-1).view(-1, 2) * stride
            parts.append(
                (
                    self.classes(what).flatten(2).transpose(1, 2),
                    stride * (scale * self.distances(where)).exp().flatten(2).transpose(1, 2),
                    self.centres(where).flatten(1),
                    places,
                    torch.full((rows * columns,), float(stride), device=level.device),
                )
            )
        joined = zip(zip(*parts, strict=True), (1, 1, 1, 0, 0), strict=True)
        return Predictions(*(torch.cat(each, dim) for each, dim in joined))


def _last(width: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    layer = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((outputs,), bias))
    return layer
