"""LightGlue's adaptive loop: early stopping, width pruning (section 3.3 of arXiv 2306.13643) and
the assignment (section 3.2), on whichever backend runs the steps of the network.

The steps are those of `covis.nets.lightglue.steps`; a bundle holds them as ONNX graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, BundleError
from covis.matching.registry import Pairs
from covis.options import MatcherOptions, RuntimeOptions
from covis.runtime.bundle import Bundle
from covis.runtime.deadline import check_time
from covis.runtime.graph import Graph, on_host
from covis.runtime.onnx import open_graphs
from covis.types import Features, FloatArray

IntArray = NDArray[np.int64]

BLOCK = 2**20
"""Similarities that are looked at together when matches are read off."""


@dataclass(frozen=True)
class Settings:
    """What the loop has to know of a network, and when it stops and prunes.

    layers: how many the network has. input_dim: of the descriptors.
    scale_orientation: whether it needs the features' scales and orientations.
    adaptive: whether it has the heads that tell when to stop and what to prune.
    depth_confidence: stop when more than this share of the points is sure; None for never.
    width_confidence: drop sure points that have no partner with this probability; None for
        never.
    threshold: least probability of a match.
    """

    layers: int
    input_dim: int
    scale_orientation: bool = False
    adaptive: bool = True
    depth_confidence: float | None = 0.95
    width_confidence: float | None = 0.99
    threshold: float = 0.1

    def __post_init__(self) -> None:
        for name in ("depth_confidence", "width_confidence", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(f"{name} must lie in 0..1, not {value}.")
        if self.decides and not self.adaptive:
            raise ArgumentError(
                "these LightGlue weights lack the heads that tell when to stop and what to prune: "
                "they run at full depth and width only (no depth_confidence, width_confidence)."
            )

    @classmethod
    def of(cls, bundle: Bundle) -> Settings:
        """The settings in a bundle. Raises BundleError when they are none."""
        names = [field.name for field in fields(cls)]
        try:
            return cls(**{name: bundle.settings[name] for name in names})
        except (KeyError, TypeError, ArgumentError) as error:
            raise BundleError(f"{bundle.name}: no settings for LightGlue ({error}).") from error

    def full(self) -> Settings:
        """The same at full depth and width."""
        return replace(self, depth_confidence=None, width_confidence=None)

    @property
    def decides(self) -> bool:
        """Whether the heads of the inner layers are needed."""
        return (self.depth_confidence, self.width_confidence) != (None, None)

    def sure_from(self, layers: int) -> np.float32:
        """The confidence from which on a point counts as sure, after so many layers."""
        return np.float32(min(0.8 + 0.1 * np.exp(-4 * (layers - 1) / self.layers), 1))


@dataclass(frozen=True, eq=False)
class Correspondences:
    """What LightGlue says of one pair.

    indices: (K, 2) int64 into the two sets of features, ordered by the first.
    scores: (K,) float32, the probability of each match.
    layers: how many layers were run.
    layers0, layers1: (M,) and (N,) int64, how many layers each point lived through; less than
        `layers` for those that were pruned.
    """

    indices: IntArray
    scores: FloatArray
    layers: int
    layers0: IntArray
    layers1: IntArray


@dataclass(frozen=True, eq=False)
class _Points:
    """The points of one image that are still there.

    x: (n, d). cos, sin: (n, h / 2). These lie where the network runs, see `Graph.on_device`.
    index: (n,) which of the features they are.
    """

    x: Any
    cos: Any
    sin: Any
    index: IntArray

    def __len__(self) -> int:
        return len(self.index)


class _Decision(NamedTuple):
    """What the heads of a layer say of the points of one image: (n,), 0..1."""

    confidence: FloatArray
    matchability: FloatArray


class LightGlue:
    """Matches pairs of features, each on its own: no pair's result depends on another's."""

    def __init__(self, graphs: Mapping[str, Graph], settings: Settings) -> None:
        """graphs: the steps of the network by name."""
        self._graphs, self.settings = graphs, settings

    @classmethod
    def open(
        cls, bundle: Bundle, *, full: bool = False, runtime: RuntimeOptions | None = None
    ) -> LightGlue:
        """Load a bundle. full: run all layers on all points even where it could be adaptive.

        Raises BundleError when it is not LightGlue's, or is damaged.
        """
        if bundle.architecture != "lightglue":
            raise BundleError(f"'{bundle.name}' is a bundle for {bundle.architecture}.")
        settings = Settings.of(bundle)
        if full:
            settings = settings.full()
        last = settings.layers - 1
        inner = range(last) if settings.decides else range(0)
        roles = ["encode", *(f"layer{i}" for i in range(settings.layers)), "normalise", "best"]
        roles += [*(f"decide{i}" for i in inner), *(f"assign{i}" for i in (*inner, last))]
        return cls(open_graphs(bundle, roles, runtime), settings)

    def batch(self, pairs: Iterable[tuple[Features, Features]]) -> list[Correspondences]:
        """Several pairs of any sizes; the same as one by one, to the last bit."""
        return [self(*pair) for pair in pairs]

    def __call__(self, features0: Features, features1: Features) -> Correspondences:
        """Match one pair. Raises ArgumentError when the features are not of the right kind,
        OutOfTime between two layers where `working_until` says so."""
        points0, points1 = self._encode(features0), self._encode(features1)
        lived0, lived1 = (np.zeros(len(points), np.int64) for points in (points0, points1))
        total = len(points0) + len(points1)
        layers = 0
        while layers < self.settings.layers and len(points0) and len(points1):
            check_time()
            points0, points1 = self._advance(layers, points0, points1)
            layers += 1
            lived0[points0.index] = lived1[points1.index] = layers
            if layers == self.settings.layers or not self.settings.decides:
                continue
            decision0, decision1 = self._decide(layers, points0), self._decide(layers, points1)
            if self._done(layers, decision0, decision1, total):
                break
            points0 = self._prune(layers, points0, decision0)
            points1 = self._prune(layers, points1, decision1)
        indices, scores = self._assign(layers, points0, points1)
        return Correspondences(indices, scores, layers, lived0, lived1)

    def _encode(self, features: Features) -> _Points:
        settings = self.settings
        dimension = features.descriptors.shape[1]
        if dimension != settings.input_dim:
            raise ArgumentError(
                f"this LightGlue matches descriptors of {settings.input_dim} numbers; those of "
                f"'{features.model}' have {dimension}."
            )
        size = np.array([features.width, features.height], np.float32)
        positions = (features.keypoints - size / 2) / (size.max() / 2)
        if settings.scale_orientation:
            if features.scales is None or features.orientations is None:
                raise ArgumentError(
                    f"this LightGlue needs scales and orientations; '{features.model}' has none."
                )
            positions = np.column_stack([positions, features.scales, features.orientations])
        x, cos, sin = self._graphs["encode"].on_device(
            ["x", "cos", "sin"], descriptors=features.descriptors, positions=positions
        )
        return _Points(x, cos, sin, np.arange(len(features)))

    def _advance(self, layer: int, points0: _Points, points1: _Points) -> tuple[_Points, _Points]:
        """Run one layer, counted from 0."""
        y0, y1 = self._graphs[f"layer{layer}"].on_device(
            ["y0", "y1"],
            x0=points0.x,
            x1=points1.x,
            cos0=points0.cos,
            sin0=points0.sin,
            cos1=points1.cos,
            sin1=points1.sin,
        )
        return replace(points0, x=y0), replace(points1, x=y1)

    def _decide(self, layers: int, points: _Points) -> _Decision:
        outputs = self._graphs[f"decide{layers - 1}"](["confidence", "matchability"], x=points.x)
        return _Decision(*outputs)

    def _done(self, layers: int, decision0: _Decision, decision1: _Decision, total: int) -> bool:
        """Whether enough of the `total` points are sure after so many layers, or pruned."""
        depth, threshold = self.settings.depth_confidence, self.settings.sure_from(layers)
        if depth is None:
            return False
        unsure = sum(
            np.count_nonzero(decision.confidence < threshold) for decision in (decision0, decision1)
        )
        return 1 - unsure / total > depth

    def _prune(self, layers: int, points: _Points, decision: _Decision) -> _Points:
        """The points that may still find a partner, or are not sure that they have none."""
        width = self.settings.width_confidence
        if width is None:
            return points
        keep = decision.matchability > np.float32(1 - width)
        if self.settings.depth_confidence is not None:
            keep |= decision.confidence <= self.settings.sure_from(layers)
        if keep.all():
            return points
        return _Points(points.x[keep], points.cos[keep], points.sin[keep], points.index[keep])

    def _assign(
        self, layers: int, points0: _Points, points1: _Points
    ) -> tuple[IntArray, FloatArray]:
        """The mutual best of the assignment (equation 8) above the threshold.

        Works on blocks of rows: memory grows with the points, not their product.
        """
        if not len(points0) or not len(points1):
            return np.empty((0, 2), np.int64), np.empty(0, np.float32)
        m0, m1, *bias = self._graphs[f"assign{layers - 1}"].on_device(
            ["m0", "m1", "log_matchability0", "log_matchability1"], x0=points0.x, x1=points1.x
        )
        log_matchability0, log_matchability1 = map(on_host, bias)
        count0, count1 = len(points0), len(points1)
        step = max(1, BLOCK // count1)
        blocks = [slice(begin, begin + step) for begin in range(0, count0, step)]

        top0, bias0 = np.empty_like(log_matchability0), log_matchability0.copy()
        top1, spread1 = np.full((2, count1), -np.inf, np.float32)
        for block in blocks:
            top0[block], spread, top, more = self._graphs["normalise"](
                ["top0", "spread0", "top1", "spread1"], m0=m0[block], m1=m1
            )
            bias0[block] -= spread
            highest = np.maximum(top1, top)
            spread1 = np.logaddexp(spread1 + (top1 - highest), more + (top - highest))
            top1 = highest

        best0, partner0 = np.empty_like(top0), np.empty(count0, np.int64)
        best1, partner1 = np.full_like(top1, -np.inf), np.zeros(count1, np.int64)
        for block in blocks:
            best0[block], partner0[block], score, row = self._graphs["best"](
                ["score0", "index0", "score1", "index1"],
                m0=m0[block],
                m1=m1,
                top0=top0[block],
                top1=top1,
                bias0=bias0[block],
                bias1=log_matchability1 - spread1,
            )
            better = score > best1
            best1[better], partner1[better] = score[better], row[better] + block.start

        scores = np.exp(best0)
        mutual = partner1[partner0] == np.arange(count0)
        kept = np.flatnonzero(mutual & (scores > self.settings.threshold))
        indices = np.column_stack([points0.index[kept], points1.index[partner0[kept]]])
        return indices, scores[kept]


class LightGlueMatcher:
    """The LightGlue of one bundle, as `Matcher` opens it."""

    def __init__(self, bundle: Bundle, options: MatcherOptions, runtime: RuntimeOptions) -> None:
        self.name, self.bundle = bundle.name, bundle
        self._match = LightGlue.open(bundle, full=options.full_depth, runtime=runtime)

    def __call__(self, features0: Features, features1: Features) -> Pairs:
        """See `PairMatcher`; scores are probabilities."""
        found = self._match(features0, features1)
        return Pairs(found.indices, found.scores)
