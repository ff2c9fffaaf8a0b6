"""DISK -> the graphs of its bundle: the scores of an image, and descriptors where keypoints are."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from covis.export.bundle import About, writing_bundle
from covis.export.onnx_graph import write_graph
from covis.nets.disk import DISK, SIZE_MULTIPLE
from covis.runtime.bundle import Bundle


class DetectGraph(nn.Module):
    """RGB pixels [H, W, 3] uint8 -> scores [H, W] and features [H, W, 80]."""

    def __init__(self, net: DISK) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features(pixels.permute(2, 0, 1)[None].float() / 255)
        return self.net.scores(features)[0], features[0].permute(1, 2, 0)


class DescribeGraph(nn.Module):
    """`DISK.describe`."""

    def __init__(self, net: DISK) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, keypoints: Tensor) -> Tensor:
        return self.net.describe(features, keypoints)


def export_disk(net: DISK, folder: Path, **about: Unpack[About]) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    size = torch.export.Dim
    pixels = torch.randint(0, 256, (2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        _, features = DetectGraph(net)(pixels)
    sides = {0: SIZE_MULTIPLE * size("rows"), 1: SIZE_MULTIPLE * size("columns")}
    with writing_bundle(folder, "disk", ["detect", "describe"], **about) as new:
        write_graph(
            DetectGraph(net),
            {"pixels": pixels},
            ["scores", "features"],
            {"pixels": sides},
            new / "detect.onnx",
            half=False,
        )
        write_graph(
            DescribeGraph(net),
            {"features": features, "keypoints": torch.arange(10).reshape(5, 2)},
            ["descriptors"],
            {"features": {0: size("height"), 1: size("width")}, "keypoints": {0: size("points")}},
            new / "describe.onnx",
            half=False,
        )
    return Bundle.read(folder)
