"""The recipe of `xfeat-covis`: imitate a published XFeat, then learn from correspondences.

Stages run one after another, each with its own view size, difficulty and rates. Every
step draws its pairs from a generator seeded by (seed, step), so a run that was killed and
resumed sees the same pairs, and ends with the same weights, as one that was not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.export.xfeat import DetectGraph, fold_norms
from covis.features.xfeat import peaks, sample_descriptors
from covis.nets.xfeat import STRIDE, XFeat, XFeatOutput, load_official
from covis.training.checkpoint import BEST, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.photos import load_photos, photos_below
from covis.training.data.synthetic import Difficulty, Pair, render_pair
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, NetRun, fit
from covis.training.losses.xfeat import (
    descriptor_loss,
    imitation_loss,
    keypoint_loss,
    offset_loss,
    reliability_loss,
)
from covis.training.moving_average import follow
from covis.training.reporting import Report
from covis.training.schedule import StagedRecipe
from covis.training.start import begin_with
from covis.training.validation import KEYPOINTS, Extract, PairSet, validate

IMITATION_WEIGHTS = {
    "cosine": 4.0,
    "norm": 0.5,
    "keypoints": 0.5,
    "reliability": 1.0,
    "hints": 0.5,
}


@dataclass(frozen=True)
class Stage:
    """A stretch of training. Rates fall from `rate` to `final_rate` along a cosine."""

    share: float
    """Share of the run's steps."""
    size: int
    pairs: int
    rate: float
    final_rate: float
    difficulty: Difficulty
    imitation: float = 0.0
    """Weight of the imitation losses; 0 switches the teacher off."""
    correspondence: float = 0.0
    """Weight of the published losses. The offsets are always learnt, here on the features
    as they are where this is 0."""
    freeze_norms: bool = False
    """Use the running statistics of the batch norms, as inference does."""


MILD = Difficulty(planes_probability=0.25, light=0.8, zoom=1.6)
HARD = Difficulty(
    rotation=40, zoom=2.2, tilt=45, planes_probability=0.5, any_rotation_probability=0.1, light=1.2
)

WITH_TEACHER = (
    Stage(0.55, 256, 5, 3e-3, 8e-4, MILD, imitation=1.0),
    Stage(0.28, 384, 4, 8e-4, 1e-4, MILD, imitation=1.0),
    Stage(0.01, 384, 4, 1e-4, 2e-4, HARD, imitation=1.0, correspondence=0.2, freeze_norms=True),
    Stage(0.16, 384, 4, 2e-4, 1e-6, HARD, imitation=1.0, correspondence=0.2, freeze_norms=True),
)
WITHOUT_TEACHER = (
    Stage(0.40, 256, 5, 1e-3, 1e-3, MILD, correspondence=1.0),
    Stage(0.60, 320, 5, 1e-3, 1e-6, HARD, correspondence=1.0),
)
FROM_START = (
    Stage(0.10, 384, 4, 1e-4, 2e-4, HARD, imitation=1.0, correspondence=0.2, freeze_norms=True),
    Stage(0.90, 384, 4, 2e-4, 1e-6, HARD, imitation=1.0, correspondence=0.2, freeze_norms=True),
)
"""From weights that match already: as the end of `WITH_TEACHER`. Where there is no other teacher
they are their own, so that keypoints stay where they were."""


@dataclass(frozen=True, kw_only=True)
class Recipe(StagedRecipe[Stage]):
    """Everything a run depends on besides its photos."""

    steps: int = 9_000
    ema: float = 0.998
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    validate_every: int = 1000
    validation_pairs: int = 50
    blends: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    """Shares of the last weights, the rest being the imitation's end, that are tried at last."""
    stages: tuple[Stage, ...] = WITH_TEACHER


