"""LiFT without labels: an image's features tell what those of the image at half size should give.

The recipe is the paper's (section 3.2) for ViTs, and a light one for XFeat. The backbone is
frozen, so what it gives for a view is computed once and kept on the disk where there is room.
Every view is a function of (seed, photo, version) and every step draws its views by (seed, step):
a run that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.export.lift import export_lift
from covis.export.published_weights import PUBLISHED as KNOWN_WEIGHTS
from covis.export.published_weights import fetch_weights
from covis.export.xfeat import xfeat_of
from covis.files.atomic import replacing
from covis.images.picture_files import pictures_below
from covis.nets.dense import Backbone, Facet, VisionTransformer, XFeatMap, load_vit
from covis.nets.dinov2 import load_official as load_dinov2
from covis.nets.lift import LiFT, enlarge, load_lift, metadata
from covis.runtime.bundle import find_bundle, installed_bundle
from covis.training.checkpoint import BEST, began_with, save_weights, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.photos import next_photo, photos_below
from covis.training.data.tensors import as_input
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, NetRun, fit, in_words, rendered
from covis.training.reporting import Report
from covis.training.schedule import Stage, StagedRecipe
from covis.training.start import begin_with

Loss = Literal["cosine", "l1", "l2"]
Halving = Literal["stride", "mean"]
LEVELS = 3
"""Sizes of a view: whole, a half, a quarter."""
ENLARGED = 1.25
"""Photos are enlarged by this at most to be as large as a view."""
ROOM = 2
"""Features are kept where the disk has this many times the room that they take."""


@dataclass(frozen=True, kw_only=True)
class Recipe(StagedRecipe[Stage]):
    """Everything a run depends on besides its photos and backbone. The paper's by default."""

    steps: int = 25_000
    """5 epochs of ImageNet."""
    size: int = 448
    """Of the views, in pixels; a quarter of it is a multiple of what the backbone takes."""
    batch: int = 256
    versions: int = 5
    """Of each photo: crops, flips and colours."""
    loss: Loss = "cosine"
    halving: Halving = "stride"
    """stride: every other pixel; mean: of 2x2 pixels, as photos are made smaller elsewhere."""
    residual: bool = False
    """See `LiFT`."""
    blend: float = 0.0
    """The share of the features enlarged bilinearly in what is to be learnt, 0..1."""
    context: int = 1
    """Those are averaged over so many of their cells each way; an odd number."""
    jitter: float = 0.2
    """How far brightness, contrast and saturation change."""
    warmup: int = 0
    validate_every: int = 1000
    stages: tuple[Stage, ...] = (Stage(1.0, 1e-3, 1e-3),)


PUBLISHED = Recipe()
LIGHT = Recipe(
    steps=3_000,
    size=384,
    batch=8,
    versions=4,
    halving="mean",
    residual=True,
    blend=0.75,
    context=3,
    warmup=50,
    checkpoint_every=100,
    validate_every=250,
    stages=(Stage(1.0, 2e-3, 2e-5),),
)
"""For XFeat, on one processor. What XFeat gives at twice the size is finer, but tells the parts of
objects apart no better (PF-WILLOW); a blend of both sizes does, so a blend is learnt, the coarser
part of it averaged with the cells around."""
LIGHT_VIT = Recipe(
    steps=2_000,
    size=224,
    batch=8,
    versions=1,
    halving="mean",
    residual=True,
    warmup=50,
    checkpoint_every=50,
    validate_every=200,
    stages=(Stage(1.0, 1e-3, 2e-5),),
)
"""For a ViT on one processor: the published losses on small views, of which the smallest has four
cells each way. Residual, it begins as what it has to beat, bilinear enlargement."""


@dataclass(frozen=True)
class Batch:
    """images: whole views [B, 3, S, S], normalised. features: of them whole, at a half and at a
    quarter of the size: [B, C, S / patch, S / patch], ..."""

    images: Tensor
    features: tuple[Tensor, ...]


