"""ALIKED -> the graphs of its bundle: the maps of an image, and descriptors where keypoints are."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from covis.export.bundle import About, writing_bundle
from covis.export.onnx_graph import write_graph
from covis.nets.aliked import ALIKED, LEVELS, SIZE_MULTIPLE
from covis.runtime.bundle import Bundle

MAPS = [f"map{level}" for level in range(LEVELS)]


class DetectGraph(nn.Module):
    """RGB pixels [H, W, 3] uint8 -> scores [H, W] and the four maps, channels last."""

    def __init__(self, net: ALIKED) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        maps = self.net.maps(pixels.permute(2, 0, 1)[None].float() / 255)
        return self.net.scores(maps)[0], *(level[0].permute(1, 2, 0) for level in maps)


class DescribeGraph(nn.Module):
    """`ALIKED.describe` with an input for each map."""

    def __init__(self, net: ALIKED) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, keypoints: Tensor, box: Tensor, map0: Tensor, map1: Tensor, map2: Tensor, map3: Tensor
    ) -> Tensor:
        return self.net.describe([map0, map1, map2, map3], keypoints, box)


def export_aliked(net: ALIKED, folder: Path, **about: Unpack[About]) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    size = torch.export.Dim
    pixels = torch.randint(0, 256, (2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        _, *maps = DetectGraph(net)(pixels)
    example = dict(zip(MAPS, maps, strict=True))
    with writing_bundle(folder, "aliked", ["detect", "describe"], **about) as new:
        write_graph(
            DetectGraph(net),
            {"pixels": pixels},
            ["scores", *MAPS],
            {
                "pixels": {
                    0: SIZE_MULTIPLE * size("rows"),
                    1: SIZE_MULTIPLE * size("columns"),
                }
            },
            new / "detect.onnx",
            half=False,
        )
        write_graph(
            DescribeGraph(net),
            {
                "keypoints": torch.rand(5, 2) * SIZE_MULTIPLE,
                "box": torch.tensor([1, 2, 3 * SIZE_MULTIPLE - 3, 2 * SIZE_MULTIPLE - 5]),
                **example,
            },
            ["descriptors"],
            {
                "keypoints": {0: size("points")},
                "box": None,
                **{
                    level: {0: size(f"rows{i}"), 1: size(f"columns{i}")}
                    for i, level in enumerate(MAPS)
                },
            },
            new / "describe.onnx",
            half=False,
        )
    return Bundle.read(folder)
