"""LightGlue -> a bundle with the steps of its adaptive loop, and one file of fixed depth."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from covis.export.bundle import About, replacing_bundle, writing_bundle
from covis.export.onnx_graph import read_weights, write_graph
from covis.matching import lightglue as matching
from covis.matching.lightglue import Settings
from covis.nets.lightglue import Attention, LightGlue, Step, steps
from covis.runtime.bundle import Bundle
from covis.runtime.onnx import OnnxGraph
from covis.runtime.torch import TorchGraph
from covis.types import Features

LIGHTERGLUE = (64, 96, 6, 1)
"""Its numbers a descriptor, channels, layers and heads."""
FIXED_OUTPUTS = ("matches0", "scores0", "matches1", "scores1")


Net = TypeVar("Net", bound=nn.Module)


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


class FusedGelu(nn.Module):
    """`nn.GELU` as one operator of ONNX Runtime."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "com.microsoft::Gelu", (x,), dtype=x.dtype, shape=x.shape, version=1
        )


def fuse(net: Net) -> Net:
    """A copy with ONNX Runtime's own operators, in evaluation mode."""
    net = copy.deepcopy(net).cpu().eval()
    for parent in list(net.modules()):
        for name, module in parent.named_children():
            if isinstance(module, Attention):
                setattr(parent, name, FusedAttention(module.heads))
            elif isinstance(module, nn.GELU):
                setattr(parent, name, FusedGelu())
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
    features: str,
    settings: Settings | None = None,
    half: bool = False,
    **about: Unpack[About],
) -> Bundle:
    """Write `net` as a bundle to `folder`, whole or not at all; what was there is replaced.

    features: the kind of features it matches, or the model's name where it is for one only;
        `Matcher` refuses others; "" for all whose descriptors have the right size.
    settings: thresholds other than the published ones, which `default_settings` gives.
    half: store the weights as float16.

    Raises BundleError when `folder` holds something else than a bundle.
    """
    settings = settings or default_settings(net)
    stored = {"features": features, "dim": net.dim, "heads": net.heads} | asdict(settings)
    parts = steps(fuse(net))
    with writing_bundle(folder, "lightglue", parts, stored, **about) as new:
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


def official_state_dict(bundle: Bundle) -> dict[str, Tensor]:
    """A bundle's weights with the official key names."""
    state: dict[str, Tensor] = {}
    for role in bundle.graphs:
        kind, index = role.rstrip("0123456789"), role.lstrip("abcdefghijklmnopqrstuvwxyz")
        for name, values in read_weights(bundle.graph(role)).items():
            for before, official in _OFFICIAL.get(kind, {}).items():
                if name.startswith(before):
                    state[official.format(index) + name.removeprefix(before)] = torch.from_numpy(
                        values.copy()
                    )
    return state


_OFFICIAL = {
    "encode": {"input_proj.": "input_proj.", "posenc.": "posenc."},
    "layer": {"layer.": "transformers.{}."},
    "decide": {"token_confidence.": "token_confidence.{}."},
    "assign": {"head.": "log_assignment.{}."},
}
"""By the kind of step: how the names of weights begin in its graph and in the network."""


def default_settings(net: LightGlue) -> Settings:
    """The published thresholds, or full depth and width where the network has no choice.

    LighterGlue's code, which is told by its sizes, never stops early and prunes sooner.
    """
    sizes = net.layers, net.input_dim, net.scale_orientation, net.adaptive
    if not net.adaptive:
        return Settings(*sizes, None, None)
    if (net.input_dim, net.dim, net.layers, net.heads) == LIGHTERGLUE:
        return Settings(*sizes, depth_confidence=None, width_confidence=0.95)
    return Settings(*sizes)


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


