"""EdgePoint2 -> the graph of its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from covis.export.bundle import replacing_bundle, write_description
from covis.export.onnx_graph import read_weights, write_graph
from covis.nets.edgepoint import SIZE_MULTIPLE, EdgePoint
from covis.runtime.bundle import Bundle

LICENCE = "MIT, if these are the published weights"
"""What an import says when it is not told."""


class DetectGraph(nn.Module):
    """A normalised grey image [B, 1, H, W] -> logits [B, H, W] and descriptors [B, H/4, W/4, D]."""

    def __init__(self, net: EdgePoint) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.net.maps(image)
        return maps.scores[:, 0], maps.descriptors.permute(0, 2, 3, 1)


def export_edgepoint(
    net: EdgePoint,
    folder: Path,
    *,
    name: str,
    licence: str,
    source: str,
    training: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    size = torch.export.Dim
    with replacing_bundle(folder) as new:
        write_graph(
            DetectGraph(net.eval()),
            {"image": torch.randn(2, 1, 2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE)},
            ["scores", "descriptors"],
            {
                "image": {
                    0: size("images"),
                    2: SIZE_MULTIPLE * size("rows"),
                    3: SIZE_MULTIPLE * size("columns"),
                }
            },
            new / "detect.onnx",
            half=False,
        )
        write_description(
            Bundle(
                name=name,
                architecture="edgepoint",
                graphs={"detect": "detect.onnx"},
                licence=licence,
                source=source,
                folder=new,
                training=training or {},
                metrics=metrics or {},
            )
        )
    return Bundle.read(folder)


def official_state_dict(bundle: Bundle) -> dict[str, Tensor]:
    """The weights of a bundle by their official names."""
    return {
        name.removeprefix("net."): torch.from_numpy(values.copy())
        for name, values in read_weights(bundle.graph("detect")).items()
        if name.startswith("net.")
    }
