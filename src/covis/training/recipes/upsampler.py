"""An upsampler for any backbone's features, without labels: places of a view are to be found again
in a changed view of the same photo.

LiFT learns what the backbone gives for a photo at twice the size. For a ViT that is no better at
telling places apart (see docs/models.md), so here the enlarged features are judged by what they are
for. Only averages can be learnt, so they stay what the backbone's are. Views have several sizes.
Every pair of views is a function of (seed, step): a run that was killed and resumed ends with the
same weights.
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
from torch import Tensor

from covis.images.picture_files import pictures_below
from covis.nets.dense import Backbone
from covis.nets.lift import enlarge
from covis.nets.upsampler import Upsampler
from covis.training.checkpoint import BEST, began_with, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.photos import next_photo, photos_below
from covis.training.data.tensors import as_input
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, NetRun, fit, rendered
from covis.training.reporting import Report
from covis.training.schedule import Stage, StagedRecipe

EDGE = 2
"""Pixels from a view's edge within which no place is asked for."""
FEWEST = 8
"""Places of a pair without which it teaches nothing."""


@dataclass(frozen=True, kw_only=True)
class Recipe(StagedRecipe[Stage]):
    """Everything a run depends on besides its photos and backbone."""

    steps: int = 100
    batch: int = 6
    """Pairs of views."""
    cells: tuple[int, ...] = (6, 8, 11, 16)
    """Of the backbone, about, each way in a view; drawn anew for each pair."""
    points: int = 128
    """Places of a view that are looked for."""
    temperature: float = 0.05
    spread: float = 0.7
    """How far from the true place, in finer cells, a cell still counts as right: a standard
    deviation."""
    places_faster: float = 20.0
    """How much larger the rate is for weights of places than for convolutions."""
    warmup: int = 20
    checkpoint_every: int = 25
    validate_every: int = 50
    stages: tuple[Stage, ...] = (Stage(1.0, 1e-3, 2e-5),)


@dataclass(frozen=True)
class Pair:
    """views: two, each [1, 3, S, S], normalised. features: of each, [1, C, h, w].
    homography_1from0: (3, 3), in pixels of the views."""

    views: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]
    homography_1from0: NDArray[np.float64]


Views = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]


