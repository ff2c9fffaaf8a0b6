"""The recipe of covis' own EdgePoint2 features: imitate the published one, upright, then the truth.

The teacher sees a photo upright; the student sees two views of it, turned by any angle, zoomed and
relit, and is to describe each place as the teacher does. So it learns to be steady where its
teacher is not. Pairs of scenes with several planes, or with real depth where there are some, teach
it parallax, by correspondences alone.

Every step draws its views from a generator seeded by (seed, step), so a run that was killed and
resumed sees the same views, and ends with the same weights, as one that was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.features import Extractor
from covis.nets.edgepoint import CONFIGURATIONS, SIZE_MULTIPLE, STRIDE, EdgePoint, load_official
from covis.training.checkpoint import BEST, began_with, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.photos import load_photos, photos_below
from covis.training.data.scenes import Scenes
from covis.training.data.synthetic import CELL, Difficulty, Pair, render_pair
from covis.training.data.turned_views import TurnedPair, Turning, render_turned
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, fit, in_words, rendered
from covis.training.loop import Run as TrainingRun
from covis.training.losses.edgepoint import (
    KEYPOINT,
    correspondence_loss,
    likeness_loss,
    relation_loss,
    score_loss,
)
from covis.training.moving_average import follow
from covis.training.reporting import Report
from covis.training.schedule import stage_at
from covis.training.start import begin_with, give_norms_their_share
from covis.training.validation import KEYPOINTS, Extract, PairSet, bundle_features, validate

BORDER = 4
"""Pixels without keypoints at a view's sides."""
SPLIT_SEED = 0
"""Which photos are held out does not depend on a run's seed: one run may go on from another."""

SETS = {
    "plane": PairSet(
        Difficulty(planes_probability=0, bend_probability=0, light=1.2, tilt=45, zoom=2),
        flat=True,
        stream=0,
        size=448,
    ),
    "scene": PairSet(
        Difficulty(planes_probability=1, light=1.2, tilt=45, zoom=2, rotation=20, shift=0.25),
        flat=False,
        stream=1,
        size=448,
    ),
    "turned": PairSet(
        Difficulty(
            planes_probability=0, bend_probability=0, zoom=4, any_rotation_probability=1, light=1.0
        ),
        flat=True,
        stream=2,
        size=448,
    ),
}
"""What validation matches."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training. Rates fall from `rate` to `final_rate` along a cosine."""

    share: float
    """Share of the run's steps."""
    size: int
    turned: int
    """Turned pairs of single photos in a step."""
    scenes: int
    """Pairs of scenes of several planes in a step."""
    rate: float
    final_rate: float
    turning: Turning
    imitation: float = 1.0
    """Weight of what the teacher's descriptors say."""
    correspondence: float = 0.2
    """Weight of what the truth says."""


MILD = Turning(rotation=25, any_rotation_probability=0.25, light=0.8)
HARD = Turning(rotation=30, any_rotation_probability=0.25, light=1.2, tilt=0.3)
SCENES = Difficulty(
    rotation=40, zoom=2.5, tilt=50, shift=0.25, planes_probability=0.8, light=1.2,
    any_rotation_probability=0.2,
)  # fmt: skip

REAL, TURN = 0.75, 20.0
"""Where there are scenes with depth: how many pairs are theirs, and view 1's turn in degrees."""

