"""A backbone of dense features and its LiFT -> a bundle that needs no other model."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn

from covis.errors import BundleError
from covis.export.bundle import About, writing_bundle
from covis.export.onnx_graph import read_weights, write_graph
from covis.export.vit import exportable
from covis.export.xfeat import FirstAtHalf, SecondAtHalf, fold_norms
from covis.nets.dense import Backbone, XFeatMap
from covis.nets.lift import LiFT
from covis.nets.upsampler import Upsampler
from covis.options import RuntimeOptions
from covis.runtime.bundle import KIND, Bundle
from covis.runtime.onnx import OnnxGraph

LARGEST = 2**31
"""Bytes that an ONNX file can hold."""
ACCURACY = 1e-3
"""How far features may be from PyTorch's, of their own size: far more than rounding takes."""


class BackboneGraph(nn.Module):
    """RGB pixels [H, W, 3] uint8, sides multiples of what the backbone takes -> the normalised
    image [1, 3, H, W] and its features [1, C, H / patch, W / patch]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        image = self.backbone.normalise(pixels.permute(2, 0, 1)[None].float() / 255)
        return image, self.backbone(image)


def export_lift(
    lift: LiFT | None,
    backbone: Backbone,
    folder: Path,
    *,
    half: bool = False,
    **about: Unpack[About],
) -> Bundle:
    """Write a backbone and its LiFT as a bundle to `folder`, whole or not at all; what was there
    is replaced.

    lift: None for features that are not lifted. half: store the weights as float16, half the
    size.

    Raises BundleError when `lift` was trained on other features, the backbone is too large or of
    a kind whose graph does not give its features, or `folder` holds something else than a bundle.
    """
    if lift is not None:
        lift.check(backbone.kind)
    kind = backbone.kind
    if 4 * sum(weight.numel() for weight in backbone.parameters()) > LARGEST:
        raise BundleError(f"{kind.backbone}: too large, the ONNX file would be of more than 2 GiB.")
    graph = BackboneGraph(_for_export(backbone)).eval()
    pixels = _noise(2 * backbone.multiple, 3 * backbone.multiple)
    size = torch.export.Dim
    rows, columns = size("rows"), size("columns")
    roles = ["backbone"]
    settings = {
        "stride": kind.patch,
        "multiple": backbone.multiple,
        "channels": kind.channels,
        "unit": kind.unit,
        KIND: asdict(kind),
    }
    if lift is not None:
        roles.append("lift")
        settings["cell"] = lift.cell
    with writing_bundle(folder, "lift", roles, settings, **about) as new:
        write_graph(
            graph,
            {"pixels": pixels},
            ["image", "features"],
            {"pixels": {0: backbone.multiple * rows, 1: backbone.multiple * columns}},
            new / "backbone.onnx",
            half,
        )
        if not half:
            _check(new / "backbone.onnx", backbone)
        if lift is not None:
            _write_lift(lift, new / "lift.onnx", half, lift.cell, kind.channels)
    return Bundle.read(folder)


class OnUpsampled(nn.Module):
    """What a residual LiFT adds to bilinear enlargement, added to what an upsampler gives instead.
    For features that have no unit length."""

    def __init__(self, lift: LiFT, upsampler: Upsampler) -> None:
        super().__init__()
        self.lift, self.upsampler = lift, upsampler
        self.smaller = lift.cell // upsampler.cell

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """As `LiFT.forward`."""
        seen = nn.functional.avg_pool2d(image, self.smaller)
        return self.upsampler(seen, features) + self.lift.given(image, features)


def export_lift_alone(
    lift: LiFT,
    folder: Path,
    *,
    upsampler: Upsampler | None = None,
    half: bool = False,
    **about: Unpack[About],
) -> Bundle:
    """The same without the backbone, which is to be installed beside it: the model of the name that
    `lift.kind` has for it, with the same weights, layer and facet.

    upsampler: takes the place of bilinear enlargement in a residual LiFT, see `OnUpsampled`.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    settings = {"cell": lift.cell, "channels": lift.kind.channels, KIND: asdict(lift.kind)}
    with writing_bundle(folder, "lift", ["lift"], settings, **about) as new:
        net = lift if upsampler is None else OnUpsampled(lift, upsampler)
        _write_lift(net, new / "lift.onnx", half, lift.cell, lift.kind.channels)
    return Bundle.read(folder)


