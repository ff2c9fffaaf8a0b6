"""DELG from photographs with image-level labels, or with none: each photo is its own class.

Every step draws its views from generators seeded by (seed, step), so a run that was killed and
resumed sees the same views, and ends with the same weights, as one that was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.export.delg import export_delg
from covis.export.xfeat import export_xfeat, xfeat_of
from covis.files.atomic import replacing
from covis.nets.delg import (
    RESNET_DIMENSION,
    RESNETS,
    Delg,
    DelgOutput,
    XFeatBackbone,
    light_delg,
    load_resnet,
)
from covis.nets.xfeat import SIZE_MULTIPLE, XFeat
from covis.runtime.bundle import find_bundle
from covis.training import schedule
from covis.training.checkpoint import BEST, load_checkpoint, save_checkpoint, to_resume
from covis.training.data.held_out import check_enough, held_out_of
from covis.training.data.image_labels import LabelledPhotos, read_csv, read_folders, read_unlabelled
from covis.training.data.photos import read_photo
from covis.training.data.views import CROP, HARD, SAME, Change, render_view
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, NetRun, fit, stop_signals
from covis.training.losses.delg import (
    ATTENTION_WEIGHT,
    RECONSTRUCTION_WEIGHT,
    ArcFace,
    AttentionClassifier,
    contrast_loss,
    reconstruction_loss,
)
from covis.training.reporting import Report, paced

Loss = Literal["arcface", "contrast"]


@dataclass(frozen=True, kw_only=True)
class Recipe(schedule.Recipe):
    """Everything a run depends on besides its photos and the weights it starts from."""

    batch: int
    """Photos an update, over all processes."""
    sides: tuple[int, int]
    """Least and largest longest side of the views, in pixels."""
    views: tuple[Change, ...]
    """How the views of each photo are taken, one each."""
    loss: Loss
    local: bool
    """Whether the local branch learns too."""
    optimiser: Literal["sgd", "adamw"]
    rate: float
    warmup: int = 0
    weight_decay: float = 1e-4
    clip: float = 10.0
    held_out: int = 128
    start_views: int = 1024
    """Views whose principal components the head starts from; 0 for a random start."""
    kept: tuple[int, ...] = ()
    """How many views of each kind are made of each photo once and kept, pooled, to draw from:
    then only the whitening layer learns. Empty: each step makes its own."""

    def rate_at(self, step: int) -> float:
        """The learning rate, falling linearly to 0."""
        return self.rate * (1 - step / self.steps) * min(1.0, (step + 1) / max(self.warmup, 1))


LIGHT = Recipe(
    steps=1000,
    batch=256,
    sides=(256, 576),
    views=(SAME, HARD),
    loss="contrast",
    local=False,
    optimiser="adamw",
    rate=4e-3,
    warmup=50,
    weight_decay=1e-3,
    validate_every=250,
    kept=(2, 6),
)
"""For a head on XFeat's frozen network, without labels: nearly all of its time goes into making
eight views of each photo."""

LIGHT_LABELLED = replace(
    LIGHT, steps=3000, batch=48, views=(HARD,), loss="arcface", rate=1e-3, kept=()
)
"""For the same with labels: D's directions learn, too."""

PUBLISHED = Recipe(
    steps=1_500_000,
    batch=256,
    sides=(512, 512),
    views=(CROP,),
    loss="arcface",
    local=True,
    optimiser="sgd",
    rate=0.01,
    checkpoint_every=2000,
    validate_every=20_000,
    start_views=0,
)
"""For a ResNet: section 4.1 of the paper, 16 views on each of 16 workers."""


class Batch(NamedTuple):
    """Views [N, C, H, W] uint8, or the pooled ones that are kept [N, C], and their classes [N];
    with several views a photo all first views come before all second ones."""

    views: Tensor
    labels: Tensor


