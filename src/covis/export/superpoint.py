"""SuperPoint -> its bundle: one graph, an image to its score map and cells' descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from covis.export.bundle import About, writing_bundle
from covis.export.onnx_graph import write_graph
from covis.nets.superpoint import STRIDE, SuperPoint
from covis.runtime.bundle import Bundle


class DetectGraph(nn.Module):
    """A grey image [1, 1, H, W] -> scores [8 h, 8 w] and descriptors [h, w, 256]."""

    def __init__(self, net: SuperPoint) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scores, descriptors = self.net(image)
        return scores[0], descriptors[0].permute(1, 2, 0)


def export_superpoint(net: SuperPoint, folder: Path, **about: Unpack[About]) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    size = torch.export.Dim
    with writing_bundle(folder, "superpoint", ["detect"], **about) as new:
        write_graph(
            DetectGraph(net),
            {"image": torch.rand(1, 1, 3 * STRIDE + 3, 4 * STRIDE + 5)},
            ["scores", "descriptors"],
            {"image": {2: size("rows", min=STRIDE), 3: size("columns", min=STRIDE)}},
            new / "detect.onnx",
            half=False,
        )
    return Bundle.read(folder)
