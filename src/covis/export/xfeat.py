"""XFeat -> the graphs of its bundle: the network with its heads decoded, and the refinement."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.export.bundle import About, writing_bundle
from covis.export.int8 import write_int8
from covis.export.onnx_graph import read_weights, write_graph
from covis.features.xfeat import GLOBAL, GLOBAL_DIMENSION, STATISTICS
from covis.nets.delg import Delg, XFeatBackbone, light_delg
from covis.nets.xfeat import SIZE_MULTIPLE, STRIDE, BasicLayer, XFeat
from covis.runtime.bundle import INT8, Bundle
from covis.types import FloatArray

DETECT_OUTPUTS = ["keypoints", "features", "reliability", "keypoint_logits"]
OFFSET_TEMPERATURE = 3.0
NORM_EPSILON = 1e-5
IN_INTEGERS = tuple(
    f"net.{part}"
    for part in ("block2", "block3", "block4", "block5", "block_fusion", "heatmap_head")
)
IN_FLOAT = ("net.block_fusion.2", "net.heatmap_head.2")
"""Convolutions that can be computed in 8-bit integers, and of these the last, whose outputs are the
descriptors and reliabilities. The first layers take as long so, and lose matches; keypoints would
lose their places.
"""


def fold_norms(net: XFeat) -> XFeat:
    """A copy whose batch norms are folded into the layers before them; evaluation mode."""
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        if isinstance(module, nn.Sequential):
            for index, norm in enumerate(module):
                if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                    _fold(module[index - 1], norm)
                    module[index] = nn.Identity()
    return net


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Put the norm's running statistics into the layer's weight and bias."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias = nn.Parameter((bias - norm.running_mean) * scale)


class _Rewritten(nn.Module):
    """A folded `BasicLayer` computed another way, under the same parameter names."""

    def __init__(self, basic: nn.Module) -> None:
        super().__init__()
        assert isinstance(basic, BasicLayer)
        self.layer = basic.layer

    def conv(self) -> tuple[Tensor, Tensor]:
        conv = self.layer[0]
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        return conv.weight, conv.bias


class FirstAtHalf(_Rewritten):
    """The first layer, 3x3 on the full image, with its output at half resolution.

    [B, 1, H, W] -> [B, 4 C, H/2, W/2]: the four pixels of each 2x2 block become channels, so
    that nothing of full resolution is written. The weights become 4x4 with stride 2.
    """

    def forward(self, image: Tensor) -> Tensor:
        weight, bias = self.conv()
        places = [(row, column) for row in range(2) for column in range(2)]
        spread = [F.pad(weight, (column, 1 - column, row, 1 - row)) for row, column in places]
        return F.relu(F.conv2d(image, torch.cat(spread), bias.repeat(4), stride=2, padding=1))


class SecondAtHalf(_Rewritten):
    """The second layer, 3x3 with stride 2, on what `FirstAtHalf` gives.

    Output pixel (i, j) sees rows 2i-1, 2i, 2i+1: the lower half of block i-1, then block i.
    With a row and a column of zeros before them the taps fill 2x2 blocks.
    """

    def forward(self, blocks: Tensor) -> Tensor:
        weight, bias = self.conv()
        taps = F.pad(weight, (1, 0, 1, 0)).unflatten(3, (2, 2)).unflatten(2, (2, 2))
        by_phase = taps.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        return F.relu(F.conv2d(F.pad(blocks, (1, 0, 1, 0)), by_phase, bias))


class CellsAsConvolution(_Rewritten):
    """Laying 8x8 cells out as channels and a 1x1 convolution, as one with stride 8.

    [B, 1, H, W] -> [B, 64, H/8, W/8], without a copy of the image.
    """

    def forward(self, image: Tensor) -> Tensor:
        weight, bias = self.conv()
        return F.relu(F.conv2d(image, weight.view(-1, 1, STRIDE, STRIDE), bias, stride=STRIDE))


class DetectGraph(nn.Module):
    """A grey image [B, 1, H, W], and the `statistics` of `XFeat.normalise` where it is part of a
    larger one -> what extraction needs, laid out for it.

    keypoints: [B, H, W], each pixel's probability of being a keypoint.
    features: [B, H/8, W/8, 64], not normalised.
    reliability: [B, H/8, W/8].
    keypoint_logits: [B, 65, H/8, W/8].
    global: [B, G], unit length, only with `search`: what makes it of the maps.
    """

    def __init__(self, folded: XFeat, search: Delg | None = None) -> None:
        super().__init__()
        self.net = copy.deepcopy(folded)
        self.search = None if search is None else SearchHead(search)
        self.net.block1[0] = FirstAtHalf(folded.block1[0])
        self.net.block1[1] = SecondAtHalf(folded.block1[1])
        self.net.keypoint_head[0] = CellsAsConvolution(folded.keypoint_head[0])

    def forward(self, image: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, ...]:
        grey = self.net.normalise(image, statistics)
        features = self.net.fuse(self.net.pyramid(grey))
        logits = self.net.keypoint_head(grey)
        reliability = self.net.heatmap_head(features)
        # The runtime's softmax is fast over the last axis only: one does for all.
        cells = logits.permute(0, 2, 3, 1).softmax(dim=3)
        keypoints = cells[..., :-1].unflatten(3, (STRIDE, STRIDE)).transpose(2, 3)
        return (
            keypoints.flatten(3, 4).flatten(1, 2),
            features.permute(0, 2, 3, 1),
            reliability[:, 0],
            logits,
            *([] if self.search is None else [self.search(features, cells[..., -1], reliability)]),
        )


class SearchHead(nn.Module):
    """XFeat's maps -> global descriptors [B, G], without the XFeat that a DELG has inside."""

    def __init__(self, delg: Delg) -> None:
        super().__init__()
        assert isinstance(delg.backbone, XFeatBackbone)
        self.deepen, self.head = delg.backbone.deepen, delg.head

    def forward(self, features: Tensor, none: Tensor, reliability: Tensor) -> Tensor:
        """none: [B, H/8, W/8], how probably a cell has no keypoint."""
        return self.head(self.deepen.weighed(features, none[:, None], reliability))