class Run(NetRun[Batch]):
    """One training run: the network, the classifiers, the optimiser, and where it stands."""

    metric = "recall@1"
    keeps_start = True

    def __init__(
        self,
        photos: LabelledPhotos,
        recipe: Recipe,
        delg: Delg,
        device: torch.device,
        workers: Workers | None = None,
    ) -> None:
        super().__init__(device, workers)
        check_enough(len(photos))
        count = held_out_of(len(photos), recipe.held_out)
        order = np.random.default_rng(recipe.seed).permutation(len(photos))
        self.held_out = photos.only(np.sort(order[:count]))
        self.photos = photos.only(np.sort(order[count:]))
        self.recipe: Recipe = recipe
        self.workers.check_shares(recipe.batch, "photos")
        torch.manual_seed(recipe.seed)
        self.net: Delg = delg.to(device)
        classes = len(self.photos.classes)
        self.losses = nn.ModuleDict()
        if recipe.loss == "arcface":
            self.losses["arcface"] = ArcFace(delg.dimension, classes)
        if recipe.local:
            self.losses["attention"] = AttentionClassifier(delg.decode.out_channels, classes)
        self.losses.to(device)
        self.scale = nn.Parameter(torch.tensor(20.0, device=device))
        """Of the contrast's cosines."""
        decay = recipe.weight_decay
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.SGD(self.learnt, recipe.rate, momentum=0.9, weight_decay=decay)
            if recipe.optimiser == "sgd"
            else torch.optim.AdamW(self.learnt, recipe.rate, weight_decay=decay)
        )
        self.kept: Tensor | None = None
        """[N, K, C] float16: the views of each photo that the recipe keeps, pooled."""
        self.held: dict[int, Tensor] = {}
        """Pooled views for validation, where nothing below the whitening layer learns."""

    @property
    def learnt(self) -> list[nn.Parameter]:
        parameters = (*self.net.parameters(), *self.losses.parameters(), self.scale)
        return [p for p in parameters if p.requires_grad]

    def state(self) -> dict[str, Any]:
        more = {"losses": self.losses.state_dict(), "scale": self.scale.detach()}
        return super().state() | more

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.losses.load_state_dict(state["losses"])
        self.scale.data.copy_(state["scale"])

    def batch(self, step: int) -> Batch:
        """This process' share of a step's views: a function of the seed and the step alone."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, step))
        size = view_size(recipe.sides, rng)
        chosen = self._drawn(rng)
        mine = range(self.workers.rank, len(chosen), self.workers.count)
        labels = np.tile(self.photos.labels[chosen[list(mine)]], len(recipe.views))
        if self.kept is not None:
            begins = np.cumsum((0, *recipe.kept))
            drawn = [rng.integers(begin, end, len(chosen)) for begin, end in pairwise(begins)]
            pooled = [self.kept[chosen, places][list(mine)] for places in drawn]
            return Batch(torch.cat(pooled), torch.from_numpy(labels))
        views = [
            self.view(self.photos, index, size, change, (recipe.seed, step, place, turn))
            for turn, change in enumerate(recipe.views)
            for place, index in ((place, int(chosen[place])) for place in mine)
        ]
        return Batch(torch.from_numpy(np.stack(views)), torch.from_numpy(labels))

    def _drawn(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Indices of a step's photos. Contrast needs them to be of different classes."""
        photos, count = self.photos, self.recipe.batch
        if self.recipe.loss == "arcface":
            return rng.integers(0, len(photos), count)
        count = min(count, len(photos.classes))
        classes = rng.choice(len(photos.classes), count, replace=False)
        order = np.argsort(photos.labels, kind="stable")
        ends = np.searchsorted(photos.labels[order], [classes, classes + 1])
        return order[rng.integers(ends[0], ends[1])]

    def view(
        self,
        photos: LabelledPhotos,
        index: int,
        size: tuple[int, int],
        change: Change,
        seed: tuple[int, ...],
    ) -> NDArray[np.uint8]:
        """One view of a photo before another one."""
        rng = np.random.default_rng(seed)
        photo, other = _readable(photos, index), _readable(photos, int(rng.integers(len(photos))))
        return render_view(photo, other, size, change, rng, grey=self.net.backbone.grey)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update. Returns the losses by name."""
        rate = self.recipe.rate_at(self.step)
        self.net.train()
        losses = self.learn(self._losses(batch), rate, self.recipe.clip)
        self.step += 1
        return losses

    def _output(self, views: Tensor) -> DelgOutput:
        images = views.to(self.device).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16):
            maps = self.net.backbone(images)
        return self.net.heads(type(maps)(*(m.float() for m in maps)))

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels.to(self.device)
        if self.kept is not None:
            pooled = batch.views.to(self.device).float()
            return {"global": self._global_loss(self.net.head.describe(pooled), labels)}
        output = self._output(batch.views)
        losses = {"global": self._global_loss(output.global_descriptor, labels)}
        if self.recipe.local:
            losses["reconstruction"] = RECONSTRUCTION_WEIGHT * reconstruction_loss(
                output.reconstruction, output.shallow
            )
            losses["attention"] = ATTENTION_WEIGHT * self.losses["attention"](
                output.attention, output.reconstruction, labels
            )
        return losses

    def _global_loss(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        if self.recipe.loss == "arcface":
            return self.losses["arcface"](descriptors, labels)
        one, other = descriptors.chunk(2)
        return contrast_loss(one, other, self.scale)

    @torch.inference_mode()
    def _deep(self, photos: LabelledPhotos, index: int, change: Change, *seed: int) -> Tensor:
        """D of one view of a photo, drawn by the run's seed and `seed`: [1, C, h, w]."""
        seeds = (self.recipe.seed, *seed, index)
        size = view_size(self.recipe.sides, np.random.default_rng(seeds))
        view = torch.from_numpy(self.view(photos, index, size, change, seeds))[None]
        with torch.autocast(self.device.type, torch.bfloat16):
            maps = self.net.backbone(view.to(self.device).float() / 255)
        return maps.deep.float()

    def _pooled(self, photos: LabelledPhotos, index: int, change: Change, *seed: int) -> Tensor:
        """The same, pooled: [1, C]."""
        with torch.inference_mode():
            return self.net.head.pool(self._deep(photos, index, change, *seed))

    def begin(self, report: Report) -> None:
        if self.recipe.start_views:
            report(f"looking at {self.start_views} views for the head to start from")
            self.start_head(report)

    def prepare(self, out: Path, report: Report) -> None:
        if self.recipe.kept:
            self.keep_views(out / f"views-{self.workers.rank}.pt", report)

    @property
    def start_views(self) -> int:
        """As the recipe says, but no more than `VIEWS_A_PHOTO` of each photo."""
        return min(self.recipe.start_views, VIEWS_A_PHOTO * len(self.photos))

    def start_head(self, report: Report = str) -> None:
        """Begin with the directions that views' features have most of, and with the principal
        components of pooled views, each scaled to the same variance."""
        self.net.eval()
        recipe, backbone, count = self.recipe, self.net.backbone, self.start_views
        tell = paced(report)
        rng = np.random.default_rng((recipe.seed, 0, 1))
        drawn = [int(index) for index in rng.integers(0, len(self.photos), count)]
        look = [
            (index, recipe.views[place % len(recipe.views)], 0, 1, place)
            for place, index in enumerate(drawn)
        ]
        if isinstance(backbone, XFeatBackbone):
            reduce = backbone.deepen.reduce
            backbone.deepen.reduce = nn.Identity()  # type: ignore[assignment]
            moments = []
            for done, arguments in enumerate(look[: max(count // 4, 1)], 1):
                tell(f"seen {done} of {count // 4} views")
                rows = self._deep(self.photos, *arguments).flatten(2)[0]
                moments.append(rows @ rows.T / rows.square().sum())
            backbone.deepen.reduce = reduce
            start_directions(reduce, torch.stack(moments).mean(dim=0))
        pooled = []
        for done, arguments in enumerate(look, 1):
            pooled.append(self._pooled(self.photos, *arguments))
            tell(f"seen {done} of {count} views")
        whiten(self.net.head.whiten, torch.cat(pooled))

    def keep_views(self, path: Path, report: Report = print) -> None:
        """Make the views that the recipe keeps. `path` takes what is done, for after a kill.

        On SIGINT and SIGTERM what is done is kept, and KeyboardInterrupt is raised.
        """
        self.net.eval()
        recipe, workers = self.recipe, self.workers
        changes = [
            c for c, count in zip(recipe.views, recipe.kept, strict=True) for _ in range(count)
        ]
        backbone, head = self.net.backbone, self.net.head
        assert isinstance(backbone, XFeatBackbone)
        shape = len(self.photos), len(changes), head.whiten.in_features
        kept = torch.zeros(shape, dtype=torch.float16)
        directions = backbone.deepen.reduce.weight.detach().cpu()
        begin = 0
        if path.exists():
            saved = load_checkpoint(path)
            if torch.equal(saved["directions"], directions):
                kept, begin = saved["kept"], saved["done"]
        if begin < len(self.photos):
            report(f"making {len(changes)} views of each of {len(self.photos)} photos")
        tell = paced(report)
        with stop_signals() as stopped:
            for index in range(begin, len(self.photos)):
                if index % workers.count == workers.rank:
                    for place, change in enumerate(changes):
                        pooled = self._pooled(self.photos, index, change, 0, 6, place)
                        kept[index, place] = pooled[0]
                done, stops = index + 1, stopped()
                tell(f"views of {done} of {len(self.photos)} photos")
                if done % 200 == 0 or done == len(self.photos) or stops:
                    save_checkpoint({"kept": kept, "done": done, "directions": directions}, path)
                if stops:
                    report("stopped; add --resume to the same command to go on")
                    raise KeyboardInterrupt
        # What the others made is zero here.
        whole = kept.float().to(self.device)
        workers.average([whole])
        self.kept = (whole * workers.count).half().cpu()

    def _described(self, photos: LabelledPhotos, change: Change, salt: int) -> Tensor:
        """Global descriptors [N, G] of one view of each photo, the same at every call."""
        self.net.eval()
        pooled = self.held.get(salt)
        if pooled is None:
            views = [self._pooled(photos, index, change, 0, salt) for index in range(len(photos))]
            pooled = torch.cat(views)
            if self.kept is not None:
                self.held[salt] = pooled
        with torch.inference_mode():
            return self.net.head.describe(pooled)

    def candidates(self) -> Iterator[Candidate]:
        yield Candidate(self.net, self.validate())

    def save(self, net: nn.Module, path: Path) -> None:
        with replacing(path) as file:
            file.write(save_tensors(self.net.learnt_state()))

    def validate(self) -> dict[str, float]:
        """Recall of held-out photos by hard views of them, among as they are and distractors."""
        rng = np.random.default_rng((self.recipe.seed, 0, 2))
        count = min(len(self.photos), DISTRACTORS * len(self.held_out))
        distractors = self.photos.only(np.sort(rng.permutation(len(self.photos))[:count]))
        references = torch.cat(
            [self._described(self.held_out, SAME, 3), self._described(distractors, SAME, 4)]
        )
        names = [p.classes[i] for p in (self.held_out, distractors) for i in p.labels]
        queries = self._described(self.held_out, HARD, 5)
        nearest = (queries @ references.T).topk(min(10, len(names)), dim=1).indices.tolist()
        right = np.array(
            [[names[i] == names[q] for i in found] for q, found in enumerate(nearest)], bool
        )
        return {
            "recall@1": float(right[:, 0].mean()),
            "recall@10": float(right.any(axis=1).mean()),
        }


VIEWS_A_PHOTO = 8
"""That the head starts from, at most."""
DISTRACTORS = 4
"""Photos of the training set beside each held-out one when validating."""


def view_size(sides: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """A random (height, width), multiples of 32, the longest side within `sides`."""
    longest = rng.uniform(*sides)
    ratio = np.exp(rng.uniform(-0.45, 0.45)) if sides[0] < sides[1] else 1.0
    size = longest * min(ratio, 1), longest * min(1 / ratio, 1)
    height, width = (max(int(side) // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE for side in size)
    return height, width


@torch.inference_mode()
def start_directions(layer: nn.Conv2d, moment: Tensor) -> None:
    """Let a 1x1 convolution keep the directions that hold most of a second moment [C, C]."""
    _, directions = torch.linalg.eigh(moment.double())
    kept = directions.flip(1)[:, : layer.out_channels].T
    layer.weight.copy_(kept[:, :, None, None])


def whiten(layer: nn.Linear, samples: Tensor, floor: float = 0.1) -> None:
    """Set `layer` to the principal components of samples [N, C], scaled to equal variance.

    floor: the share of the mean variance that is added to each, so that noise is not blown up.
    What the samples have too few components for keeps its random start.
    """
    mean = samples.mean(dim=0)
    centred = (samples - mean).double()
    variances, components = torch.linalg.eigh(centred.T @ centred / len(samples))
    order = variances.argsort(descending=True)[: layer.out_features]
    scale = (variances[order].clamp(min=0) + floor * variances.clamp(min=0).mean()).rsqrt()
    rows = (components[:, order] * scale).T.to(layer.weight)
    with torch.no_grad():
        layer.weight[: len(rows)] = rows
        layer.bias.copy_(-layer.weight @ mean)


def _readable(photos: LabelledPhotos, index: int) -> NDArray[Any]:
    """The photo at `index`, or the next one after it that can be decoded."""
    for place in range(index, index + len(photos)):
        photo = read_photo(photos.paths[place % len(photos)])
        if photo is not None:
            return photo
    raise TrainingError(f"{photos.paths[index]}: neither this nor any other picture can be read.")


def train(
    images: Path,
    out: Path,
    *,
    labels: str | Path | None = None,
    backbone: str = "xfeat",
    start: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train DELG on the pictures under `images`; returns the bundle's folder.

    out: takes `checkpoint.pt` (to resume from), `best.safetensors` (what was learnt),
        `curve.csv` and `bundle/`, a model of the best weights.
    labels: "folders" where each folder is a class, a CSV file (see `read_csv`), or None where
        each picture is a class of its own.
    backbone: "xfeat" for a head on a frozen XFeat, "resnet50" or "resnet101".
    start: the weights to begin with: a bundle's name or folder for XFeat, a folder or a name
        that `transformers` knows for a ResNet, or "random". By default the XFeat of the package,
        or ImageNet's weights from where `transformers` finds them.

    Under `torchrun` the processes share each update's photos. Raises TrainingError when there
    are too few photos, `out` holds a run and `resume` is not given, there is none to resume or
    it began otherwise; BundleError when `start` does not load.
    """
    out = Path(out)
    where, workers = join(device)
    saved = to_resume(out, resume)
    if saved is not None:
        steps, seed = steps or saved["steps"], saved["seed"]
    recipe = LIGHT if backbone == "xfeat" else PUBLISHED
    if backbone == "xfeat" and labels is not None:
        recipe = LIGHT_LABELLED
    recipe = replace(recipe, seed=seed, steps=recipe.steps if steps is None else steps)
    others = backbone, str(start), str(labels)
    if saved is not None and saved["began"] != repr(
        (replace(recipe, steps=saved["steps"]), *others)
    ):
        raise TrainingError(
            f"{out}: this run began otherwise. Go on with the covis and the options it began "
            "with, or start again with another --output."
        )
    photos = _read(Path(images), labels)
    check_enough(len(photos), folder=Path(images))
    report = workers.once(report)
    report(f"{len(photos)} photos, {len(photos.classes)} classes")
    torch.manual_seed(seed)
    run = Run(photos, recipe, build(backbone, start), where, workers)
    notes = {"steps": recipe.steps, "seed": seed, "began": repr((recipe, *others))}
    fit(run, out, saved=saved, notes=notes, report=report)
    if workers.leads:
        run.net.load_learnt(out / BEST)
        _write_bundle(run.net.cpu(), out, run)
    return out / "bundle"


def _read(images: Path, labels: str | Path | None) -> LabelledPhotos:
    if labels is None:
        return read_unlabelled(images)
    if str(labels) == "folders":
        return read_folders(images)
    return read_csv(images, Path(labels))


def build(backbone: str, start: str | Path | None = None) -> Delg:
    """DELG on a backbone with the weights `start` names, see `train`; its head is random.

    Raises TrainingError for another backbone, BundleError when the weights do not load.
    """
    if backbone == "xfeat":
        return light_delg(_xfeat(start))
    if backbone in RESNETS:
        return Delg(load_resnet(backbone, start), RESNET_DIMENSION)
    raise TrainingError(f"'{backbone}' is no backbone; there are: xfeat, {', '.join(RESNETS)}.")


def _xfeat(start: str | Path | None) -> XFeat:
    if str(start) == "random":
        return XFeat().eval()
    bundle = find_bundle(str(start or "xfeat-covis"))
    if bundle.architecture != "xfeat":
        raise TrainingError(f"{start}: a bundle for {bundle.architecture}, not for xfeat.")
    return xfeat_of(bundle)


def _write_bundle(delg: Delg, out: Path, run: Run) -> None:
    """The best weights as a model: XFeat with a global descriptor, or all of DELG."""
    notes = {
        "photos": len(run.photos),
        "classes": len(run.photos.classes),
        "updates": run.recipe.steps,
        "seed": run.recipe.seed,
        "recall@1 of held-out photos": run.best,
    }
    if isinstance(delg.backbone, XFeatBackbone):
        export_xfeat(
            delg.backbone.net,
            out / "bundle",
            name=out.name,
            licence="yours",
            source="covis train delg",
            training=notes,
            search=delg,
        )
    else:
        export_delg(
            delg,
            out / "bundle",
            name=out.name,
            licence="yours",
            source="covis train delg",
            training=notes,
        )