def _ready(net: XFeat, device: torch.device) -> XFeat:
    """On its device, in the layout that convolutions are fastest in."""
    return net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Run(NetRun[list[Pair]]):
    """One training run: the network, its average, the optimiser, and where it stands."""

    metric = "score"

    def __init__(
        self,
        photos: list[NDArray[Any]],
        recipe: Recipe,
        teacher: XFeat | None,
        device: torch.device,
        workers: Workers | None = None,
        start: str | Path | None = None,
    ) -> None:
        super().__init__(device, workers)
        self.held_out, self.photos = hold_out(photos, recipe.held_out, recipe.seed)
        self.keeps_start = start is not None
        self.recipe: Recipe = recipe
        torch.manual_seed(recipe.seed)
        self.net: XFeat = _ready(XFeat(), device)
        if start is not None:
            begin_with(self.net, start, "xfeat")
            teacher = teacher or copy.deepcopy(self.net).eval()
        self.average = _ready(XFeat(), device).eval()
        self.average.load_state_dict(self.net.state_dict())
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                # A batch of ten views is too noisy for the default of 0.1.
                module.momentum = 0.02
        self.teacher = teacher
        if teacher is not None:
            _ready(teacher, device).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=1e-3, weight_decay=recipe.weight_decay
        )
        self.anchor: dict[str, Tensor] | None = None
        """The average at the end of imitation."""

    @property
    def latest(self) -> XFeat:
        return self.average

    def state(self) -> dict[str, Any]:
        return super().state() | {"average": self.average.state_dict(), "anchor": self.anchor}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.average.load_state_dict(state["average"])
        self.anchor = state["anchor"]

    def batch(self, step: int) -> list[Pair]:
        """This process' own pairs of a step: a function of the seed, the step and its rank."""
        stage, _ = self.recipe.at(step)
        # Zeros at the end change no generator: the first process draws what a lone one does.
        rng = np.random.default_rng((self.recipe.seed, step, 0, self.workers.rank))
        return [
            render_pair(self.photos, stage.size, stage.difficulty, rng) for _ in range(stage.pairs)
        ]

    def train_step(self, pairs: list[Pair]) -> dict[str, float]:
        """One update. Returns the losses by name."""
        stage, rate = self.recipe.at(self.step)
        if self.anchor is None and stage.imitation and stage.correspondence:
            self.anchor = copy.deepcopy(self.average.state_dict())
        self.net.train()
        if stage.freeze_norms:
            for module in self.net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

        losses = self.learn(self._losses(stage, pairs), rate, self.recipe.clip)
        follow(self.average, self.net, self.step, self.recipe.ema)
        self.step += 1
        return losses

    def _losses(self, stage: Stage, pairs: list[Pair]) -> dict[str, Tensor]:
        views = torch.from_numpy(np.stack([pair.views for pair in pairs])).to(self.device)
        images = views.flatten(0, 1)[:, None].float() / 255
        images = images.contiguous(memory_format=torch.channels_last)
        grey = self.net.normalise(images)
        with torch.autocast(self.device.type, torch.bfloat16):
            pyramid = self.net.pyramid(grey)
            output = XFeatOutput(*(o.float() for o in self.net.heads(grey, self.net.fuse(pyramid))))
        losses: dict[str, Tensor] = {}
        if stage.imitation and self.teacher is not None:
            with torch.no_grad():
                teacher_pyramid = self.teacher.pyramid(grey)
                target = self.teacher.heads(grey, self.teacher.fuse(teacher_pyramid))
            parts = imitation_loss(
                output, target, tuple(p.float() for p in pyramid), teacher_pyramid
            )
            for name, loss in parts.items():
                losses[name] = stage.imitation * IMITATION_WEIGHTS[name] * loss
        losses |= self._correspondence_losses(stage, pairs, output)
        if self.teacher is None:
            labels = torch.from_numpy(np.stack([corner_labels(v) for p in pairs for v in p.views]))
            generator = torch.Generator().manual_seed(self.step)
            losses["keypoints"] = 2 * keypoint_loss(
                output.keypoint_logits, labels.to(self.device), generator
            )
        return losses

    def _correspondence_losses(
        self, stage: Stage, pairs: list[Pair], output: XFeatOutput, offsets_of: int = 192
    ) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.recipe.seed, self.step, 1, self.workers.rank))
        sums: dict[str, list[Tensor]] = {"descriptors": [], "confidence": [], "offsets": []}
        fine: list[tuple[Tensor, Tensor, Tensor]] = []
        for index, pair in enumerate(pairs):
            cells0, cells1, offsets = corresponding_cells(pair)
            if len(cells0) < 32:
                continue
            feature0, feature1 = (output.features[2 * index + view] for view in range(2))
            x = feature0[:, cells0[:, 1], cells0[:, 0]].T
            y = feature1[:, cells1[:, 1], cells1[:, 0]].T
            if stage.correspondence:
                # Where the counterpart lies in its cell matters to sparse matching, which
                # samples there; the rounded cells would teach it to tolerate half a cell.
                exact0, exact1 = STRIDE * cells0 + offsets, STRIDE * cells1
                loss, confidence = descriptor_loss(
                    sample_features(feature0, exact0), sample_features(feature1, exact1)
                )
                sums["descriptors"].append(loss)
                r0 = output.reliability[2 * index, 0, cells0[:, 1], cells0[:, 0]]
                r1 = output.reliability[2 * index + 1, 0, cells1[:, 1], cells1[:, 0]]
                # With a teacher its reliability, which ranks the keypoints, is kept.
                if self.teacher is None:
                    sums["confidence"].append(3 * reliability_loss(r0, r1, confidence))
            else:
                confidence = x.new_ones(len(x))
            chosen = torch.from_numpy(rng.permutation(len(x))[:offsets_of]).to(self.device)
            features = torch.cat([x[chosen], y[chosen]], dim=1)
            if not stage.correspondence:
                features = features.detach()
            fine.append((features, offsets.to(self.device)[chosen], confidence[chosen]))
        if fine:
            features, offsets, confidence = (torch.cat(part) for part in zip(*fine, strict=True))
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.net.fine_matcher(features).float()
            loss, _ = offset_loss(logits, offsets, confidence)
            sums["offsets"].append(2 * loss)
        weight = stage.correspondence or 1.0
        return {name: weight * torch.stack(parts).mean() for name, parts in sums.items() if parts}

    def validate(self, net: XFeat) -> dict[str, float]:
        """Measure `net` on held-out photos, the same pairs every time."""
        sets, recipe = pair_sets(MILD), self.recipe
        return validate(
            xfeat_features(net), self.held_out, sets, recipe.seed, recipe.validation_pairs
        )

    def candidates(self) -> Iterator[Candidate]:
        """The average, and at the end its blends."""
        nets = [(1.0, self.average)]
        if self.step == self.recipe.steps:
            nets += self.blends()
        for share, net in nets:
            name = f"{share:.0%} of the last weights"
            yield Candidate(net, {"share": share, **self.validate(net)}, name)

    def blends(self) -> Iterator[tuple[float, XFeat]]:
        """Networks between the end of imitation and the present average, by the latter's share.

        What correspondences teach beyond the teacher they also take from its precision; a
        mean of the two weights keeps most of both.
        """
        if self.anchor is None:
            return
        for share in self.recipe.blends:
            net = copy.deepcopy(self.average)
            for name, value in net.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(self.anchor[name].to(value), 1 - share)
            yield share, net


