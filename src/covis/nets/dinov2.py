"""DINOv2: a ViT that learnt without labels (Oquab et al., TMLR 2024, arXiv 2304.07193).

Modules are named as in Hugging Face `transformers`, so its state dicts load unchanged. Without
registers, and with the plain MLP (the published small, base and large models).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.errors import BundleError
from covis.nets.lightglue import Attention
from covis.nets.weights import load_strictly, read_network

HEAD = 64
"""Channels of an attention head."""
UNUSED = ("embeddings.mask_token", "pooler.")
"""How weights begin that features do without."""

FOLDED = r"embeddings\.(Concat|Reshape)_\d+"
"""Under which names an ONNX file holds the positions: the class token's, and the patches'."""


@dataclass(frozen=True)
class Sizes:
    """Of a network, by the names of `transformers`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    patch_size: int = 14
    positions: int = 37
    mlp_ratio: int = 4
    model_type: str = "dinov2"


class SelfAttention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.hidden_size
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attend = Attention(sizes.num_attention_heads)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.attend(self.query(x), self.key(x), self.value(x))
        return result


class Projected(nn.Module):
    """Attention and the linear layer behind it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = SelfAttention(sizes)
        self.output = nn.ModuleDict({"dense": nn.Linear(sizes.hidden_size, sizes.hidden_size)})

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.output["dense"](self.attention(x))
        return result


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.lambda1 * x


class MLP(nn.Module):
    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.fc1, self.activation, self.fc2 = (
            nn.Linear(width, inside),
            nn.GELU(),
            nn.Linear(inside, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc2(self.activation(self.fc1(x)))
        return result


class Layer(nn.Module):
    """Tokens [B, N, C] -> the same."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.hidden_size
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Projected(sizes)
        self.layer_scale1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, sizes.mlp_ratio * width)
        self.layer_scale2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale1(self.attention(self.norm1(x)))
        result: Tensor = x + self.layer_scale2(self.mlp(self.norm2(x)))
        return result


class Embeddings(nn.Module):
    """Images [B, 3, H, W] -> tokens [B, 1 + rows * columns, C], the class token first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, patch = sizes.hidden_size, sizes.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + sizes.positions**2, width))
        self.patch_embeddings = nn.ModuleDict(
            {"projection": nn.Conv2d(3, width, patch, stride=patch)}
        )

    def forward(self, image: Tensor) -> Tensor:
        grid = self.patch_embeddings["projection"](image)
        patches = (grid + self._positions(grid.shape[2], grid.shape[3])).flatten(2).mT
        first = (self.cls_token + self.position_embeddings[:, :1]).expand(image.shape[0], -1, -1)
        return torch.cat([first, patches], dim=1)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """[1, C, rows, columns], as `transformers` interpolates them: bicubic."""
        side = isqrt(self.position_embeddings.shape[1] - 1)
        table = self.position_embeddings[:, 1:].mT.unflatten(2, (side, side))
        return F.interpolate(table, (rows, columns), mode="bicubic", align_corners=False)


class Encoder(nn.Module):
    """Tokens [B, N, C] -> the same, through all layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(sizes) for _ in range(sizes.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return x


class DINOv2(nn.Module):
    """Images [B, 3, H, W], normalised, sides multiples of the patch -> tokens [B, 1 + rows *
    columns, C] before the last norm, the class token first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.config = sizes
        self.embeddings = Embeddings(sizes)
        self.encoder = Encoder(sizes)
        self.layernorm = nn.LayerNorm(sizes.hidden_size, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.encoder(self.embeddings(image))
        return tokens


def load_official(path: str | Path) -> DINOv2:
    """A network with the weights of a file: of `transformers`, or an ONNX file made from there.

    Raises BundleError when the file is missing, damaged or of another network.
    """
    state = read_network(path, "dinov2")
    state = {name: v for name, v in state.items() if not name.startswith(UNUSED)}
    folded = [name for name in state if re.fullmatch(FOLDED, name)]
    if folded:
        parts = sorted((state.pop(name) for name in folded), key=lambda part: part.shape[1])
        state["embeddings.position_embeddings"] = torch.cat(parts, dim=1)
    try:
        width, _, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
        positions = isqrt(state["embeddings.position_embeddings"].shape[1] - 1)
        inside = state["encoder.layer.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError, IndexError):
        raise BundleError(f"{path}: not the weights of a DINOv2 that covis knows.") from None
    layers = sum(name.endswith(".norm1.weight") for name in state)
    net = DINOv2(Sizes(width, layers, width // HEAD, patch, positions, inside // width))
    load_strictly(net, state, path)
    return net.eval()
