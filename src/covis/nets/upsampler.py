"""Twice the resolution for any backbone's features, which it only averages.

After NAF (neighbourhood attention filtering, CVPR 2026): each finer cell is a mean of the features
in a small neighbourhood, weighted by a softmax. The weights come from the image, from where the
neighbours lie and from how alike the features around are, never from what a channel means: so one
set of weights serves every backbone, and nothing is invented. The network is of this project.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.nets.weights import load_strictly, read_state_dict

REACH = 2
"""Cells of the neighbourhood on each side."""
SIDE = 2 * REACH + 1
PHASES = 4
"""Finer cells in a cell."""
FAINT = 0.01
"""What a cell weighs along one side, before training, where bilinear enlargement gives nothing."""
LIKENESS = 8.0
"""Cosines are multiplied by this, so that their weight learns as fast as the places'."""


class Upsampler(nn.Module):
    """Doubles the resolution of features of any number of channels.

    It looks at the image at `cell` pixels a cell. Before training it gives what bilinear
    enlargement does, but for 2 % from farther cells.
    """

    cell = 8

    def __init__(self, width: int = 64, dim: int = 32) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.GELU(), nn.Conv2d(32, width, 3, 2, 1), nn.GELU()
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, 1, 1), nn.GELU(), nn.Conv2d(width, width, 3, 1, 1)
            )
            for _ in range(2)
        )
        self.query = nn.Conv2d(width, dim, 1)
        self.key = nn.Conv2d(width, dim, 1)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)  # type: ignore[arg-type]
        line = torch.full((2, SIDE), FAINT)
        line[0, REACH - 1 : REACH + 1] = torch.tensor([0.25, 0.75])
        line[1, REACH : REACH + 2] = torch.tensor([0.75, 0.25])
        places = line[:, None, :, None] * line[None, :, None, :]
        self.place = nn.Parameter(places.log().reshape(PHASES, SIDE * SIDE))
        self.alike = nn.Parameter(torch.zeros(PHASES, 1))

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Features [B, C, h, w] and their image [B, 3, 8h, 8w], in the backbone's own
        normalisation -> [B, C, 2h, 2w]."""
        seen = self.look(image)
        for block in self.blocks:
            seen = seen + block(seen)
        rows, columns = features.shape[-2:]
        query = self.query(seen).unflatten(2, (rows, 2)).unflatten(4, (columns, 2))
        query = query.permute(0, 1, 3, 5, 2, 4).flatten(2, 3)
        keys = neighbours(F.avg_pool2d(self.key(seen), 2))
        weights = torch.einsum("bcphw,bckhw->bpkhw", query, keys) / query.shape[1] ** 0.5
        unit = F.normalize(features - features.mean(dim=(2, 3), keepdim=True), dim=1)
        cosines = torch.einsum("bchw,bckhw->bkhw", unit, neighbours(unit))
        weights = weights + self.place[None, :, :, None, None]
        weights = weights + LIKENESS * self.alike[None, :, :, None, None] * cosines[:, None]
        mixed = torch.einsum("bpkhw,bckhw->bcphw", weights.softmax(dim=2), neighbours(features))
        finer = mixed.unflatten(2, (2, 2)).permute(0, 1, 4, 2, 5, 3)
        return finer.flatten(4, 5).flatten(2, 3)


def neighbours(maps: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 25, H, W]: the cells around each, those at the edge repeated."""
    rows, columns = maps.shape[-2:]
    wide = F.pad(maps, (REACH,) * 4, mode="replicate")
    parts = [
        wide[..., down : down + rows, right : right + columns]
        for down in range(SIDE)
        for right in range(SIDE)
    ]
    return torch.stack(parts, dim=2)


def load_upsampler(path: str | Path) -> Upsampler:
    """An upsampler with trained weights, in evaluation mode.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    net = Upsampler()
    load_strictly(net, read_state_dict(path), path)
    return net.eval()