def pair_sets(difficulty: Difficulty) -> dict[str, PairSet]:
    """What validation matches: planes, and scenes of several planes."""
    flat = replace(difficulty, planes_probability=0, bend_probability=0)
    deep = replace(difficulty, planes_probability=1)
    return {
        "homography": PairSet(flat, flat=True, stream=2, size=480),
        "correct": PairSet(deep, flat=False, stream=3, size=480),
    }


def xfeat_features(net: XFeat) -> Extract:
    """Features as the runtime extracts them, of a network in evaluation mode."""
    device = next(net.parameters()).device
    graph = DetectGraph(fold_norms(net)).to(device)

    @torch.no_grad()
    def extract(view: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        image = torch.from_numpy(view)[None, None].float().to(device) / 255
        heat, maps, reliability, _ = (each[0].cpu().numpy() for each in graph(image))
        xy, _ = peaks(heat, reliability, KEYPOINTS, 0.05)
        return xy.astype(np.float64), sample_descriptors(maps, xy, view.shape[::-1])

    return extract


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Features [64, h, w] at pixels [N, 2] of the network's input, bilinear -> [N, 64].

    Pixels lie in the map as they do for sparse extraction.
    """
    sides = torch.tensor([features.shape[2], features.shape[1]]) * STRIDE - 1
    grid = (2 * points / sides - 1).to(features)
    return F.grid_sample(features[None], grid[None, :, None], align_corners=False)[0, :, :, 0].T


def corresponding_cells(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """The cells of the two views that show the same.

    Returns cells of view 0 and of view 1, [N, 2] each as (column, row), and where in view
    0's cell the exact counterpart lies: [N, 2] pixels in -4..4 from the cell's point.
    """
    rows, columns = np.nonzero(pair.visible)
    points0 = pair.points0[rows, columns]
    cells0 = np.floor(points0 / STRIDE + 0.5)
    inside = np.all((cells0 >= 0) & (cells0 < pair.views.shape[-1] // STRIDE), axis=1)
    cells0, points0 = cells0[inside], points0[inside]
    cells1 = np.column_stack([columns, rows])[inside]
    return (
        torch.from_numpy(cells0).long(),
        torch.from_numpy(cells1).long(),
        torch.from_numpy(points0 - STRIDE * cells0),
    )


def corner_labels(view: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The strongest Shi-Tomasi corner of each cell: (h, w) pixel in the cell, 64 for none."""
    labels = np.full((view.shape[0] // STRIDE, view.shape[1] // STRIDE), STRIDE**2, np.int64)
    corners = cv2.goodFeaturesToTrack(view, 0, 0.01, 4)
    if corners is not None:
        x, y = corners.reshape(-1, 2)[::-1].astype(np.int64).T
        labels[y // STRIDE, x // STRIDE] = (y % STRIDE) * STRIDE + x % STRIDE
    return labels


def train(
    photos: Path,
    out: Path,
    *,
    teacher: Path | None = None,
    start: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train XFeat on the photographs under `photos`; returns the best weights' path.

    out: takes `checkpoint.pt` (to resume from), `best.safetensors` and `latest.safetensors`
    (official key names) and `curve.csv`. teacher: published XFeat weights to imitate first; without
    them keypoints are taught by Shi-Tomasi corners and everything else by correspondences alone.
    start: weights to begin with, see `covis.training.start.read_start`: random ones by default.

    Raises TrainingError when there are too few photos, `out` holds a run and `resume` is
    not given, there is none to resume or it began otherwise; BundleError when the teacher or the
    start does not load.
    """
    out = Path(out)
    where, workers = join(device)
    saved = to_resume(out, resume)
    if saved is not None:
        steps, seed = steps or saved["steps"], saved["seed"]
        if saved["taught"] != (teacher is not None):
            raise TrainingError(
                f"{out}: this run began {'with' if saved['taught'] else 'without'} a teacher and "
                "can only go on so."
            )
    recipe = Recipe(
        steps=Recipe.steps if steps is None else steps,
        seed=seed,
        stages=FROM_START if start else WITHOUT_TEACHER if teacher is None else WITH_TEACHER,
    )
    if saved is not None and saved["recipe"] != repr(replace(recipe, steps=saved["steps"])):
        raise TrainingError(
            f"{out}: this run began with another recipe. Go on with the covis it began with, or "
            "start again with another --output."
        )
    report = workers.once(report)
    report(f"reading the photos under {photos}")
    paths = photos_below(photos)
    taught = None if teacher is None else load_official(teacher)
    notes = {
        "steps": recipe.steps,
        "seed": seed,
        "taught": teacher is not None,
        "recipe": repr(recipe),
    }
    run = Run(load_photos(paths, report), recipe, taught, where, workers, start)
    fit(run, out, saved=saved, notes=notes, report=report)
    return out / BEST