def export_fixed_depth(
    net: LightGlue, path: Path, *, threshold: float = 0.1, half: bool = False
) -> None:
    """Write the whole matcher to one ONNX file of standard operators; see `FixedDepth`.

    half: store the weights as float16.
    """
    example: dict[str, Tensor] = {}
    for image, points in enumerate((3, 5)):
        example[f"keypoints{image}"] = torch.rand(points, net.posenc.Wr.in_features)
        example[f"descriptors{image}"] = torch.rand(points, net.input_dim)
        example[f"size{image}"] = torch.tensor([640.0, 480.0])
    dynamic = {name: None if "size" in name else {0: _count(name)} for name in example}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(FixedDepth(net, threshold), example, FIXED_OUTPUTS, dynamic, path, half)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Reshape":
            # A size of 0 is an image without points, not "as it was".
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("allowzero", 1))
    onnx.save(model, path)


def export_for_other_runtimes(
    net: LightGlue,
    folder: Path,
    *,
    features: str = "",
    half: bool = False,
    full_depth: bool = False,
    **about: Unpack[About],
) -> tuple[Bundle, list[Parity]]:
    """Write a bundle, `one_file.onnx` of fixed depth beside it, and `parity.md`: whole or not at
    all; what was there is replaced.

    See `export_lightglue`. full_depth: let the bundle never stop early nor prune.
    """
    settings = default_settings(net)
    with replacing_bundle(folder) as new:
        bundle = export_lightglue(
            net,
            new,
            features=features,
            settings=settings.full() if full_depth else settings,
            half=half,
            **about,
        )
        one_file = new / "one_file.onnx"
        export_fixed_depth(net, one_file, threshold=settings.threshold, half=half)
        rows = compare(net, bundle, one_file)
        (new / "parity.md").write_text(parity_report(bundle, rows), encoding="utf-8")
    return Bundle.read(folder), rows


@dataclass(frozen=True)
class Parity:
    """One pair, matched with PyTorch and with ONNX Runtime; tuples are (PyTorch, ONNX Runtime).

    run: "as set", with the bundle's thresholds, "full" depth and width, or "one file".
    points: in image 0 and image 1. layers: that were run. pruned: points that were.
    matches: how many. common: those that both found. difference: between the scores of these,
    the largest. alike: whether every point was pruned at the same layer.
    """

    run: str
    points: tuple[int, int]
    layers: tuple[int, int]
    pruned: tuple[int, int]
    matches: tuple[int, int]
    common: int
    difference: float
    alike: bool


PARITY_SIZES = ((1, 1), (7, 100), (512, 400), (1024, 1024))
PARITY_HEADINGS = (
    "run", "points", "layers", "pruned", "matches", "in common", "largest score difference",
    "pruning alike",
)  # fmt: skip


def compare(
    net: LightGlue,
    bundle: Bundle,
    fixed: Path | None = None,
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
    seed: int = 0,
) -> list[Parity]:
    """Match made-up pairs with PyTorch and with the exported graphs.

    fixed: the file of `export_fixed_depth`, where there is one, with the bundle's threshold.
    sizes: how many points the two images have.
    """
    settings = Settings.of(bundle)
    modules = {role: TorchGraph(step, step.outputs) for role, step in steps(net).items()}
    runs = {"full": settings.full()}
    if settings.decides:
        runs = {"as set": settings} | runs
    matchers = {
        run: (
            matching.LightGlue(modules, chosen),
            matching.LightGlue.open(bundle, full=run == "full"),
        )
        for run, chosen in runs.items()
    }
    one_file = None if fixed is None else OnnxGraph(fixed)
    rows = []
    for index, counts in enumerate(sizes):
        pair = made_up_pair(net, counts, np.random.default_rng((seed, index)))
        for run, (in_torch, in_onnx) in matchers.items():
            rows.append(_parity(run, in_torch(*pair), in_onnx(*pair)))
        if one_file is not None:
            in_torch, _ = matchers["full"]
            found = _run_fixed(one_file, net, pair)
            rows.append(_parity("one file", in_torch(*pair), found))
    return rows


def agreement(rows: Sequence[Parity]) -> str:
    """What `compare` found, in a sentence."""
    common = sum(row.common for row in rows)
    largest = max(sum(row.matches[backend] for row in rows) for backend in range(2))
    same = sum(row.layers[0] == row.layers[1] and row.alike for row in rows)
    difference = max(row.difference for row in rows)
    return (
        f"PyTorch and ONNX Runtime: {common} of {largest} matches the same, scores within "
        f"{difference:.1e}, stopped and pruned alike in {same} of {len(rows)} runs."
    )


