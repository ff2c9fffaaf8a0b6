"""The recipe of `lightglue-xfeat-covis`: imitate a published matcher, then learn from truth.

First every attention learns, fed with the teacher's own states, what the teacher's does; then
the deep layers learn to go on from what the ones before them really give, and the true
correspondences of rendered pairs decide; at last the confidences are learnt. Without a teacher
the network starts as a nearest-neighbour matcher. A step's pairs are a function of (seed,
step), as in `covis.training.recipes.xfeat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.features import Extractor
from covis.matching.nearest import mutual_nearest
from covis.nets.lightglue import LightGlue, load_official
from covis.training.checkpoint import BEST, began_with, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.labelled_pairs import LabelledPair, render_labelled
from covis.training.data.photos import load_photos, photos_below
from covis.training.data.scenes import Scenes
from covis.training.data.synthetic import Difficulty
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, fit
from covis.training.loop import Run as TrainingRun
from covis.training.losses.lightglue import (
    Trace,
    assignment_loss,
    best_partners,
    confidence_loss,
    imitation_loss,
    trace,
)
from covis.training.moving_average import follow
from covis.training.reporting import Report
from covis.training.schedule import StagedRecipe
from covis.training.start import begin_with

REUSE = 4
"""Steps that a pair takes part in: rendering it costs as much as learning from it."""
GAP = 16
"""Steps between two of them."""
SCENE_SIZE = 1024
"""Longest side that photos of scenes are shrunk to, in pixels."""
VALIDATION_SIZE, VALIDATION_KEYPOINTS = 400, 512


@dataclass(frozen=True)
class Stage:
    """A stretch of training. `rate` is Muon's while the states are fed, else AdamW's."""

    share: float
    size: int
    """Of the views, in pixels."""
    keypoints: int
    pairs: int
    rate: float
    final_rate: float
    difficulty: Difficulty
    imitation: float = 0.0
    """Weight of the imitation losses; 0 switches the teacher off."""
    fed: bool = False
    """Give every attention the teacher's states. Only the heads learn from the truth then."""
    truth: float = 0.0
    """Weight of the published loss."""
    kept: int = 0
    """Layers, from the first, that stay as they are; their heads learn."""
    real: float = 0.0
    """Share of the pairs taken from real scenes, where there are some."""
    confidence: bool = False
    """Learn the confidences, and nothing else."""


MILD = Difficulty(planes_probability=0.4, light=0.8, zoom=1.7, shift=0.15)
HARD = Difficulty(rotation=40, zoom=2.2, tilt=50, shift=0.25, planes_probability=0.6, light=0.9)

# On its own states all at once the network forgets faster than it learns, at any rate that
# gets anywhere; with the first layers kept it gains from the first hundred updates on.
WITH_TEACHER = (
    Stage(0.25, 320, 256, 8, 1.2e-2, 1.2e-2, MILD, imitation=1.0, fed=True, truth=0.1),
    Stage(0.35, 400, 512, 4, 1.2e-2, 2e-3, HARD, imitation=1.0, fed=True, truth=0.1),
    Stage(0.10, 480, 1024, 4, 2e-3, 2e-4, HARD, imitation=1.0, fed=True, truth=0.1),
    Stage(0.25, 400, 512, 4, 5e-4, 1e-5, HARD, imitation=0.3, truth=1.0, kept=4, real=0.8),
    Stage(0.05, 480, 1024, 4, 1e-2, 1e-3, HARD, real=0.5, confidence=True),
)
WITHOUT_TEACHER = (
    Stage(0.95, 400, 512, 4, 5e-4, 1e-5, HARD, truth=1.0, real=0.8),
    Stage(0.05, 480, 1024, 4, 1e-2, 1e-3, HARD, real=0.5, confidence=True),
)
FROM_START = (
    Stage(0.95, 400, 512, 4, 5e-4, 1e-5, HARD, truth=1.0, kept=4, real=0.8),
    Stage(0.05, 480, 1024, 4, 1e-3, 1e-4, HARD, real=0.5, confidence=True),
)
"""From weights that match already: the first layers stay as they are."""
INNER = 0.3
"""Weight of the heads of all inner layers together, beside the last one's."""