class RefineGraph(nn.Module):
    """Pairs of matched semi-dense descriptors [N, 128] -> where image 0's point really lies.

    offsets: [N, 2], (x, y) pixels of the network's input, to add to the point in image 0.
    confidence: [N].
    """

    def __init__(self, folded: XFeat) -> None:
        super().__init__()
        self.net = folded

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        weights = (OFFSET_TEMPERATURE * self.net.fine_matcher(pairs)).softmax(dim=1)
        steps = torch.arange(STRIDE, dtype=weights.dtype) - STRIDE // 2
        cells = weights.unflatten(1, (STRIDE, STRIDE))
        x = (cells.sum(dim=1) * steps).sum(dim=1)
        y = (cells.sum(dim=2) * steps).sum(dim=1)
        return torch.stack([x, y], dim=1), weights.amax(dim=1)


def export_xfeat(
    net: XFeat,
    folder: Path,
    *,
    search: Delg | None = None,
    half: bool = False,
    pictures: Sequence[FloatArray] = (),
    **about: Unpack[About],
) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    search: what makes global descriptors of the network's maps, too.
    half: store the weights as float16, half the size.
    pictures: grey (h, w), sides multiples of 32, by which the graph in 8-bit integers is made;
        without any there is none.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    folded = fold_norms(net)
    size = torch.export.Dim
    with writing_bundle(
        folder,
        "xfeat",
        ["detect", "refine", *([f"detect{INT8}"] if pictures else [])],
        {STATISTICS: True} | ({} if search is None else {GLOBAL_DIMENSION: search.dimension}),
        **about,
    ) as new:
        write_graph(
            DetectGraph(folded, search),
            {
                "image": torch.rand(2, 1, 2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE),
                STATISTICS: torch.rand(2),
            },
            [*DETECT_OUTPUTS, *([] if search is None else [GLOBAL])],
            {
                "image": {
                    0: size("batch"),
                    2: SIZE_MULTIPLE * size("rows"),
                    3: SIZE_MULTIPLE * size("columns"),
                },
                STATISTICS: None,
            },
            new / "detect.onnx",
            half,
            defaults={STATISTICS: np.full(2, np.nan, np.float32)},
        )
        write_graph(
            RefineGraph(folded),
            {"pairs": torch.rand(2, 128)},
            ["offsets", "confidence"],
            {"pairs": {0: size("matches")}},
            new / "refine.onnx",
            half,
        )
        if pictures:
            write_int8(
                new / "detect.onnx",
                ({"image": picture[None, None]} for picture in pictures),
                lambda weight: not weight.startswith(IN_INTEGERS) or weight.startswith(IN_FLOAT),
                new / f"detect{INT8}.onnx",
            )
    return Bundle.read(folder)


def official_state_dict(bundle: Bundle) -> dict[str, Tensor]:
    """A bundle's weights with the official key names, batch norms folded.

    A folded norm keeps the bias as its negative mean, beside a variance of 1.
    """
    folded = {
        name.removeprefix("net."): torch.from_numpy(values)
        for role in ("detect", "refine")
        for name, values in read_weights(bundle.graph(role)).items()
        if name.startswith("net.")
    }
    state = XFeat().state_dict()
    for name in state:
        layer, _, leaf = name.rpartition(".")
        if leaf == "running_var":
            state[name] = torch.full_like(state[name], 1 - NORM_EPSILON)
        elif leaf == "running_mean":
            before, _, index = layer.rpartition(".")
            state[name] = -folded[f"{before}.{int(index) - 1}.bias"]
        elif leaf != "num_batches_tracked":
            state[name] = folded[name]
    # The linear layers have biases of their own, which now hold the norms' share as well.
    for name in list(state):
        if name.startswith("fine_matcher") and name.endswith("running_mean"):
            state[name] = torch.zeros_like(state[name])
    return state


def search_of(bundle: Bundle) -> Delg | None:
    """What makes a bundle's global descriptors of its network's maps; None where it has none.

    Its heads for local features, which no bundle for xfeat has, are random.
    """
    if GLOBAL_DIMENSION not in bundle.settings:
        return None
    delg = light_delg(xfeat_of(bundle)).eval()
    SearchHead(delg).load_state_dict(
        {
            name.removeprefix("search."): torch.from_numpy(values)
            for name, values in read_weights(bundle.graph("detect")).items()
            if name.startswith("search.")
        },
    )
    return delg


def xfeat_of(bundle: Bundle) -> XFeat:
    """The network of a bundle for xfeat, in evaluation mode."""
    net = XFeat()
    net.load_state_dict(official_state_dict(bundle))
    return net.eval()