def parity_report(bundle: Bundle, rows: Sequence[Parity]) -> str:
    """What `compare` found, in Markdown."""
    lines = [PARITY_HEADINGS, ["---"] * len(PARITY_HEADINGS)]
    for row in rows:
        both = (" / ".join(map(str, pair)) for pair in (row.layers, row.pruned, row.matches))
        alike = "yes" if row.alike else "no"
        points = " x ".join(map(str, row.points))
        lines.append([row.run, points, *both, str(row.common), f"{row.difference:.1e}", alike])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""# {bundle.name}: PyTorch / ONNX Runtime

{agreement(rows)}

Made-up pairs; "as set" is the bundle with its own thresholds, "full" the bundle at full depth and
width, "one file" `one_file.onnx`. Counts are those of PyTorch / ONNX Runtime.

{table}
"""


def made_up_pair(
    net: LightGlue, counts: tuple[int, int], rng: np.random.Generator
) -> tuple[Features, Features]:
    """Two images of 640 x 480 that show the same random points, as many as both have."""
    most = max(counts)
    vectors = rng.standard_normal((most, net.input_dim))
    places = rng.random((most, 2)) * (640, 480)
    scales, turns = rng.random(most) * 10 + 2, rng.random(most) * 2 * np.pi
    pair = []
    for count in counts:
        noisy = vectors[:count] + 0.1 * rng.standard_normal((count, net.input_dim))
        moved = places[:count] + rng.standard_normal((count, 2))
        order = rng.permutation(count)
        unit = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        pair.append(
            Features(
                keypoints=moved[order].astype(np.float32),
                scores=np.ones(count, np.float32),
                descriptors=unit[order].astype(np.float32),
                width=640,
                height=480,
                model="made up",
                scales=scales[:count][order].astype(np.float32),
                orientations=turns[:count][order].astype(np.float32),
            )
        )
    return pair[0], pair[1]


def _run_fixed(
    graph: OnnxGraph, net: LightGlue, pair: tuple[Features, Features]
) -> matching.Correspondences:
    inputs = {}
    for image, features in enumerate(pair):
        keypoints = features.keypoints
        if net.scale_orientation:
            assert features.scales is not None
            assert features.orientations is not None
            keypoints = np.column_stack([keypoints, features.scales, features.orientations])
        inputs[f"keypoints{image}"] = keypoints
        inputs[f"descriptors{image}"] = features.descriptors
        inputs[f"size{image}"] = np.array([features.width, features.height], np.float32)
    partners, scores = graph(["matches0", "scores0"], **inputs)
    kept = np.flatnonzero(partners >= 0)
    lived = (np.full(len(features), net.layers) for features in pair)
    indices = np.column_stack([kept, partners[kept]])
    return matching.Correspondences(indices, scores[kept], net.layers, *lived)


def _parity(
    run: str, in_torch: matching.Correspondences, in_onnx: matching.Correspondences
) -> Parity:
    both = in_torch, in_onnx
    found0, found1 = (
        dict(zip(map(tuple, found.indices.tolist()), found.scores.tolist(), strict=True))
        for found in both
    )
    common = found0.keys() & found1.keys()
    pruned = [
        sum(int((lived < found.layers).sum()) for lived in (found.layers0, found.layers1))
        for found in both
    ]
    return Parity(
        run=run,
        points=(len(in_torch.layers0), len(in_torch.layers1)),
        layers=(in_torch.layers, in_onnx.layers),
        pruned=(pruned[0], pruned[1]),
        matches=(len(found0), len(found1)),
        common=len(common),
        difference=max((abs(found0[match] - found1[match]) for match in common), default=0.0),
        alike=np.array_equal(in_torch.layers0, in_onnx.layers0)
        and np.array_equal(in_torch.layers1, in_onnx.layers1),
    )