@dataclass(frozen=True, kw_only=True)
class Recipe(StagedRecipe[Stage]):
    """Everything a run depends on besides its photos, features and teacher."""

    steps: int = 5_000
    dim: int = 96
    layers: int = 6
    heads: int = 1
    ema: float = 0.995
    clip: float = 1.0
    checkpoint_every: int = 200
    validation_pairs: int = 100
    recompute: bool = False
    """Compute activations twice and keep fewer: less memory, a third more time."""
    stages: tuple[Stage, ...] = WITH_TEACHER


@dataclass(frozen=True)
class Batch:
    """B pairs: image 0 of all, then image 1.

    descriptors: [2 B, N, D]. positions: [2 B, N, 2 or 4]. partners: [2 B, N].
    """

    descriptors: Tensor
    positions: Tensor
    partners: Tensor

    @classmethod
    def of(cls, pairs: list[LabelledPair], device: torch.device) -> Batch:
        """Pairs cut to as many features as the smallest has."""
        count = min(pair.partners.shape[1] for pair in pairs)
        pairs = [pair.first(count) for pair in pairs]
        arrays = (
            np.concatenate(np.stack([getattr(pair, name) for pair in pairs], axis=1))
            for name in ("descriptors", "positions", "partners")
        )
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def as_nearest_neighbour(net: LightGlue) -> None:
    """Start where matching already works: as a dual softmax over the descriptors.

    The input's projection is orthonormal, no attention changes a point, every head compares
    the points as they are, and every point is thought to have a partner.
    """
    with torch.no_grad():
        if isinstance(net.input_proj, nn.Linear):
            nn.init.orthogonal_(net.input_proj.weight)
            nn.init.zeros_(net.input_proj.bias)
        for index in range(net.layers):
            for attention in net.attentions(index):
                for parameter in attention.ffn[-1].parameters():
                    nn.init.zeros_(parameter)
        for index in map(int, net.log_assignment):
            head = net.assignment(index)
            # Descriptors of unit length: similarities of -20..20 for the softmax.
            scale = 20**0.5 / head.scale
            head.final_proj.weight.copy_(scale * torch.eye(net.dim))
            nn.init.zeros_(head.final_proj.bias)
            nn.init.zeros_(head.matchability.weight)
            nn.init.constant_(head.matchability.bias, 2.0)


