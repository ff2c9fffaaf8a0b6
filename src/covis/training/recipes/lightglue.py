"""The recipe of covis' own LightGlues: imitate a published matcher, then learn from truth.

First every attention learns, fed with the teacher's own states, what the teacher's does; then
the deep layers learn to go on from what the ones before them really give, and the true
correspondences of rendered pairs decide; at last the confidences are learnt. The teacher is of
the same sizes and for such features (lightglue-xfeat-covis), or a wider one for ALIKED that looks
at the same keypoints (lightglue-edgepoint-covis), see `covis.training.keypoint_teacher`. Without
one the network starts as a nearest-neighbour matcher. A step's pairs are a function of (seed,
step), as in `covis.training.recipes.xfeat`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.features import Extractor
from covis.features.extractor import model_name
from covis.files.atomic import read_arrays, write_arrays
from covis.matching.nearest import mutual_nearest
from covis.matching.registry import fits, kinds
from covis.nets.aliked import load_official as load_aliked
from covis.nets.lightglue import LightGlue, load_official
from covis.nets.weights import load_strictly
from covis.runtime.bundle import Bundle
from covis.training.checkpoint import BEST, began_with, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.labelled_pairs import (
    NO_PARTNER,
    LabelledPair,
    Views,
    labelled,
    render_views,
)
from covis.training.data.pair_pool import PairPool
from covis.training.data.photos import load_photos, photos_below
from covis.training.data.scenes import Scenes
from covis.training.data.synthetic import Difficulty
from covis.training.distributed import Workers, join
from covis.training.keypoint_teacher import (
    Axes,
    KeypointTeacher,
    begin_like,
    check_wider,
    find_axes,
)
from covis.training.loop import Candidate, fit, rendered
from covis.training.loop import Run as TrainingRun
from covis.training.losses.lightglue import (
    Trace,
    assignment_loss,
    best_partners,
    confidence_loss,
    imitation_loss,
    state_loss,
    trace,
)
from covis.training.moving_average import follow
from covis.training.other_descriptors import PHOTOS, translated
from covis.training.reporting import Report
from covis.training.schedule import StagedRecipe, progress_at
from covis.training.start import begin_with, model_of, read_start

FIRST_PAIRS, PAIRS_A_STEP = 64, 0.5
"""How many pairs a run begins with, and how many more there are after each step, until there are
`Stage.pool`: making one costs as much as learning from it several times."""
AXES_PAIRS = 8
"""From which it is found what to show of a wider teacher's states."""
SCENE_SIZE = 1024
"""Longest side that photos of scenes are shrunk to, in pixels."""
SCENES_TURNED = 0.4
"""How often one view of a scene is turned."""
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
    fed: float = 0.0
    """Give every attention the teacher's states, this share of them beside its own. Only the heads
    learn from the truth then."""
    fed_end: float | None = None
    """The share at the stage's end, where it is another."""
    truth: float = 0.0
    """Weight of the published loss."""
    kept: int = 0
    """Layers, from the first, that stay as they are; their heads learn."""
    real: float = 0.0
    """Share of the pairs taken from real scenes, where there are some."""
    pool: int = 8_000
    """Pairs that are made; then they are only used again."""
    confidence: bool = False
    """Learn the confidences, and nothing else."""
    exact: bool = False
    """Compute in float32, not in bfloat16, in which sharp attentions are blurred."""


MILD = Difficulty(planes_probability=0.4, light=0.8, zoom=1.7, shift=0.15)
HARD = Difficulty(rotation=40, zoom=2.2, tilt=50, shift=0.25, planes_probability=0.6, light=0.9)

