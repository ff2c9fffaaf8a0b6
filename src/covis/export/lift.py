"""LiFT on XFeat -> the two graphs of a bundle that needs no other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from covis.export.bundle import replacing_bundle, write_description
from covis.export.onnx_graph import write_graph
from covis.export.xfeat import FirstAtHalf, SecondAtHalf, fold_norms
from covis.nets.dense import XFeatMap
from covis.nets.lift import LiFT
from covis.runtime.bundle import Bundle


class BackboneGraph(nn.Module):
    """RGB pixels [H, W, 3] uint8, sides multiples of 32 -> the normalised image [1, 3, H, W]
    and its features [1, 64, H/8, W/8]."""

    def __init__(self, backbone: XFeatMap) -> None:
        super().__init__()
        net = fold_norms(backbone.net)
        net.block1[0], net.block1[1] = FirstAtHalf(net.block1[0]), SecondAtHalf(net.block1[1])
        self.backbone = XFeatMap(net, backbone.kind.backbone)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        image = self.backbone.normalise(pixels.permute(2, 0, 1)[None].float() / 255)
        return image, self.backbone(image)


def export_lift(
    lift: LiFT,
    backbone: XFeatMap,
    folder: Path,
    *,
    name: str,
    licence: str,
    source: str,
    training: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    half: bool = False,
) -> Bundle:
    """Write LiFT and its backbone as a bundle to `folder`, whole or not at all; what was there
    is replaced.

    half: store the weights as float16, half the size.

    Raises BundleError when `lift` was trained on other features or `folder` holds something
    else than a bundle.
    """
    lift.check(backbone.kind)
    size, kind = torch.export.Dim, backbone.kind
    pixels = torch.randint(
        0, 256, (2 * backbone.multiple, 3 * backbone.multiple, 3), dtype=torch.uint8
    )
    with torch.inference_mode():
        image, features = BackboneGraph(backbone)(pixels)
    rows, columns = size("rows"), size("columns")
    with replacing_bundle(folder) as new:
        write_graph(
            BackboneGraph(backbone),
            {"pixels": pixels},
            ["image", "features"],
            {"pixels": {0: backbone.multiple * rows, 1: backbone.multiple * columns}},
            new / "backbone.onnx",
            half,
        )
        write_graph(
            lift.eval(),
            {"image": image, "features": features},
            ["lifted"],
            {
                "image": {2: lift.cell * rows, 3: lift.cell * columns},
                "features": {2: rows, 3: columns},
            },
            new / "lift.onnx",
            half,
        )
        write_description(
            Bundle(
                name=name,
                architecture="lift",
                graphs={"backbone": "backbone.onnx", "lift": "lift.onnx"},
                licence=licence,
                source=source,
                folder=new,
                training=training or {},
                metrics=metrics or {},
                settings={
                    "stride": kind.patch,
                    "multiple": backbone.multiple,
                    "channels": kind.channels,
                },
            )
        )
    return Bundle.read(folder)