def export_upsampler(
    net: Upsampler, folder: Path, *, half: bool = False, **about: Unpack[About]
) -> Bundle:
    """Write an upsampler, which serves any backbone, as a bundle without one to `folder`.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    with writing_bundle(folder, "lift", ["lift"], {"cell": net.cell}, **about) as new:
        _write_lift(net, new / "lift.onnx", half, net.cell)
    return Bundle.read(folder)


def with_share(lift: LiFT, share: float) -> LiFT:
    """A copy of a residual LiFT that adds this share of what the network gives to the features
    enlarged bilinearly.

    Raises BundleError for one that is not residual.
    """
    if not lift.residual:
        raise BundleError("this LiFT is not residual: there is no share of it to take.")
    lesser = deepcopy(lift)
    with torch.no_grad():
        for values in lesser.outc.parameters():
            values.mul_(share)
    return lesser


@torch.no_grad()
def narrowed(lift: LiFT, width: int, seen: Iterable[tuple[Tensor, Tensor]]) -> LiFT:
    """A copy whose transposed convolution gives `width` channels only: what the convolution behind
    it makes of these is as near as can be to what it made of all, on what was `seen`.

    seen: images and their features, as `LiFT.forward` takes them. Nothing but linear stands between
    the two convolutions, so the channels can be mixed: singular value decomposition says how.
    """
    narrow = deepcopy(lift)
    up, convolve = narrow.up1.up, narrow.up1.conv_1.double_conv[0]
    assert isinstance(convolve, nn.Conv2d)
    assert up.bias is not None
    weight, full = convolve.weight.double(), up.out_channels
    moments = torch.zeros(full, full, dtype=torch.float64)
    for image, features in seen:
        coarse = lift.image_convs_2(lift.image_convs_1(image))
        given = lift.up1.up(torch.cat([features, coarse], dim=1))
        cells = given.permute(1, 0, 2, 3).flatten(1).double()
        moments += cells @ cells.T
    values, vectors = torch.linalg.eigh(moments)
    roots = values.clamp_min(1e-9 * values[-1]).sqrt()
    half = vectors * roots
    *_, axes = torch.linalg.svd(weight[:, :full].movedim(1, 3).flatten(0, 2) @ half)
    there, back = axes[:width] / roots @ vectors.T, half @ axes[:width].T
    narrow.up1.up = nn.ConvTranspose2d(up.in_channels, width, 2, stride=2)
    narrow.up1.up.weight.copy_(torch.einsum("ioab,ro->irab", up.weight.double(), there))
    narrow.up1.up.bias.copy_(there @ up.bias.double())  # type: ignore[union-attr]
    mixed = torch.einsum("moyx,or->mryx", weight[:, :full], back)
    kept = torch.cat([mixed, weight[:, full:]], dim=1).to(convolve.weight)
    convolve.weight, convolve.in_channels = nn.Parameter(kept), kept.shape[1]
    return narrow


def _write_lift(
    net: nn.Module, path: Path, half: bool, cell: int, channels: int | None = None
) -> None:
    """Write what doubles the resolution of features. cell: pixels of the image that it takes for
    one of theirs. channels: theirs; None for any number."""
    names = ("rows", "columns", "channels")
    rows, columns, any_number = (torch.export.Dim(name) for name in names)
    write_graph(
        net.eval(),
        {
            "image": torch.rand(1, 3, 4 * cell, 20 * cell),
            "features": torch.rand(1, channels or 6, 4, 20),
        },
        ["lifted"],
        {
            "image": {2: cell * rows, 3: cell * columns},
            "features": {2: rows, 3: columns} | ({} if channels else {1: any_number}),
        },
        path,
        half,
    )


def official_state_dict(bundle: Bundle) -> dict[str, Tensor]:
    """The weights of a bundle's LiFT with the official key names.

    Raises BundleError when it has none, or one of another architecture than the paper's.
    """
    if "lift" not in bundle.graphs:
        raise BundleError(f"{bundle.name}: has no LiFT, its features are not lifted.")
    stored = read_weights(bundle.graph("lift"))
    if "image_convs_1.0.weight" not in stored:
        raise BundleError(
            f"{bundle.name}: its network is not LiFT's as published, so the official key names do "
            f"not fit; its graph is {bundle.graph('lift')}."
        )
    state = {name: torch.from_numpy(values.copy()) for name, values in stored.items()}
    counters = [name for name in state if name.endswith("running_mean")]
    for name in counters:
        counter = f"{name.removesuffix('running_mean')}num_batches_tracked"
        state[counter] = torch.tensor(0)
    return state


def _for_export(backbone: Backbone) -> Backbone:
    """A copy that ONNX Runtime is faster with."""
    if not isinstance(backbone, XFeatMap):
        return exportable(backbone)
    net = fold_norms(backbone.net)
    net.block1[0], net.block1[1] = FirstAtHalf(net.block1[0]), SecondAtHalf(net.block1[1])
    return XFeatMap(net, backbone.kind.backbone)


def _noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)


def _check(graph: Path, backbone: Backbone) -> None:
    """Raises BundleError when the graph gives other features than the network, at another size
    than it was traced at."""
    pixels = _noise(5 * backbone.multiple, 4 * backbone.multiple)
    with torch.inference_mode():
        _, wanted = BackboneGraph(backbone.cpu())(pixels)
    try:
        (found,) = OnnxGraph(graph, RuntimeOptions(threads=1))(["features"], pixels=pixels.numpy())
    except Exception:  # ONNX Runtime's own exceptions share no base class.
        found = np.zeros(1, np.float32)
    if found.shape != wanted.shape or np.linalg.norm(found - wanted.numpy()) > (
        ACCURACY * float(wanted.norm())
    ):
        raise BundleError(
            f"{backbone.kind.backbone}: exported, it gives other features than under PyTorch; "
            "it is of a kind, or of a release of transformers, that covis does not know."
        )
