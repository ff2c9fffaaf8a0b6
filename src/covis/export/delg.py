"""DELG -> the graph of its bundle: one scale of an image; `features.delg` runs it at several."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from covis.export.bundle import About, writing_bundle
from covis.export.onnx_graph import write_graph
from covis.nets.delg import Delg
from covis.runtime.bundle import Bundle

DELG_OUTPUTS = ["global", "local", "attention"]


class DelgGraph(nn.Module):
    """[B, C, H, W] in 0..1 -> global [B, G], unit length; local [B, h, w, L], not normalised;
    attention [B, h, w]."""

    def __init__(self, delg: Delg) -> None:
        super().__init__()
        self.delg = delg.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.delg(image)
        return output.global_descriptor, output.local.permute(0, 2, 3, 1), output.attention[:, 0]


def export_delg(
    delg: Delg,
    folder: Path,
    *,
    attention_threshold: float = 0.0,
    half: bool = False,
    **about: Unpack[About],
) -> Bundle:
    """Write a DELG on a ResNet as a bundle to `folder`, whole or not at all; what was there is
    replaced.

    attention_threshold: local features need more attention than this. half: store the weights
    as float16, half the size.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    size = torch.export.Dim
    with writing_bundle(
        folder,
        "delg",
        ["delg"],
        {
            "global_dimension": delg.dimension,
            "receptive_field": delg.backbone.receptive_field()._asdict(),
            "attention_threshold": attention_threshold,
            "multiple": delg.backbone.multiple,
        },
        **about,
    ) as new:
        write_graph(
            DelgGraph(delg),
            {"image": torch.rand(2, 3, 96, 64)},
            DELG_OUTPUTS,
            {"image": {0: size("batch"), 2: size("rows", min=32), 3: size("columns", min=32)}},
            new / "delg.onnx",
            half,
        )
    return Bundle.read(folder)