class Run(NetRun[list[Pair]]):
    """One training run: the upsampler, its optimiser, and where it stands."""

    metric = "gain"

    def __init__(
        self,
        photos: Path,
        recipe: Recipe,
        backbone: Backbone,
        device: torch.device,
        *,
        workers: Workers | None = None,
    ) -> None:
        super().__init__(device, workers)
        paths = pictures_below(photos)
        self.held_out, self.photos = hold_out(paths, recipe.held_out, recipe.seed, folder=photos)
        self.workers.check_shares(recipe.batch, "pairs")
        self.recipe: Recipe = recipe
        self.backbone = backbone.to(device)
        torch.manual_seed(recipe.seed)
        self.net: Upsampler = Upsampler().to(device)
        places = [self.net.place, self.net.alike]
        others = [p for p in self.net.parameters() if all(p is not place for place in places)]
        self.optimiser = torch.optim.Adam([{"params": others}, {"params": places}])
        for group, faster in zip(
            self.optimiser.param_groups, (1.0, recipe.places_faster), strict=True
        ):
            group["faster"] = faster

    def batch(self, step: int) -> list[Views]:
        """This process' share of a step's pairs."""
        rng = np.random.default_rng((self.recipe.seed, step))
        drawn = rng.integers(0, len(self.photos), self.recipe.batch)
        mine = range(self.workers.rank, self.recipe.batch, self.workers.count)
        return [self._views(self.photos, int(drawn[i]), (self.recipe.seed, step, i)) for i in mine]

    def _views(self, paths: list[Path], index: int, seed: tuple[int, ...]) -> Views:
        """Two views of the photo at `index`, or of the next one that is whole and large enough."""
        rng = np.random.default_rng(seed)
        patch, multiple = self.backbone.kind.patch, self.backbone.multiple
        cells = int(rng.choice(self.recipe.cells))
        size = max(round(cells * patch / multiple), 1) * multiple
        photo = next_photo(paths, index, 4 * size, size)
        assert photo is not None  # photos_below has found some.
        return changed_views(photo, size, rng)

    def batches(self) -> Iterator[list[Pair]]:
        for views in rendered(self.batch, range(self.step, self.recipe.steps)):
            yield [self._pair(each) for each in views]

    @torch.no_grad()
    def _pair(self, views: Views) -> Pair:
        images = [self.backbone.normalise(as_input(view[None], self.device)) for view in views[:2]]
        features = [self.backbone(image) for image in images]
        return Pair((images[0], images[1]), (features[0], features[1]), views[2])

    def loss(self, pair: Pair, finer: tuple[Tensor, Tensor], seed: int) -> Tensor:
        """The mean over places of the cross-entropy of finding them; 0 where there are too few."""
        recipe = self.recipe
        size = pair.views[0].shape[-1]
        here, there = places(pair.homography_1from0, size, recipe.points, seed)
        if len(here) < FEWEST:
            return finer[0].sum() * 0
        described, cells = (distinct(each) for each in finer)
        grid = torch.from_numpy(here / size * 2 - 1).float().to(self.device)[None, None]
        sampled = F.grid_sample(described, grid, padding_mode="border", align_corners=False)
        asked = F.normalize(sampled[0, :, 0].T, dim=1)
        likely = (asked @ cells[0].flatten(1) / recipe.temperature).log_softmax(dim=1)
        rows, columns = cells.shape[-2:]
        step = size / columns
        target = torch.from_numpy(there / step - 0.5).float().to(self.device)
        down, right = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres = torch.stack([right, down], dim=2).view(1, -1, 2).to(self.device)
        away = (centres - target[:, None]).square().sum(dim=2)
        right_cells = (-away / (2 * recipe.spread**2)).softmax(dim=1)
        return -(right_cells * likely).sum(dim=1).mean()

    def _enlarged(self, pair: Pair) -> tuple[Tensor, Tensor]:
        cell = self.net.cell
        first, second = (
            self.net(
                F.interpolate(
                    image, [cell * side for side in features.shape[-2:]], mode="bilinear"
                ),
                features,
            )
            for image, features in zip(pair.views, pair.features, strict=True)
        )
        return first, second

    def train_step(self, batch: list[Pair]) -> dict[str, float]:
        """One update. Returns the loss by name."""
        _, rate = self.recipe.at(self.step)
        self.net.train()
        losses = [self.loss(p, self._enlarged(p), i + self.step) for i, p in enumerate(batch)]
        found = self.learn({"loss": torch.stack(losses).mean()}, rate)
        self.step += 1
        return found

    def candidates(self) -> Iterator[Candidate]:
        yield Candidate(self.net, self.validate())

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """The losses on pairs of views of held-out photos, enlarged by the network and bilinearly,
        and by how much the first is below the second."""
        self.net.eval()
        sums = {"loss": 0.0, "bilinear": 0.0}
        for index in range(len(self.held_out)):
            pair = self._pair(self._views(self.held_out, index, (self.recipe.seed, 1 << 32, index)))
            first, second = (enlarge(each) for each in pair.features)
            sums["loss"] += float(self.loss(pair, self._enlarged(pair), index))
            sums["bilinear"] += float(self.loss(pair, (first, second), index))
        means = {name: total / len(self.held_out) for name, total in sums.items()}
        means["gain"] = means["bilinear"] - means["loss"]
        return {name: round(mean, 5) for name, mean in means.items()}


def distinct(maps: Tensor) -> Tensor:
    """[B, C, H, W] -> unit length, without the mean over the cells: as matching compares them."""
    unit = F.normalize(maps, dim=1)
    return F.normalize(unit - unit.mean(dim=(2, 3), keepdim=True), dim=1)


