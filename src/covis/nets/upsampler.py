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
TILE = 16
"""Cells of a row whose weighted means are one product of matrices, those of all cells around, most
of them with a weight of 0: a gather for each cell takes four times as long."""
WIDE = TILE + 2 * REACH
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
        own, around, finer = near_tiles(rows, columns)
        mean = features.mean(dim=(2, 3), keepdim=True)
        cells = as_list(features - mean)
        lengths = torch.linalg.vector_norm(cells, dim=2, keepdim=True).clamp_min(1e-12)
        near = taken(cells, around)
        cosines = taken(cells / lengths, own) @ near.mT / taken(lengths, around).mT
        query = taken(as_list(self.query(seen)), finer)
        likeness = query @ taken(as_list(F.avg_pool2d(self.key(seen), 2)), around).mT
        weights = band(likeness, 2, 2) / query.shape[-1] ** 0.5
        weights = weights + self.place.view(2, 1, 2, SIDE * SIDE)
        alike = LIKENESS * self.alike.view(2, 1, 2, 1)
        weights = spread((weights + alike * band(cosines, 1, 1)).softmax(dim=6))
        mixed = (near.mT @ weights.mT).unflatten(4, (2, 2 * TILE)).permute(0, 3, 1, 4, 2, 5)
        return mixed.flatten(4).flatten(2, 3)[..., : 2 * columns] + mean


def near_tiles(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where, in the list of a map's cells, the cells of each tile lie, [h, tiles, TILE], and those
    around them, [h, tiles, SIDE * WIDE], and in that of the finer cells those in its own,
    [h, tiles, 2 * TILE * 2]. Beyond the edge the nearest cell."""
    tile = TILE * torch.arange((columns + TILE - 1) // TILE)
    row, within = torch.arange(rows), torch.arange(WIDE)
    right = tile[:, None] + within[:TILE]
    near = (tile[:, None] + within - REACH).clamp(0, columns - 1)
    down = (row[:, None] + torch.arange(SIDE) - REACH).clamp(0, rows - 1)
    own = columns * row[:, None, None] + right.clamp(max=columns - 1)
    around = columns * down[:, None, :, None] + near[None, :, None]
    side = torch.arange(2)
    fine = (2 * right[:, :, None] + side).clamp(max=2 * columns - 1)
    finer = 2 * columns * (2 * row[:, None] + side)[:, None, :, None, None] + fine[None, :, None]
    return own, around.flatten(2), finer.flatten(2)


def as_list(maps: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H W, C]."""
    return maps.flatten(2).mT


def taken(cells: Tensor, index: Tensor) -> Tensor:
    """Of cells [B, N, C] those of an index [...]: [B, ..., C]."""
    return cells.index_select(1, index.to(cells.device).flatten()).unflatten(1, index.shape)


def band(table: Tensor, above: int, beside: int) -> Tensor:
    """What is said of the neighbours of each cell in a tile's table of finer cells by all cells
    around: [B, h, tiles, above * TILE * beside, SIDE * WIDE] -> [B, h, tiles, above, TILE, beside,
    SIDE * SIDE]."""
    line = beside * SIDE * WIDE
    flat = F.pad(table.unflatten(3, (above, TILE * beside)).flatten(4), (0, TILE))
    shifted = flat.unflatten(4, (TILE, line + 1))[..., :line]
    return shifted.unflatten(5, (beside, SIDE, WIDE))[..., :SIDE].flatten(6)


def spread(weights: Tensor) -> Tensor:
    """The opposite of `band`: 0 for those cells that are no neighbours."""
    line = 2 * SIDE * WIDE
    wide = F.pad(weights.unflatten(6, (SIDE, SIDE)), (0, WIDE - SIDE)).flatten(5)
    flat = F.pad(wide, (0, 1)).flatten(4)[..., : TILE * line]
    return flat.unflatten(4, (2 * TILE, SIDE * WIDE)).flatten(3, 4)


def load_upsampler(path: str | Path) -> Upsampler:
    """An upsampler with trained weights, in evaluation mode.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    net = Upsampler()
    load_strictly(net, read_state_dict(path), path)
    return net.eval()