# On its own states all at once the network forgets faster than it learns, at any rate that
# gets anywhere; with the first layers kept it gains from the first hundred updates on.
WITH_TEACHER = (
    Stage(0.25, 320, 256, 8, 1.2e-2, 1.2e-2, MILD, imitation=1.0, fed=1.0, truth=0.1),
    Stage(0.35, 400, 512, 4, 1.2e-2, 2e-3, HARD, imitation=1.0, fed=1.0, truth=0.1),
    Stage(0.10, 480, 1024, 4, 2e-3, 2e-4, HARD, imitation=1.0, fed=1.0, truth=0.1),
    Stage(0.25, 400, 512, 4, 5e-4, 1e-5, HARD, imitation=0.3, truth=1.0, kept=4, real=0.8),
    Stage(0.05, 480, 1024, 4, 1e-2, 1e-3, HARD, real=0.5, confidence=True),
)
GENTLE = Difficulty(planes_probability=0.7, light=0.8, zoom=1.7, shift=0.2, tilt=45, rotation=20)
TURNED = replace(HARD, zoom=2.5, any_rotation_probability=0.1)
WITH_KEYPOINT_TEACHER = (
    Stage(
        0.02, 448, 512, 4, 1.2e-2, 8e-3, GENTLE,
        imitation=1.0, fed=1.0, truth=0.1, real=0.6, pool=1_500,
    ),
    Stage(
        0.08, 448, 512, 4, 8e-3, 1e-3, GENTLE,
        imitation=1.0, fed=1.0, fed_end=0.0, truth=0.2, real=0.6, pool=1_500,
    ),
    Stage(0.65, 448, 512, 4, 4e-4, 1e-4, TURNED, truth=1.0, real=0.7),
    Stage(0.20, 512, 1024, 2, 2e-4, 1e-5, TURNED, truth=1.0, real=0.7),
    Stage(0.05, 512, 1024, 2, 1e-2, 1e-3, TURNED, real=0.7, confidence=True),
)  # fmt: skip
WITHOUT_TEACHER = (
    Stage(0.95, 400, 512, 4, 5e-4, 1e-5, HARD, truth=1.0, real=0.8),
    Stage(0.05, 480, 1024, 4, 1e-2, 1e-3, HARD, real=0.5, confidence=True),
)
FROM_START = (
    Stage(0.95, 400, 512, 4, 1e-4, 1e-5, HARD, truth=1.0, kept=4, real=0.8, exact=True),
    Stage(0.05, 480, 1024, 4, 1e-3, 1e-4, HARD, real=0.5, confidence=True),
)
"""From weights that match already: the first layers stay as they are. In 60 updates the loss of
lightglue-xfeat-covis on ten batches goes from 1.87 to 1.69; in bfloat16 to 1.77, at a rate of 5e-4
to 2.05, and where all layers learn to 1.98."""
FROM_OTHER = (
    Stage(0.95, 448, 512, 4, 2e-4, 1e-5, TURNED, truth=1.0, real=0.7),
    Stage(0.05, 448, 512, 4, 1e-2, 1e-3, TURNED, real=0.7, confidence=True),
)
"""From weights for other features, see `covis.training.other_descriptors`."""
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
    """Of photos; where there are scenes half of them are theirs."""
    recompute: bool = False
    """Compute activations twice and keep fewer: less memory, a third more time."""
    stages: tuple[Stage, ...] = WITH_TEACHER

    def fed_at(self, step: int) -> float:
        """The share of the teacher's states that is fed at a step."""
        stage, done = progress_at(self.stages, step, self.steps)
        end = stage.fed if stage.fed_end is None else stage.fed_end
        return stage.fed + (end - stage.fed) * done