def distance(found: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """Mean over places of the distance of descriptors [B, C, h, w] (section 3.2).

    cosine: 1 minus the cosine of their angle. l1, l2: mean of the differences, of their squares.
    """
    if loss == "l1":
        return F.l1_loss(found, target)
    if loss == "l2":
        return F.mse_loss(found, target)
    return 1 - F.cosine_similarity(found, target, dim=1).mean()


def averaged(maps: Tensor, cells: int) -> Tensor:
    """[B, C, H, W] -> the same, every cell the mean of `cells` x `cells` around it."""
    reach = cells // 2
    return F.avg_pool2d(F.pad(maps, (reach,) * 4, mode="replicate"), cells, stride=1)


def halve(images: Tensor, halving: Halving) -> Tensor:
    """[B, C, H, W] -> [B, C, H/2, W/2]."""
    return F.avg_pool2d(images, 2) if halving == "mean" else images[..., ::2, ::2]


class Run(NetRun[Batch]):
    """One training run: the module, its optimiser, and where it stands."""

    metric = "once"
    lower_is_better = True

    def __init__(
        self,
        photos: Path,
        recipe: Recipe,
        backbone: Backbone,
        device: torch.device,
        *,
        cache: Path | None = None,
        workers: Workers | None = None,
        start: str | Path | None = None,
    ) -> None:
        """cache: an existing folder to keep features in; None to keep none."""
        super().__init__(device, workers)
        paths = pictures_below(photos)
        self.held_out, self.photos = hold_out(paths, recipe.held_out, recipe.seed, folder=photos)
        if recipe.size % (4 * backbone.multiple):
            raise TrainingError(
                f"views of {recipe.size} pixels do not fit {backbone.kind.backbone}: give a "
                f"multiple of {4 * backbone.multiple}."
            )
        self.workers.check_shares(recipe.batch, "views")
        self.recipe: Recipe = recipe
        self.cache = cache
        self.backbone = backbone.to(device)
        torch.manual_seed(recipe.seed)
        self.net: LiFT = LiFT(backbone.kind, recipe.residual).to(device)
        self.keeps_start = start is not None
        if start is not None:
            begin_with(self.net, start, "lift")
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=recipe.stages[0].rate)

    def bytes_to_keep(self) -> int:
        """What the features of all views take on the disk."""
        kind = self.backbone.kind
        cells = sum((self.recipe.size // (kind.patch << level)) ** 2 for level in range(LEVELS))
        return 2 * kind.channels * cells * len(self.photos) * self.recipe.versions

    def views_id(self) -> str:
        """8 hexadecimal digits that tell views, and so their features, from those of others."""
        recipe = self.recipe
        views = recipe.seed, recipe.size, recipe.versions, recipe.halving, recipe.jitter
        text = repr((views, self.backbone.kind, self.photos))
        return sha256(text.encode()).hexdigest()[:8]

    def batch(self, step: int) -> tuple[list[int], NDArray[np.uint8]]:
        """This process' share of a step's views: their numbers, and [B, S, S, 3] RGB."""
        views = len(self.photos) * self.recipe.versions
        rng = np.random.default_rng((self.recipe.seed, step))
        drawn = rng.integers(0, views, self.recipe.batch)[self.workers.rank :: self.workers.count]
        numbers = [int(number) for number in drawn]
        return numbers, np.stack([self.view(number) for number in numbers])

    def view(self, number: int) -> NDArray[np.uint8]:
        """One version of a photo: RGB [S, S, 3]."""
        rng = np.random.default_rng((self.recipe.seed, 1, number))
        photo = self._readable(self.photos, number // self.recipe.versions)
        view = crop(photo, self.recipe.size, rng)
        return jittered(view, self.recipe.jitter, rng) if self.recipe.jitter else view

    def _readable(self, paths: list[Path], index: int) -> NDArray[Any]:
        """The photo at `index`, or the next one after it that is whole and large enough; BGR."""
        least = least_side(self.recipe)
        photo = next_photo(paths, index, 2 * self.recipe.size, least)
        if photo is None:
            raise TrainingError(
                f"{paths[index].parent}: no picture with sides of {least} pixels or more. Give "
                "larger photos, or smaller views with --size."
            )
        return photo

    def batches(self) -> Iterator[Batch]:
        """This process' batches from the present step to the last, rendered ahead."""
        for numbers, views in rendered(self.batch, range(self.step, self.recipe.steps)):
            images = self._normalised(views)
            yield Batch(images, self.features(numbers, images))

    def _normalised(self, views: NDArray[np.uint8]) -> Tensor:
        return self.backbone.normalise(as_input(views, self.device)).contiguous()

    def features(self, numbers: list[int], images: Tensor) -> tuple[Tensor, ...]:
        """What the backbone gives for views [B, 3, S, S] at each of the three sizes.

        They are rounded to float16, whether they come from the disk or not.
        """
        if self.cache is None:
            flat = self._computed(images)
        else:
            # One at a time: the last bits depend on how many views share a call.
            rows = zip(numbers, images.split(1), strict=True)
            flat = np.concatenate([self._kept(number, image) for number, image in rows])
        kind = self.backbone.kind
        sides = [self.recipe.size // (kind.patch << level) for level in range(LEVELS)]
        parts = (
            torch.from_numpy(flat)
            .to(self.device)
            .float()
            .split([kind.channels * side * side for side in sides], dim=1)
        )
        return tuple(
            part.view(-1, kind.channels, side, side)
            for part, side in zip(parts, sides, strict=True)
        )

    @torch.no_grad()
    def _computed(self, images: Tensor) -> NDArray[np.float16]:
        """[B, 3, S, S] -> [B, N], the three sizes one behind the other."""
        levels = []
        for level in range(LEVELS):
            images = halve(images, self.recipe.halving) if level else images
            levels.append(self.backbone(images).flatten(1))
        return torch.cat(levels, dim=1).half().cpu().numpy()

    def _kept(self, number: int, image: Tensor) -> NDArray[np.float16]:
        """`_computed` of one view, from the disk where it is there."""
        assert self.cache is not None
        path = self.cache / f"{number}.npy"
        try:
            found: NDArray[np.float16] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            found = self._computed(image)
            with replacing(path) as file:
                np.save(file, found, allow_pickle=False)
        return found

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update. Returns the loss by name."""
        recipe = self.recipe
        _, rate = recipe.at(self.step)
        self.net.train()
        half = halve(batch.images, recipe.halving)
        quarter = halve(half, recipe.halving)
        whole_features, half_features, quarter_features = batch.features
        loss = torch.zeros((), device=self.device)
        for image, features, fine in (
            (half, half_features, whole_features),
            (quarter, quarter_features, half_features),
        ):
            target = fine
            if recipe.blend:
                target = torch.lerp(fine, averaged(enlarge(features), recipe.context), recipe.blend)
            loss = loss + distance(self.net.lift(image, features), target, recipe.loss)
        losses = self.learn({"loss": loss}, rate)
        self.step += 1
        return losses

    def candidates(self) -> Iterator[Candidate]:
        yield Candidate(self.net, self.validate())

    def save(self, net: nn.Module, path: Path) -> None:
        save_weights(net, path, metadata(self.net))

    def prepare(self, out: Path, report: Report) -> None:
        if self.workers.leads and self.step == 0 and not self.keeps_start:
            report(f"step 0: {in_words(self.validate())}")

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """How far lifted features of held-out photos are from those of photos twice, or four
        times, the size: 1 minus the cosine, mean over places and photos; and the same of the
        features enlarged bilinearly."""
        self.net.eval()
        sums = dict.fromkeys(("once", "once_bilinear", "twice", "twice_bilinear"), 0.0)
        for index in range(len(self.held_out)):
            rng = np.random.default_rng((self.recipe.seed, 2, index))
            view = crop(self._readable(self.held_out, index), self.recipe.size, rng)
            image = self._normalised(view[None])
            target = self.backbone(image)
            for times, name in ((1, "once"), (2, "twice")):
                image = halve(image, self.recipe.halving)
                features = self.backbone(image)
                lifted = self.net.lift(image, features, times)
                enlarged = F.interpolate(features, target.shape[-2:], mode="bilinear")
                sums[name] += float(distance(lifted, target, "cosine"))
                sums[f"{name}_bilinear"] += float(distance(enlarged, target, "cosine"))
        return {name: round(total / len(self.held_out), 5) for name, total in sums.items()}


def least_side(recipe: Recipe) -> int:
    """Of a photo, in pixels."""
    return round(recipe.size / ENLARGED)


def crop(photo: NDArray[Any], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of a photo, BGR, as RGB [size, size, 3], perhaps mirrored.

    The photo's shorter side becomes `size` pixels or more, but no more than it is.
    """
    shorter = min(photo.shape[:2])
    scale = rng.uniform(size, max(size, shorter)) / shorter
    if scale != 1:
        shape = [max(round(side * scale), size) for side in photo.shape[1::-1]]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        photo = cv2.resize(photo, shape, interpolation=how)
    top, left = (int(rng.integers(0, side - size + 1)) for side in photo.shape[:2])
    part = photo[top : top + size, left : left + size, ::-1]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def jittered(view: NDArray[np.uint8], jitter: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """RGB [H, W, 3] with brightness, contrast and saturation changed, in this order."""
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3)
    image = view.astype(np.float32) * np.float32(brightness)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    image = (image - grey.mean()) * np.float32(contrast) + grey.mean()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    image = (image - grey) * np.float32(saturation) + grey
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def load_backbone(name: str, layer: int | None = None, facet: Facet | None = None) -> Backbone:
    """The backbone of that name: "xfeat", a bundle for xfeat, or a ViT: "dinov2-small", which is
    fetched, a file with the weights of a DINOv2, or see `load_vit`.

    layer, facet: of a ViT; those that `covis weights get` takes, or the last one's keys.

    Raises BundleError when it cannot be had, TrainingError for a bundle of another kind or a
    layer or facet of XFeat's, ArgumentError for one that a ViT has not.
    """
    row = KNOWN_WEIGHTS.get(name)
    if row is not None and row.facet is not None:
        if layer is None and facet is None:
            layer, facet = row.layer, row.facet
        path = fetch_weights(name)
        backbone = VisionTransformer(load_dinov2(path), name, layer, facet or "key")
        path.unlink()
        return backbone
    if Path(name).is_file():
        return VisionTransformer(load_dinov2(name), Path(name).stem, layer, facet or "key")
    source = "xfeat-covis" if name == "xfeat" else name
    if installed_bundle(source) is None and not (Path(source) / "bundle.json").is_file():
        return load_vit(source, layer, facet or "key")
    bundle = find_bundle(source)
    if bundle.architecture != "xfeat":
        raise TrainingError(f"{name}: a bundle for {bundle.architecture}, not for xfeat.")
    if layer is not None or facet is not None:
        raise TrainingError(f"{name} is no ViT; it has no layers and facets to choose from.")
    return XFeatMap(xfeat_of(bundle), bundle.name)


def recipe_for(backbone: Backbone, light: bool = False) -> Recipe:
    """The one to begin with. light: for one processor, of a ViT too."""
    if isinstance(backbone, XFeatMap):
        return LIGHT
    return replace(LIGHT_VIT, size=16 * backbone.multiple) if light else PUBLISHED


def train(
    photos: Path,
    out: Path,
    *,
    backbone: Backbone,
    start: str | Path | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train LiFT on the photographs under `photos`; returns the best weights' path.

    out: takes `checkpoint.pt` (to resume from), `best.safetensors` and `latest.safetensors`
    (official key names, and which features they are for), `curve.csv`, and, with XFeat, `bundle/`,
    a model of both; until the run is through `features-.../` as well, which may be deleted at any
    time. start: weights to begin with, see `covis.training.start.read_start`. Under `torchrun` the
    processes share each update's views.

    Raises TrainingError when there are too few photos, `out` holds a run and `resume` is not
    given, there is none to resume or it began otherwise.
    """
    out = Path(out)
    where, workers = join(device)
    saved = to_resume(out, resume)
    recipe = recipe or recipe_for(backbone)
    notes = began_with(out, saved, recipe, backbone.kind)
    photos_below(photos, least_side(recipe))
    run = Run(Path(photos), recipe, backbone, where, workers=workers, start=start)
    out.mkdir(parents=True, exist_ok=True)
    needed = run.bytes_to_keep()
    keeps = shutil.disk_usage(out).free > ROOM * needed if saved is None else saved["keeps"]
    if keeps:
        run.cache = out / f"features-{run.views_id()}"
        run.cache.mkdir(exist_ok=True)
    report = workers.once(report)
    kept = "kept" if keeps else "not kept, the disk is too full"
    report(f"{len(run.photos)} photos; features of {needed / 2**30:.1f} GiB are {kept}")
    fit(run, out, saved=saved, notes=notes | {"keeps": keeps}, report=report)
    workers.wait()
    if workers.leads and run.cache is not None:
        shutil.rmtree(run.cache, ignore_errors=True)
    if workers.leads and isinstance(backbone, XFeatMap):
        _write_bundle(run, backbone, out)
    return out / BEST


def _write_bundle(run: Run, backbone: XFeatMap, out: Path) -> None:
    """The best weights and the backbone as a model."""
    notes = {
        "photos": len(run.photos),
        "updates": run.recipe.steps,
        "seed": run.recipe.seed,
        "backbone": str(backbone.kind),
    }
    export_lift(
        load_lift(out / BEST, backbone.kind),
        backbone.cpu(),
        out / "bundle",
        name=out.resolve().name,
        licence="yours",
        source="covis train lift",
        training=notes,
        metrics=min(run.curve, key=lambda row: row["once"]),
    )