class Run(TrainingRun[Batch]):
    """One training run: the network, its average, the optimisers, and where it stands."""

    metric = "score"

    def __init__(
        self,
        photos: list[NDArray[Any]],
        recipe: Recipe,
        features: str,
        teacher: LightGlue | None,
        device: torch.device,
        *,
        scenes: Scenes | None = None,
        workers: Workers | None = None,
        start: str | Path | None = None,
    ) -> None:
        super().__init__(device, workers)
        self.keeps_start = start is not None
        self.held_out, self.photos = hold_out(photos, recipe.held_out, recipe.seed)
        self.recipe: Recipe = recipe
        most = max(VALIDATION_KEYPOINTS, *(stage.keypoints for stage in recipe.stages))
        # Even the weakest peaks, so that every view has as many features as are asked for.
        self.scenes = scenes
        self.extract, self.extract_scene = (
            Extractor(features, max_keypoints=most, max_size=size, threshold=0.0, threads=1)
            for size in (0, SCENE_SIZE)
        )
        example = self.extract(self.photos[0])
        self.scale_orientation = example.scales is not None
        torch.manual_seed(recipe.seed)
        self.net, self.average = (
            LightGlue(
                example.descriptors.shape[1],
                dim=recipe.dim,
                layers=recipe.layers,
                heads=recipe.heads,
                scale_orientation=self.scale_orientation,
            ).to(device)
            for _ in range(2)
        )
        if start is not None:
            begin_with(self.net, start, "lightglue")
        elif teacher is None:
            as_nearest_neighbour(self.net)
        if teacher is not None:
            _check_teacher(teacher, self.net)
            teacher.to(device).requires_grad_(False)
        self.teacher = teacher
        self.average.load_state_dict(self.net.state_dict())
        self.average.requires_grad_(False)
        # Sharp attention to places cannot be learnt while the frequencies move.
        self.net.posenc.requires_grad_(False)
        learnt = [(n, p) for n, p in self.net.named_parameters() if p.requires_grad]
        matrices = [p for n, p in learnt if n.startswith("transformers") and p.ndim == 2]
        inner = {id(p) for p in matrices}
        rest = [p for _, p in learnt if id(p) not in inner]
        self.imitating: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0),
        )
        self.tuning = torch.optim.AdamW([p for _, p in learnt], betas=(0.9, 0.98), weight_decay=0.0)
        self._validation: list[LabelledPair] = []

    @property
    def latest(self) -> LightGlue:
        return self.average

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in (*self.imitating, self.tuning)],
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(
            (*self.imitating, self.tuning), state["optimisers"], strict=True
        ):
            optimiser.load_state_dict(saved)

    def render(self, step: int) -> list[LabelledPair]:
        """The pairs that are new at `step`, which may lie before the first."""
        stage, _ = self.recipe.at(max(step, 0))
        rng = np.random.default_rng((self.recipe.seed, self.workers.rank, step + REUSE * GAP))
        pairs = []
        for _ in range(max(stage.pairs // REUSE, 1)):
            # Depth maps have gaps; what is rendered keeps the labels clean.
            if self.scenes and stage.real and rng.random() < stage.real:
                pairs.append(self.scenes.labelled(self.extract_scene, stage.keypoints, rng))
            else:
                pairs.append(
                    render_labelled(
                        self.photos,
                        self.extract,
                        stage.size,
                        stage.keypoints,
                        stage.difficulty,
                        rng,
                    )
                )
        return pairs

    def batches(self, ahead: int = 4) -> Iterator[Batch]:
        """Batches from the present step to the last, rendered ahead in threads."""
        oldest = self.step - (REUSE - 1) * GAP
        with ThreadPoolExecutor(2) as pool:
            rendered = {
                step: pool.submit(self.render, step) for step in range(oldest, self.step + ahead)
            }
            for step in range(self.step, self.recipe.steps):
                if step + ahead < self.recipe.steps:
                    rendered[step + ahead] = pool.submit(self.render, step + ahead)
                window = range(step - (REUSE - 1) * GAP, step + 1, GAP)
                pairs = [pair for born in window for pair in rendered[born].result()]
                del rendered[window[0]]
                yield Batch.of(pairs, self.device)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update. Returns the losses by name."""
        stage, rate = self.recipe.at(self.step)
        optimisers = self.imitating if stage.fed else (self.tuning,)
        for optimiser, share in zip(optimisers, (1.0, 0.3), strict=False):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        losses = self._confidence_losses(batch) if stage.confidence else self._losses(stage, batch)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.workers.average_gradients(self.net.parameters())
        nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        for optimiser in optimisers:
            optimiser.step()
        follow(self.average, self.net, self.step, self.recipe.ema)
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _losses(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        inputs = batch.descriptors, batch.positions
        losses: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16):
            shown: Trace | None = None
            if stage.imitation and self.teacher is not None:
                with torch.no_grad():
                    shown = trace(self.teacher, *inputs)
            own = trace(
                self.net,
                *inputs,
                fed=shown if stage.fed else None,
                kept=stage.kept,
                recompute=self.recipe.recompute,
            )
            if shown is not None and self.teacher is not None:
                parts = imitation_loss(self.net, self.teacher, own, shown)
                for name in parts if stage.fed else ["assignment"]:
                    losses[name] = stage.imitation * parts[name]
        if stage.truth:
            states = [x.detach() if stage.fed else x for x in own.states[2::2]]
            *inner, outer = (
                assignment_loss(self.net.assignment(i), x, batch.partners)
                for i, x in enumerate(states)
            )
            losses["truth"] = stage.truth * outer
            if inner:
                losses["inner"] = stage.truth * INNER * torch.stack(inner).mean()
        return losses

    def _confidence_losses(self, batch: Batch) -> dict[str, Tensor]:
        """On the average, which is what ships; only the confidences are taken from the network."""
        with torch.no_grad():
            own = trace(self.average, batch.descriptors, batch.positions)
        last = self.net.layers - 1
        final, _ = best_partners(self.average.assignment(last), own.states[-1])
        losses = []
        for index in range(last):
            x = own.states[2 * index + 2]
            here, _ = best_partners(self.average.assignment(index), x)
            losses.append(confidence_loss(self.net.confidence(index), x, here, final))
        return {"confidence": torch.stack(losses).mean()}

    def candidates(self) -> Iterator[Candidate]:
        yield Candidate(self.average, self.validate(self.average))

    def validate(self, net: LightGlue) -> dict[str, float]:
        """Match pairs of held-out photos, the same every time.

        Precision and recall of the matches, "score", their harmonic mean, and the same of
        mutual nearest neighbours: the floor.
        """
        if not self._validation:
            rng = np.random.default_rng((self.recipe.seed, 2))
            self._validation = [
                render_labelled(
                    self.held_out, self.extract, VALIDATION_SIZE, VALIDATION_KEYPOINTS, HARD, rng
                )
                for _ in range(self.recipe.validation_pairs)
            ]
        counts, floor = np.zeros(3), np.zeros(3)
        for pair in self._validation:
            found, _ = mutual_nearest(*pair.descriptors, threads=1)
            floor += pair.judge(found)
            batch = Batch.of([pair], self.device)
            with torch.no_grad():
                own = trace(net, batch.descriptors, batch.positions)
                best, log_p = best_partners(net.assignment(net.layers - 1), own.states[-1])
            partner0, partner1 = torch.where(log_p > np.log(0.1), best, -1).cpu().numpy()
            rows = np.arange(len(partner0))
            mutual = (partner0 >= 0) & (partner1[partner0] == rows)
            counts += pair.judge(np.column_stack([rows, partner0])[mutual])
        return _rates("", counts) | _rates("nearest_", floor)


def _rates(prefix: str, counts: NDArray[Any]) -> dict[str, float]:
    """(correct, judged, findable) -> precision, recall and their harmonic mean."""
    correct, judged, findable = counts
    precision, recall = correct / max(judged, 1), correct / max(findable, 1)
    score = 2 * precision * recall / max(precision + recall, 1e-9)
    named = {"precision": precision, "recall": recall, "score": score}
    return {prefix + name: round(float(value), 4) for name, value in named.items()}


def _check_teacher(teacher: LightGlue, net: LightGlue) -> None:
    for name in ("input_dim", "dim", "layers", "heads", "scale_orientation"):
        theirs, ours = getattr(teacher, name), getattr(net, name)
        if theirs != ours:
            raise TrainingError(
                f"the teacher's {name} is {theirs}, the matcher's {ours}: they must agree."
            )


def train(
    photos: Path,
    out: Path,
    *,
    features: str = "xfeat",
    teacher: Path | None = None,
    scenes: Path | None = None,
    start: str | Path | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train LightGlue for `features` on the photographs under `photos`; returns the best
    weights' path.

    out: takes `checkpoint.pt` (to resume from), `best.safetensors` and `latest.safetensors`
    (official key names) and `curve.csv`. teacher: published weights of the same sizes for such
    descriptors, to imitate first. scenes: a folder in MegaDepth's layout, to learn from real
    scenes too. start: weights of the recipe's sizes to begin with, see
    `covis.training.start.read_start`. Under `torchrun` every process draws its own pairs, and
    gradients are averaged.

    Raises TrainingError when there are too few photos, `out` holds a run and `resume` is
    not given, there is none to resume or it began otherwise; BundleError when the features, the
    teacher or the start do not load.
    """
    out = Path(out)
    where, workers = join(device)
    recipe = recipe or Recipe()
    if teacher is None:
        recipe = replace(recipe, stages=WITHOUT_TEACHER)
    if start is not None:
        last = recipe.layers - 1
        stages = (replace(stage, kept=min(stage.kept, last)) for stage in FROM_START)
        recipe = replace(recipe, stages=tuple(stages))
    saved = to_resume(out, resume)
    notes = began_with(out, saved, recipe, features, teacher is not None, scenes is not None)
    report = workers.once(report)
    report(f"reading the photos under {photos}")
    paths = photos_below(photos)
    taught = None if teacher is None else load_official(teacher)
    run = Run(
        load_photos(paths, report),
        recipe,
        features,
        taught,
        where,
        scenes=None if scenes is None else Scenes(scenes),
        workers=workers,
        start=start,
    )
    fit(run, out, saved=saved, notes=notes, report=report)
    return out / BEST