@dataclass(frozen=True)
class Batch:
    """B pairs: image 0 of all, then image 1.

    descriptors: [2 B, N, D]. positions: [2 B, N, 2 or 4]. partners: [2 B, N]. taught: states
    [2 B, N, d] to imitate, where all pairs have them.
    """

    descriptors: Tensor
    positions: Tensor
    partners: Tensor
    taught: list[Tensor] | None = None

    @classmethod
    def of(cls, pairs: list[LabelledPair], device: torch.device) -> Batch:
        """Pairs cut to as many features as the smallest has."""
        count = min(pair.partners.shape[1] for pair in pairs)
        pairs = [pair.first(count) for pair in pairs]
        descriptors, positions, partners = (
            torch.from_numpy(
                np.concatenate(np.stack([getattr(pair, name) for pair in pairs], axis=1))
            ).to(device)
            for name in ("descriptors", "positions", "partners")
        )
        taught = [pair.taught for pair in pairs if pair.taught is not None]
        states = None
        if len(taught) == len(pairs):
            # (K, 2, B, N, d), the pairs of an image together.
            states = [
                torch.from_numpy(each.reshape(-1, *each.shape[2:])).to(device).float()
                for each in np.stack(taught, axis=2)
            ]
        return cls(descriptors, positions, partners, states)


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
        teacher: LightGlue | KeypointTeacher | None,
        device: torch.device,
        *,
        scenes: Scenes | None = None,
        workers: Workers | None = None,
        start: str | Path | None = None,
    ) -> None:
        super().__init__(device, workers)
        self.keeps_start = start is not None
        self.features = features
        self.other = None if start is None else other_features(start, features)
        self.held_out, self.photos = hold_out(photos, recipe.held_out, recipe.seed)
        self.held_out_scenes = self.scenes = scenes
        if scenes is not None:
            self.held_out_scenes, self.scenes = scenes.split(recipe.validation_pairs // 2)
        self.recipe: Recipe = recipe
        most = max(VALIDATION_KEYPOINTS, *(stage.keypoints for stage in recipe.stages))
        # Even the weakest peaks, so that every view has as many features as are asked for.
        self.extract = Extractor(features, max_keypoints=most, max_size=0, threshold=0.0, threads=1)
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
        if start is not None and self.other is None:
            begin_with(self.net, start, "lightglue")
        elif teacher is None:
            as_nearest_neighbour(self.net)
        self.guide: KeypointTeacher | None = None
        self.axes: Axes | None = None
        if isinstance(teacher, KeypointTeacher):
            check_wider(teacher.matcher, self.net)
            self.guide, teacher = teacher, None
        elif teacher is not None:
            _check_teacher(teacher, self.net)
            teacher.to(device).requires_grad_(False)
        self.teacher = teacher
        self.pool: PairPool | None = None
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
        self._validation: dict[str, list[LabelledPair]] = {}

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

    def prepare(self, out: Path, report: Report) -> None:
        self.pool = PairPool(out / "pairs")
        if self.other is not None and self.step == 0:
            self._begin_with_other(self.other, report)
        if self.guide is None:
            return
        path = out / "axes.npz"
        if self.workers.leads and not path.exists():
            report("finding what to show of the teacher's states")
            shown = [self._shown(self._views(self.recipe.stages[0], n)) for n in range(AXES_PAIRS)]
            found = find_axes(shown, self.recipe.dim)
            write_arrays(path, {name: x.numpy() for name, x in found._asdict().items()})
        self.workers.wait()
        self.axes = Axes(**{name: torch.from_numpy(x) for name, x in read_arrays(path).items()})
        if self.step == 0 and not self.keeps_start:
            begin_like(self.net, self.guide.matcher, self.axes)
            self.average.load_state_dict(self.net.state_dict())

    def _begin_with_other(self, other: Bundle, report: Report) -> None:
        """Take the weights of a matcher for other features."""
        theirs = kinds(other)[0]
        report(f"finding what {theirs} sees in the descriptors of {self.extract.model}")
        state = read_start(other.folder, "lightglue")
        state = translated(state, self.net, self.features, theirs, self.photos[:PHOTOS])
        load_strictly(self.net, state, other.name)
        self.average.load_state_dict(self.net.state_dict())

    def _shown(self, views: Views) -> list[Tensor]:
        """The states of the wider teacher that the student is to have, in the teacher's numbers."""
        assert self.guide is not None
        pair = labelled(views, self.extract, self.recipe.stages[0].keypoints)
        return self._states(views, pair)[: 2 * self.net.layers + 1]

    def _states(self, views: Views, pair: LabelledPair) -> list[Tensor]:
        assert self.guide is not None
        return self.guide.states(views.clean, pair.points, pair.positions)

    def _views(self, stage: Stage, number: int) -> Views:
        """The views of a pair, which its number and the seed say."""
        rng = np.random.default_rng((self.recipe.seed, self.workers.rank, number))
        if self.scenes and rng.random() < stage.real:
            return self._scene_views(self.scenes, stage.difficulty, rng)
        return render_views(self.photos, stage.size, stage.difficulty, rng)

    @staticmethod
    def _scene_views(scenes: Scenes, difficulty: Difficulty, rng: np.random.Generator) -> Views:
        return scenes.views(SCENE_SIZE, difficulty, SCENES_TURNED, rng)

    def _pair(
        self, made_of: object, number: int, views: Callable[[], Views], count: int, taught: bool
    ) -> LabelledPair:
        """A pair of the pool, at most `count` features in each view; taught: with the states of
        the wider teacher, if there is one."""

        def make() -> LabelledPair:
            drawn = views()
            pair = labelled(drawn, self.extract, count)
            if self.guide is None or self.axes is None or not taught:
                return pair
            states = self._states(drawn, pair)
            said, _ = self.guide.partners(states)
            axes = self.axes.axes
            seen = torch.stack(
                [x.float().cpu() @ axes.T for x in states[: 2 * self.net.layers + 1]]
            )
            return replace(pair, taught=seen.to(torch.float16).numpy(), said=said.cpu().numpy())

        if self.pool is None:
            return make()
        features = self.extract.model, self.extract.weights
        whole = features, made_of, count, taught and self.guide is not None, self.workers.rank
        return self.pool.get((self.recipe.seed, *whole), number, make)

    def batch(self, step: int) -> Batch:
        """This process' pairs of a step."""
        stage, _ = self.recipe.at(step)
        rng = np.random.default_rng((self.recipe.seed, self.workers.rank, step, 1))
        there = min(FIRST_PAIRS + int(PAIRS_A_STEP * step), stage.pool)
        made_of = stage.size, stage.difficulty, stage.real if self.scenes else 0.0
        pairs = [
            self._pair(
                made_of,
                number,
                partial(self._views, stage, number),
                stage.keypoints,
                stage.imitation > 0,
            )
            for number in map(int, rng.integers(there, size=stage.pairs))
        ]
        return Batch.of(pairs, self.device)

    def batches(self) -> Iterator[Batch]:
        """Batches from the present step to the last, made ahead in threads."""
        return rendered(self.batch, range(self.step, self.recipe.steps))

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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not stage.exact):
            shown: Trace | None = None
            states = batch.taught if stage.imitation else None
            if stage.imitation and self.teacher is not None:
                with torch.no_grad():
                    shown = trace(self.teacher, *inputs)
                states = shown.states
            own = trace(
                self.net,
                *inputs,
                fed=states if stage.fed else None,
                share=self.recipe.fed_at(self.step),
                kept=stage.kept,
                recompute=self.recipe.recompute,
            )
            if shown is not None and self.teacher is not None:
                parts = imitation_loss(self.net, self.teacher, own, shown)
                for name in parts if stage.fed else ["assignment"]:
                    losses[name] = stage.imitation * parts[name]
            elif states is not None:
                losses["states"] = stage.imitation * state_loss(own.states, states)
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
        """Match pairs of held-out photos and scenes, the same every time.

        Precision and recall of the matches of each, "score", the harmonic mean of the two, over
        both; and the score of mutual nearest neighbours, the floor, and of a wider teacher.
        """
        if not self._validation:
            self._validation = self._validation_pairs()
        figures: dict[str, float] = {}
        scores: dict[str, list[float]] = {"": [], "nearest_": [], "teacher_": []}
        for name, pairs in self._validation.items():
            counts = {who: np.zeros(3) for who in scores}
            for pair in pairs:
                counts[""] += pair.judge(self._matches(net, pair))
                counts["nearest_"] += pair.judge(mutual_nearest(*pair.descriptors, threads=1)[0])
                if pair.said is not None:
                    counts["teacher_"] += pair.judge(_mutual(pair.said))
            for who, each in counts.items():
                precision, recall, score = _rates(each)
                if who == "":
                    figures |= {f"{name}_precision": precision, f"{name}_recall": recall}
                if each.any():
                    figures[f"{who}{name}_score"] = score
                    scores[who].append(score)
        overall = {f"{who}score": round(float(np.mean(s)), 4) for who, s in scores.items() if s}
        return overall | figures

    def _validation_pairs(self) -> dict[str, list[LabelledPair]]:
        def of_scenes(number: int) -> Views:
            assert self.held_out_scenes is not None
            return self._scene_views(self.held_out_scenes, HARD, drawn_by(number))

        def of_photos(number: int) -> Views:
            return render_views(self.held_out, VALIDATION_SIZE, HARD, drawn_by(number))

        def drawn_by(number: int) -> np.random.Generator:
            return np.random.default_rng((self.recipe.seed, 2, number))

        sets = {"photos": of_photos}
        if self.held_out_scenes is not None:
            sets["scenes"] = of_scenes
        return {
            name: [
                self._pair(
                    ("validation", name, VALIDATION_SIZE, HARD),
                    number,
                    partial(views, number),
                    VALIDATION_KEYPOINTS,
                    taught=True,
                )
                for number in range(self.recipe.validation_pairs // len(sets))
            ]
            for name, views in sets.items()
        }

    def _matches(self, net: LightGlue, pair: LabelledPair) -> NDArray[np.int64]:
        """(K, 2), of full depth and width at the published threshold."""
        batch = Batch.of([pair], self.device)
        with torch.no_grad():
            own = trace(net, batch.descriptors, batch.positions)
            best, log_p = best_partners(net.assignment(net.layers - 1), own.states[-1])
        return _mutual(torch.where(log_p > np.log(0.1), best, NO_PARTNER).cpu().numpy())


def _mutual(partners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Partners (2, N) that name each other, as matches (K, 2)."""
    partner0, partner1 = partners
    rows = np.arange(len(partner0))
    mutual = (partner0 >= 0) & (partner1[partner0] == rows)
    return np.column_stack([rows, partner0])[mutual]


def _rates(counts: NDArray[Any]) -> tuple[float, float, float]:
    """(correct, judged, findable) -> precision, recall and their harmonic mean."""
    correct, judged, findable = counts
    precision, recall = correct / max(judged, 1), correct / max(findable, 1)
    score = 2 * precision * recall / max(precision + recall, 1e-9)
    return round(float(precision), 4), round(float(recall), 4), round(float(score), 4)


def other_features(start: str | Path, features: str) -> Bundle | None:
    """The model that a run starts with, where it is one for other features; else None.

    Raises BundleError where there is no such model, or no such features.
    """
    bundle = model_of(start, "lightglue")
    return None if bundle is None or fits(bundle, model_name(features)) else bundle


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
    teacher_features: Path | None = None,
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
    descriptors, to imitate first; with teacher_features, published ALIKED weights, it is one of
    any sizes for these. scenes: a folder in MegaDepth's layout, to learn from real
    scenes too. start: weights of the recipe's sizes to begin with, see
    `covis.training.start.read_start`; a model may be for other features. Under
    `torchrun` every process draws its own pairs, and gradients are averaged.

    Raises TrainingError when there are too few photos, `out` holds a run and `resume` is
    not given, there is none to resume or it began otherwise; BundleError when the features, the
    teacher or the start do not load.
    """
    out = Path(out)
    where, workers = join(device)
    recipe = recipe or Recipe()
    if teacher is None:
        recipe = replace(recipe, stages=WITHOUT_TEACHER)
    elif teacher_features is not None:
        recipe = replace(recipe, stages=WITH_KEYPOINT_TEACHER)
    if start is not None:
        last = recipe.layers - 1
        begins = FROM_START if other_features(start, features) is None else FROM_OTHER
        stages = (replace(stage, kept=min(stage.kept, last)) for stage in begins)
        recipe = replace(recipe, stages=tuple(stages))
    saved = to_resume(out, resume)
    given = (teacher, teacher_features, scenes)
    notes = began_with(out, saved, recipe, features, *(each is not None for each in given))
    report = workers.once(report)
    report(f"reading the photos under {photos}")
    paths = photos_below(photos)
    taught: LightGlue | KeypointTeacher | None = None
    if teacher is not None:
        taught = load_official(teacher)
        if teacher_features is not None:
            taught = KeypointTeacher(load_aliked(teacher_features), taught, where)
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