STAGES = (
    Stage(0.10, 256, 6, 0, 3e-3, 3e-3, MILD),
    Stage(0.45, 256, 5, 1, 3e-3, 1.5e-3, HARD, correspondence=0.4),
    Stage(0.25, 320, 4, 1, 1.5e-3, 5e-4, HARD, correspondence=0.4),
    Stage(0.20, 384, 2, 1, 5e-4, 1e-6, HARD, imitation=0.5, correspondence=0.6),
)


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on besides its photos and its teacher."""

    configuration: str = "E64"
    steps: int = 3_000
    seed: int = 0
    ema: float = 0.998
    warmup: int = 100
    weight_decay: float = 1e-4
    clip: float = 1.0
    scores: float = 0.5
    """Weight of the imitation of scores."""
    scored: int = 2
    """Turned pairs in a step whose scores are imitated, too; the teacher has to see these again."""
    likeness: float = 2.0
    """Weight of the cosine within the imitation of descriptors."""
    held_out: int = 48
    """Photos kept from training for validation."""
    checkpoint_every: int = 200
    validate_every: int = 500
    validation_pairs: int = 24
    peaks: int = 192
    """Keypoints of each view whose places are described, beside a third as many random ones."""
    stages: tuple[Stage, ...] = STAGES

    def at(self, step: int) -> tuple[Stage, float]:
        """The stage that `step` falls into and the learning rate there."""
        return stage_at(self.stages, step, self.steps, self.warmup)


@dataclass(frozen=True, eq=False)
class Batch:
    """The pairs of a step."""

    turned: list[TurnedPair]
    scenes: list[Pair]


class Run(TrainingRun[Batch]):
    """One training run: the network, its average, the optimiser, and where it stands."""

    metric = "score"

    def __init__(
        self,
        photos: list[NDArray[Any]],
        recipe: Recipe,
        teacher: EdgePoint,
        device: torch.device,
        workers: Workers | None = None,
        scenes: Scenes | None = None,
    ) -> None:
        super().__init__(device, workers)
        self.places = scenes
        numbers = CONFIGURATIONS[recipe.configuration].descriptor
        if teacher.sizes.descriptor != numbers:
            raise TrainingError(
                f"the teacher describes with {teacher.sizes.descriptor} numbers and {numbers} are "
                "to be learnt. Give another teacher, or another size."
            )
        self.held_out, self.photos = hold_out(photos, recipe.held_out, SPLIT_SEED)
        self.recipe: Recipe = recipe
        torch.manual_seed(recipe.seed)
        self.net = self._ready(EdgePoint(CONFIGURATIONS[recipe.configuration]))
        self.average = self._ready(EdgePoint(CONFIGURATIONS[recipe.configuration])).eval()
        self.average.load_state_dict(self.net.state_dict())
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                # A batch of a dozen views is too noisy for the default of 0.1.
                module.momentum = 0.03
        self.teacher = self._ready(teacher).requires_grad_(False).eval()
        self._taught: dict[int, Tensor] = {}
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=1e-3, weight_decay=recipe.weight_decay
        )
        self.peers: dict[str, float] = {}
        """What the teacher and the features that ship reach on the same validation."""

    def _ready(self, net: EdgePoint) -> EdgePoint:
        """On its device, in the layout that convolutions are fastest in."""
        return net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def begin_with(self, start: str | Path) -> None:
        """Take the weights of a file or a model. Raises BundleError when they do not fit."""
        begin_with(self.net, start, "edgepoint")
        self.keeps_start = True
        batch = self.batch(0)
        views = [pair.views for pair in batch.turned] + [pair.views for pair in batch.scenes]
        give_norms_their_share(self.net, self._images(np.concatenate(views)))
        self.average.load_state_dict(self.net.state_dict())

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "peers": self.peers,
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.peers = state["peers"]

    def begin(self, report: Report) -> None:
        if not self.workers.leads:
            return
        report("measuring the teacher and the package's features, to compare with")
        peers = {
            "teacher": edgepoint_features(self.teacher),
            "xfeat": bundle_features(Extractor(max_keypoints=KEYPOINTS)),
        }
        self.peers = {
            f"{name} {key}": value
            for name, extract in peers.items()
            for key, value in self.validate(extract).items()
        }
        report(f"to compare with: {in_words(self.peers)}")

    def batch(self, step: int) -> Batch:
        """This process' own pairs of a step: a function of the seed, the step and its rank."""
        stage, _ = self.recipe.at(step)
        # Zeros at the end change no generator: the first process draws what a lone one does.
        rng = np.random.default_rng((self.recipe.seed, step, 0, self.workers.rank))
        return Batch(
            [
                render_turned(self.photos, stage.size, stage.turning, rng)
                for _ in range(stage.turned)
            ],
            [self._scene(stage, rng) for _ in range(stage.scenes)],
        )

    def _scene(self, stage: Stage, rng: np.random.Generator) -> Pair:
        """Real depth where there is some, else several planes."""
        if self.places is not None and rng.random() < REAL:
            return self.places.pair(stage.size, SCENES.light, TURN, rng)
        return render_pair(self.photos, stage.size, SCENES, rng)

    def batches(self) -> Iterator[Batch]:
        """This process' batches from the present step to the last, rendered ahead."""
        return rendered(self.batch, range(self.step, self.recipe.steps))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update. Returns the losses by name."""
        stage, rate = self.recipe.at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.net.train()
        losses = self._losses(stage, batch)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.workers.average_gradients(self.net.parameters())
        nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.workers.average_norms(self.net)
        follow(self.average, self.net, self.step, self.recipe.ema)
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def validate(self, extract: Extract) -> dict[str, float]:
        """Measure features on held-out photos, the same pairs every time."""
        return validate(extract, self.held_out, SETS, SPLIT_SEED, self.recipe.validation_pairs)

    def candidates(self) -> Iterator[Candidate]:
        """The average, and beside it what its peers reached."""
        found = self.validate(edgepoint_features(self.average))
        yield Candidate(self.average, found | self.peers)

    @property
    def latest(self) -> EdgePoint:
        return self.average

    def _images(self, views: NDArray[np.uint8]) -> Tensor:
        """(B, S, S) -> normalised [B, 1, S, S]."""
        images = torch.from_numpy(views)[:, None].to(self.device).float() / 255
        return self.net.normalise(images).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _taught_by(self, index: int) -> Tensor:
        """The teacher's descriptors [D, h / 4, w / 4] of an upright photo, float16."""
        if index not in self._taught:
            photo = self.photos[index]
            height, width = (side // SIZE_MULTIPLE * SIZE_MULTIPLE for side in photo.shape[:2])
            grey = photo[:height, :width].mean(axis=2, dtype=np.float32)
            with torch.autocast(self.device.type, torch.bfloat16):
                maps = self.teacher.maps(self._images(grey[None]))
            self._taught[index] = maps.descriptors[0].to(torch.float16)
        return self._taught[index]

    def _losses(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        views = [pair.views for pair in batch.turned] + [pair.views for pair in batch.scenes]
        with torch.autocast(self.device.type, torch.bfloat16):
            maps = self.net.maps(self._images(np.concatenate(views)))
            clean = np.concatenate([pair.clean for pair in batch.turned[: self.recipe.scored]])
            with torch.no_grad():
                scores = self.teacher.maps(self._images(clean)).scores.float()
        losses = {
            "scores": self.recipe.scores * score_loss(maps.scores[: len(scores)].float(), scores)
        }
        own = maps.scores.detach()[: 2 * len(batch.turned), 0].float()
        found = score_peaks(own, self.recipe.peaks, KEYPOINT)
        descriptors = maps.descriptors.float()
        rng = np.random.default_rng((self.recipe.seed, self.step, 1, self.workers.rank))
        sums: dict[str, list[Tensor]] = {"likeness": [], "relation": [], "truth": []}
        for number, pair in enumerate(batch.turned):
            both = slice(2 * number, 2 * number + 2)
            self._turned_losses(pair, descriptors[both], found[both], rng, sums)
        for number, scene in enumerate(batch.scenes, len(batch.turned)):
            self._scene_losses(scene, descriptors[2 * number : 2 * number + 2], rng, sums)
        weights = {
            "likeness": stage.imitation * self.recipe.likeness,
            "relation": stage.imitation,
            "truth": stage.correspondence,
        }
        return losses | {
            name: weights[name] * torch.stack(parts).mean() for name, parts in sums.items() if parts
        }

    def _turned_losses(
        self,
        pair: TurnedPair,
        descriptors: Tensor,
        peaks: list[tuple[Tensor, Tensor]],
        rng: np.random.Generator,
        sums: dict[str, list[Tensor]],
    ) -> None:
        """What the two views [2, D, h, w] of a photo teach, given the keypoints there."""
        size = pair.views.shape[-1]
        points = []
        for view in range(2):
            extra = rng.uniform(4, size - 5, (self.recipe.peaks // 3, 2))
            here = np.concatenate([peaks[view][0].cpu().numpy().astype(np.float64), extra])
            points.append(_mapped(np.linalg.inv(pair.views_from_photo[view]), here))
        in_photo = np.concatenate(points)
        taught = self._taught_by(pair.index).float()
        known = _inside(in_photo, STRIDE * taught.shape[2], STRIDE * taught.shape[1])
        in_photo = in_photo[known]
        seen = [_mapped(pair.views_from_photo[view], in_photo) for view in range(2)]
        visible = [torch.from_numpy(_inside(xy, size, size)).to(self.device) for xy in seen]
        if min(int(v.sum()) for v in visible) < 16:
            return
        target = sample(taught, self._tensor(in_photo))
        rows = []
        for view in range(2):
            row = sample(descriptors[view], self._tensor(seen[view]))
            rows.append(row)
            v = visible[view]
            sums["likeness"].append(likeness_loss(row[v], target[v]))
            sums["likeness"].append(self._everywhere(pair, view, descriptors[view], taught))
            sums["relation"].append(relation_loss(row[v], target[v], target))
        shared = visible[0] & visible[1]
        if int(shared.sum()) >= 16:
            near = _near(self._tensor(seen[0])[shared]) | _near(self._tensor(seen[1])[shared])
            sums["truth"].append(correspondence_loss(rows[0][shared], rows[1][shared], near))

    def _everywhere(
        self, pair: TurnedPair, view: int, descriptors: Tensor, taught: Tensor
    ) -> Tensor:
        """The likeness of every cell of a view [D, h, w] that shows the photo."""
        rows, columns = descriptors.shape[1:]
        across, down = np.meshgrid(np.arange(columns), np.arange(rows))
        cells = np.column_stack([across.ravel(), down.ravel()])
        middles = np.asarray(STRIDE * cells + (STRIDE - 1) / 2, np.float64)
        in_photo = _mapped(np.linalg.inv(pair.views_from_photo[view]), middles)
        known = _inside(in_photo, STRIDE * taught.shape[2], STRIDE * taught.shape[1])
        x, y = torch.from_numpy(cells[known]).to(self.device).T
        found = F.normalize(descriptors[:, y, x].T, dim=1)
        return likeness_loss(found, sample(taught, self._tensor(in_photo[known])))

    def _scene_losses(
        self,
        pair: Pair,
        descriptors: Tensor,
        rng: np.random.Generator,
        sums: dict[str, list[Tensor]],
    ) -> None:
        """What a pair of views [2, D, h, w] with parallax teaches."""
        rows, columns = np.nonzero(pair.visible)
        chosen = rng.permutation(len(rows))[: 2 * self.recipe.peaks]
        if len(chosen) < 16:
            return
        points0 = pair.points0[rows[chosen], columns[chosen]]
        points1 = CELL * np.column_stack([columns[chosen], rows[chosen]])
        seen0, seen1 = self._tensor(points0), self._tensor(points1)
        sums["truth"].append(
            correspondence_loss(
                sample(descriptors[0], seen0),
                sample(descriptors[1], seen1),
                _near(seen0) | _near(seen1),
            )
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device, torch.float32)


def _mapped(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) points under a homography."""
    return np.asarray(cv2.perspectiveTransform(points[:, None], homography)[:, 0], np.float64)


def _inside(points: NDArray[np.float64], width: int, height: int, border: int = 3) -> NDArray[Any]:
    upper = (width - 1 - border, height - 1 - border)
    return np.all((points >= border) & (points <= upper), axis=1)


def _near(points: Tensor, radius: float = 4.0) -> Tensor:
    """[N, 2] -> [N, N] bool: other points within a cell of each."""
    close = torch.cdist(points, points) < radius
    return close & ~torch.eye(len(points), dtype=torch.bool, device=points.device)


def edgepoint_features(net: EdgePoint) -> Extract:
    """Features of a network in evaluation mode."""
    device = next(net.parameters()).device

    @torch.no_grad()
    def extract(view: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        image = torch.from_numpy(view)[None, None].float().to(device) / 255
        maps = net(image)
        places, _ = score_peaks(maps.scores[:, 0], KEYPOINTS, KEYPOINT)[0]
        found = sample(maps.descriptors[0], places.float())
        return places.cpu().numpy().astype(np.float64), found.cpu().numpy()

    return extract


def score_peaks(scores: Tensor, count: int, threshold: float) -> list[tuple[Tensor, Tensor]]:
    """The best maxima of 5x5 pixels in [B, H, W]: for each image [n, 2] int64 (x, y) and [n]."""
    inner = F.pad(scores[:, BORDER:-BORDER, BORDER:-BORDER], (BORDER,) * 4, value=-torch.inf)
    highest = F.max_pool2d(F.max_pool2d(inner, (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2))
    kept = torch.where((inner == highest) & (inner > threshold), inner, -torch.inf)
    best, places = kept.flatten(1).topk(count, dim=1)
    width = scores.shape[2]
    result = []
    for values, flat in zip(best, places, strict=True):
        flat = flat[values > -torch.inf]
        values = values[values > -torch.inf]
        result.append((torch.stack([flat % width, flat // width], dim=1), values))
    return result


def sample(descriptors: Tensor, points: Tensor) -> Tensor:
    """[D, h, w] at pixels [N, 2] of the input, the top-left one's centre at 0 -> unit [N, D]."""
    sides = 4 * torch.tensor([descriptors.shape[2], descriptors.shape[1]]).to(points)
    grid = (2 * points + 1) / sides - 1
    taken = F.grid_sample(descriptors[None], grid[None, :, None], align_corners=False)
    return F.normalize(taken[0, :, :, 0].T, dim=1)


def train(
    photos: Path,
    out: Path,
    teacher: Path,
    *,
    configuration: str = Recipe.configuration,
    steps: int | None = None,
    seed: int = 0,
    start: str | Path | None = None,
    scenes: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train EdgePoint2 features on the photographs under `photos`; returns the best weights' path.

    out: takes `checkpoint.pt` (to resume from), `best.safetensors` (official key names),
    `latest.safetensors` and `curve.csv`, where the teacher and xfeat-covis stand on each line.
    teacher: published EdgePoint2 weights. start: weights of the same configuration to begin with,
    see `covis.training.start.read_start`: random ones by default. scenes: a folder in MegaDepth's
    layout, to learn real parallax from. A run that is resumed keeps its configuration and seed.

    Raises TrainingError when there are too few photos or the teacher's descriptors have another
    length, `out` holds a run and `resume` is not given, there is none to resume or it began
    otherwise; BundleError when the teacher or the start does not load.
    """
    out = Path(out)
    where, workers = join(device)
    saved = to_resume(out, resume)
    if saved is not None:
        configuration, seed = saved["configuration"], saved["seed"]
        steps = steps or saved["steps"]
    recipe = Recipe(configuration, Recipe.steps if steps is None else steps, seed)
    notes = began_with(out, saved, recipe, scenes is not None) | {
        "configuration": configuration,
        "seed": seed,
    }
    report = workers.once(report)
    report(f"reading the photos under {photos}")
    places = None if scenes is None else Scenes(scenes)
    paths = photos_below(photos)
    taught = load_official(teacher)
    run = Run(load_photos(paths, report), recipe, taught, where, workers, places)
    if saved is None and start is not None:
        run.begin_with(start)
    fit(run, out, saved=saved, notes=notes, report=report)
    return out / BEST