def places(
    homography: NDArray[np.float64], size: int, count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random places of a view and where they lie in the other: (N, 2) each, N up to `count`."""
    rng = np.random.default_rng(seed)
    here = rng.uniform(0.02, 0.98, (4 * count, 2)) * size
    there = cv2.perspectiveTransform(here[None], homography)[0]
    inside = ((there > EDGE) & (there < size - EDGE)).all(axis=1)
    return here[inside][:count], np.asarray(there[inside][:count], np.float64)


def changed_views(photo: NDArray[Any], size: int, rng: np.random.Generator) -> Views:
    """Part of a BGR photo, and the same turned, zoomed, shifted, tilted, perhaps mirrored, and in
    other light, grey, other colours or blurred: RGB [size, size, 3] each, and the homography from
    the first to the second, in their pixels."""
    large = 2 * size
    side = max(int(min(photo.shape[:2]) * rng.uniform(0.6, 1)), 1)
    top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    part = photo[top : top + side, left : left + side, ::-1]
    how = cv2.INTER_AREA if side > large else cv2.INTER_LINEAR
    first = cv2.resize(part, (large, large), interpolation=how)
    middle = large / 2
    warp = np.eye(3)
    warp[:2] = cv2.getRotationMatrix2D(
        (middle, middle), rng.uniform(-20, 20), rng.uniform(0.75, 1.25)
    )
    warp[:2, 2] += rng.uniform(-0.25, 0.25, 2) * large
    if rng.random() < 0.5:
        warp = np.array([[-1, 0, large], [0, 1, 0], [0, 0, 1.0]]) @ warp
    to_middle = np.array([[1, 0, -middle], [0, 1, -middle], [0, 0, 1.0]])
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-0.25, 0.25, 2) / large
    warp = np.linalg.inv(to_middle) @ tilt @ to_middle @ warp
    second = cv2.warpPerspective(first, warp, (large, large), borderMode=cv2.BORDER_REFLECT_101)
    second = _relit(second, rng)
    halve = np.diag([0.5, 0.5, 1])
    small = [
        np.asarray(cv2.resize(view, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        for view in (first, second)
    ]
    return small[0], small[1], halve @ warp @ np.linalg.inv(halve)


def _relit(view: NDArray[Any], rng: np.random.Generator) -> NDArray[np.uint8]:
    seen: NDArray[Any] = view.astype(np.float32)
    kind = rng.integers(0, 4)
    if kind == 0:
        seen = np.repeat(seen.mean(axis=2, keepdims=True), 3, axis=2)
    elif kind == 1:
        seen = seen[:, :, rng.permutation(3)]
    elif kind == 2:
        seen = cv2.GaussianBlur(seen, (0, 0), 2)
    lit = 255 * np.clip(seen / 255 * rng.uniform(0.6, 1.4), 0, 1) ** rng.uniform(0.6, 1.6)
    return np.clip(lit + rng.normal(0, 8, lit.shape), 0, 255).astype(np.uint8)


def train(
    photos: Path,
    out: Path,
    *,
    backbone: Backbone,
    recipe: Recipe | None = None,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train an upsampler on a backbone's features of the photographs under `photos`; returns the
    best weights' path. `out` takes what `covis.training.loop.fit` writes.

    Raises TrainingError when there are too few photos, `out` holds a run and `resume` is not
    given, there is none to resume or it began otherwise.
    """
    out = Path(out)
    where, workers = join(device)
    saved = to_resume(out, resume)
    recipe = recipe or Recipe()
    notes = began_with(out, saved, recipe, backbone.kind)
    largest = max(recipe.cells) * backbone.kind.patch + backbone.multiple
    photos_below(photos, largest)
    run = Run(Path(photos), recipe, backbone, where, workers=workers)
    fit(run, out, saved=saved, notes=notes, report=workers.once(report))
    return out / BEST
