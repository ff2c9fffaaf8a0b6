"""ViTs as they are exported: the same network, other operators."""

from __future__ import annotations

import copy
from functools import partial
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from covis.export.lightglue import FusedAttention, fuse
from covis.nets.dense import VisionTransformer
from covis.nets.dinov2 import DINOv2

ATTENTION = "covis.export"


def exportable(backbone: VisionTransformer) -> VisionTransformer:
    """A copy for any number of rows and columns.

    Attention is ONNX Runtime's operator, which never stores a similarity: at 448 px a ViT-S/8
    needs 0.3 GB instead of 1.5. How `transformers` interpolates the positions of DINOv2 with
    registers makes constants of the sizes of the exporter's example; here they stay variables.
    """
    if isinstance(backbone.net, DINOv2):
        return fuse(backbone)
    from transformers import AttentionInterface

    backbone = copy.deepcopy(backbone).cpu()
    AttentionInterface.register(ATTENTION, _attend)
    backbone.net.set_attn_implementation(ATTENTION)
    if backbone.net.config.model_type == "dinov2_with_registers":
        embeddings = backbone.net.embeddings
        table, patch = embeddings.position_embeddings, backbone.multiple
        embeddings.interpolate_pos_encoding = partial(interpolated, table, patch)
    return backbone


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """[B, heads, N, D] each -> [B, N, heads, D]."""
    heads = query.shape[1]
    q, k, v = (each.transpose(1, 2).flatten(2) for each in (query, key, value))
    return FusedAttention(heads)(q, k, v).unflatten(2, (heads, -1)), None


def interpolated(table: Tensor, patch: int, _: Tensor, height: int, width: int) -> Tensor:
    """Positions [1, 1 + g * g, C], the class token's first, for an image of that size in pixels:
    [1, 1 + rows * columns, C]."""
    side = isqrt(table.shape[1] - 1)
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    size = height // patch, width // patch
    patches = F.interpolate(grid, size, mode="bicubic", antialias=True).flatten(2).mT
    return torch.cat([table[:, :1], patches], dim=1)
