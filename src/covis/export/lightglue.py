"""LightGlue -> a bundle with the steps of its adaptive loop, and one file of fixed depth."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from covis.export.bundle import replacing_bundle, write_description
from covis.export.onnx_graph import write_graph
from covis.matching.lightglue import Settings
from covis.nets.lightglue import Attention, LightGlue, Step, steps
from covis.runtime.bundle import Bundle

FIXED_INPUTS = ("keypoints0", "descriptors0", "size0", "keypoints1", "descriptors1", "size1")
FIXED_OUTPUTS = ("matches0", "scores0", "matches1", "scores1")


class FusedAttention(nn.Module):
    """`Attention` as the one operator of ONNX Runtime that never stores a similarity."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (q, k, v),
            {"num_heads": self.heads},
            dtype=q.dtype,
            shape=q.shape,
            version=1,
        )


def fuse_attention(net: LightGlue) -> LightGlue:
    """A copy for ONNX Runtime, in evaluation mode."""
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        if isinstance(getattr(module, "attend", None), Attention):
            module.attend = FusedAttention(net.heads)
    return net


class FixedDepth(nn.Module):
    """The whole matcher at full depth and width, from pixels to matches, for other runtimes.

    keypoints: [M, 2] and [N, 2] pixels, or [.., 4] with scale and orientation. descriptors:
    [M, input_dim], [N, input_dim]. size: [2], the image's width and height in pixels.

    matches0: [M] int64, the partner of each point of image 0, -1 for none; matches1: [N].
    scores0: [M], scores1: [N], the probability of the match, 0 for none.
    """

    def __init__(self, net: LightGlue, threshold: float) -> None:
        super().__init__()
        self.net, self.threshold = net, threshold

    def forward(
        self,
        keypoints0: Tensor,
        descriptors0: Tensor,
        size0: Tensor,
        keypoints1: Tensor,
        descriptors1: Tensor,
        size1: Tensor,
    ) -> tuple[Tensor, ...]:
        log_p = self.net(
            descriptors0[None],
            self._positions(keypoints0, size0)[None],
            descriptors1[None],
            self._positions(keypoints1, size1)[None],
        )
        # The impossible partner of the last row and column is there even for an empty image.
        log_p = F.pad(log_p[0], (0, 1, 0, 1), value=-torch.inf)
        best0, best1 = log_p.argmax(dim=1), log_p.argmax(dim=0)
        return *self._mutual(best0, best1, log_p), *self._mutual(best1, best0, log_p.mT)

    @staticmethod
    def _positions(keypoints: Tensor, size: Tensor) -> Tensor:
        xy = (keypoints[:, :2] - size / 2) / (size.amax(dim=0) / 2)
        return torch.cat([xy, keypoints[:, 2:]], dim=1)

    def _mutual(self, best: Tensor, back: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """(partner or -1, score or 0) of each row but the last."""
        score = log_p.amax(dim=1).exp()[:-1]
        partner = best[:-1]
        rows = torch.arange(partner.shape[0])
        kept = (back[partner] == rows) & (score > self.threshold)
        return torch.where(kept, partner, -1), torch.where(kept, score, 0)


def export_lightglue(
    net: LightGlue,
    folder: Path,
    *,
    name: str,
    licence: str,
    source: str,
    features: str,
    settings: Settings | None = None,
    training: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    half: bool = False,
) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    features: the name of the features it matches, for people. settings: thresholds other than
    the published ones, which `default_settings` gives. half: store the weights as float16.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    settings = settings or default_settings(net)
    with replacing_bundle(folder) as new:
        parts = steps(fuse_attention(net))
        traced: dict[type[Step], Path] = {}
        for role, step in parts.items():
            path = new / f"{role}.onnx"
            if type(step) in traced:
                copy_graph(traced[type(step)], step.state_dict(), path)
            else:
                example = _example(net, step)
                dynamic = {name: {0: _count(name)} for name in example}
                write_graph(step, example, step.outputs, dynamic, path, half)
                traced[type(step)] = path
        write_description(
            Bundle(
                name=name,
                architecture="lightglue",
                graphs={role: f"{role}.onnx" for role in parts},
                licence=licence,
                source=source,
                folder=new,
                training=training or {},
                metrics=metrics or {},
                settings={"features": features, "dim": net.dim, "heads": net.heads}
                | settings.to_dict(),
            )
        )
    return Bundle.read(folder)


def copy_graph(traced: Path, weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the graph at `traced` to `path` with other weights of the same names and shapes.

    All layers are one graph, and tracing takes a hundred times as long.
    """
    model = onnx.load(traced)
    for tensor in model.graph.initializer:
        name = tensor.name.removesuffix(".half")
        if name in weights:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            values = weights[name].numpy().astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


def default_settings(net: LightGlue) -> Settings:
    """The published thresholds, or full depth and width where the network has no choice."""
    sizes = net.layers, net.input_dim, net.scale_orientation, net.adaptive
    return Settings(*sizes) if net.adaptive else Settings(*sizes, None, None)


def _example(net: LightGlue, step: Step) -> dict[str, Tensor]:
    """Inputs to trace a step with: 3 points in image 0, 5 in image 1."""
    widths = {
        "descriptors": net.input_dim,
        "positions": net.posenc.Wr.in_features,
        "cos": net.posenc.Wr.out_features,
        "sin": net.posenc.Wr.out_features,
        "x": net.dim,
        "m": net.dim,
    }
    example = {}
    for name in step.inputs:
        points = 5 if name.endswith("1") else 3
        width = widths.get(name.rstrip("01"))
        example[name] = torch.rand((points, width) if width else (points,))
    return example


def _count(name: str) -> Any:
    """The dimension of an input's points, the same for all arrays of one image."""
    return torch.export.Dim("points1" if name.endswith("1") else "points0")


def export_fixed_depth(net: LightGlue, path: Path, *, threshold: float = 0.1) -> None:
    """Write the whole matcher to one ONNX file of standard operators; see `FixedDepth`."""
    example: dict[str, Tensor] = {}
    for image, points in enumerate((3, 5)):
        example[f"keypoints{image}"] = torch.rand(points, net.posenc.Wr.in_features)
        example[f"descriptors{image}"] = torch.rand(points, net.input_dim)
        example[f"size{image}"] = torch.tensor([640.0, 480.0])
    dynamic = {name: None if "size" in name else {0: _count(name)} for name in example}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(FixedDepth(net, threshold), example, FIXED_OUTPUTS, dynamic, path, half=False)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Reshape":
            # A size of 0 is an image without points, not "as it was".
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("allowzero", 1))
    onnx.save(model, path)
