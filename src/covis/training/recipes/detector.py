"""A small detector on a frozen backbone's features, plain or lifted: what LiFT's section 4.4 does
with ViTDet on COCO, at a scale that one processor can show.

Losses and targets are FCOS' (arXiv 1904.01355, sections 3.1 and 3.2, with sampling near the
centres and the GIoU loss). Every step draws its pictures by (seed, step): a run that was killed
and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from covis.errors import BundleError, TrainingError
from covis.evaluation.datasets.boxes import Detections, LabelledImage, average_precision, read_yolo
from covis.images.decode import load_image
from covis.nets.dense import Backbone, fingerprint, older_fingerprint
from covis.nets.detector import Detector, Predictions
from covis.nets.lift import FeatureKind, LiFT
from covis.nets.pyramid import feature_maps, pyramid_strides
from covis.nets.weights import load_strictly, read_state_dict
from covis.training.checkpoint import BEST, began_with, save_weights, to_resume
from covis.training.data.held_out import hold_out
from covis.training.data.tensors import as_input
from covis.training.distributed import Workers, join
from covis.training.loop import Candidate, NetRun, fit
from covis.training.reporting import Report
from covis.training.schedule import Stage, StagedRecipe
from covis.types import Source

MADE_AS = "covis.detector"
"""The key of a .safetensors file's metadata that says how a detector was made."""
REACH = 8
"""A level of stride s is for objects whose farthest side is at most 8 s away, and the next finer
one's reach does not hold."""
NEAR = 1.5
"""Places within this many cells of an object's centre are its own."""
ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss (arXiv 1708.02002)."""
SURE = 0.05
"""Detections with a lower score are left out."""
SAME = 0.6
"""Of two detections of a class that overlap by more, the surer one is kept."""


@dataclass(frozen=True, kw_only=True)
class Recipe(StagedRecipe[Stage]):
    """Everything a run depends on besides its pictures, backbone and LiFT."""

    steps: int = 4_000
    size: int = 320
    """Longest side of the pictures in pixels; a multiple of what the backbone takes."""
    batch: int = 8
    width: int = 96
    depth: int = 2
    lifts: int = 1
    """How often features are lifted, where there is a LiFT."""
    decay: float = 1e-4
    held_out: int = 16
    checkpoint_every: int = 100
    stages: tuple[Stage, ...] = (Stage(1.0, 2e-3, 2e-5),)


@dataclass(frozen=True)
class Made:
    """How a detector was made: what it takes to load it again.

    lift: the LiFT's fingerprint, "" without one.
    """

    kind: FeatureKind
    lift: str
    lifts: int
    classes: tuple[int, ...]
    size: int
    width: int
    depth: int

    def net(self) -> Detector:
        patch = self.kind.patch
        given = [patch / 2**times for times in range(self.lifts + 1)]
        return Detector(
            self.kind.channels,
            given,
            pyramid_strides(patch),
            len(self.classes),
            self.width,
            self.depth,
        )


@dataclass(frozen=True)
class Targets:
    """For N places of an image. labels: [N], a class, or -1 for none. distances: [N, 4], of the
    object's sides. centres: [N], centre-ness in 0..1."""

    labels: Tensor
    distances: Tensor
    centres: Tensor


def assign(places: Tensor, strides: Tensor, boxes: Tensor, labels: Tensor) -> Targets:
    """Which object each place is for (section 3.2); of several the smallest.

    places [N, 2] and boxes [M, 4] in pixels; strides [N]; labels [M].
    """
    x, y = places.T[:, :, None]
    left, top, right, bottom = boxes.T[:, None, :]
    distances = torch.stack([x - left, y - top, right - x, bottom - y], dim=2)
    near = NEAR * strides[:, None]
    central = ((x - (left + right) / 2).abs() < near) & ((y - (top + bottom) / 2).abs() < near)
    farthest = distances.amax(dim=2)
    reach = REACH * strides
    low = torch.where(reach == reach.min(), 0.0, reach / 2)[:, None]
    high = torch.where(reach == reach.max(), torch.inf, reach)[:, None]
    fits = (distances.amin(dim=2) > 0) & central & (farthest > low) & (farthest <= high)
    areas = ((right - left) * (bottom - top)).expand_as(fits).masked_fill(~fits, torch.inf)
    if not len(boxes):
        nothing = places.new_zeros(len(places))
        return Targets((nothing - 1).long(), places.new_zeros(len(places), 4), nothing)
    smallest, best = areas.min(dim=1)
    chosen = distances[torch.arange(len(places)), best]
    found = torch.where(smallest.isfinite(), labels[best], -1)
    across, down = chosen[:, [0, 2]].clamp(min=0), chosen[:, [1, 3]].clamp(min=0)
    ratios = across.amin(1) * down.amin(1) / (across.amax(1) * down.amax(1)).clamp(min=1e-6)
    return Targets(found, chosen, ratios.sqrt())


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over places [N, K] of the focal loss; labels [N], -1 where all classes are wrong."""
    truth = F.one_hot(labels + 1, logits.shape[-1] + 1)[..., 1:].to(logits.dtype)
    plain = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missed = (truth - logits.sigmoid()).abs()
    weight = truth * ALPHA + (1 - truth) * (1 - ALPHA)
    return (weight * missed**GAMMA * plain).sum()


def giou(found: Tensor, truth: Tensor) -> Tensor:
    """Generalised IoU (arXiv 1902.09630) of boxes around one place, by the distances of their
    sides: [N, 4], [N, 4] -> [N] in -1..1."""
    low, high = torch.minimum(found, truth), torch.maximum(found, truth)

    def area(sides: Tensor) -> Tensor:
        return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])

    shared, hull = area(low), area(high)
    union = area(found) + area(truth) - shared
    return shared / union - (hull - union) / hull


def loss_of(found: Predictions, boxes: list[Tensor], labels: list[Tensor]) -> Tensor:
    """The three losses' sum a place that is for an object (section 3.1); boxes in pixels."""
    targets = [
        assign(found.places, found.strides, *each) for each in zip(boxes, labels, strict=True)
    ]
    truth = torch.stack([each.labels for each in targets])
    ours = truth >= 0
    count = ours.sum().clamp(min=1)
    loss = focal_loss(found.classes.flatten(0, 1), truth.flatten()) / count
    if ours.any():
        centres = torch.stack([each.centres for each in targets])[ours]
        distances = torch.stack([each.distances for each in targets])[ours]
        fit = 1 - giou(found.distances[ours], distances)
        loss = loss + (centres * fit).sum() / centres.sum().clamp(min=1e-6)
        loss = loss + F.binary_cross_entropy_with_logits(found.centres[ours], centres)
    return loss


def detections(found: Predictions, index: int, limit: int = 100) -> Detections:
    """What is found in one image of the batch, surest first; boxes in the input's pixels."""
    scores = (found.classes[index].sigmoid() * found.centres[index].sigmoid()[:, None]).sqrt()
    best, labels = scores.max(dim=1)
    kept = (best > SURE).nonzero()[:, 0]
    kept = kept[best[kept].argsort(descending=True, stable=True)[:1000]]
    places, distances = found.places[kept], found.distances[index, kept]
    corners = torch.cat([places - distances[:, :2], places + distances[:, 2:]], dim=1)
    boxes = corners.double().cpu().numpy()
    values, classes = (each[kept].cpu().numpy() for each in (best, labels))
    around = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    chosen = cv2.dnn.NMSBoxesBatched(around.tolist(), values.tolist(), classes.tolist(), SURE, SAME)
    order = np.array(chosen, int).ravel()[:limit]
    return Detections(boxes[order], classes[order], values[order].astype(np.float64))


Batch = tuple[Tensor, list[Tensor], list[Tensor]]
"""B pictures [B, 3, S, S] in 0..1, and for each its boxes [M, 4] in pixels of it and their labels
[M], numbered without gaps."""


class Run(NetRun[Batch]):
    """One training run: the detector, its optimiser, and where it stands."""

    metric = "ap50"

    def __init__(
        self,
        images: Path,
        labels: Path,
        recipe: Recipe,
        backbone: Backbone,
        lift: LiFT | None,
        device: torch.device,
        workers: Workers | None = None,
    ) -> None:
        super().__init__(device, workers)
        pictures = list(read_yolo(images, labels))
        self.held_out, self.pictures = hold_out(
            pictures, recipe.held_out, recipe.seed, things="pictures", folder=images
        )
        if recipe.size % backbone.multiple:
            raise TrainingError(
                f"pictures of {recipe.size} pixels do not fit {backbone.kind.backbone}: give a "
                f"multiple of {backbone.multiple}."
            )
        self.workers.check_shares(recipe.batch, "pictures")
        if lift is not None:
            lift.check(backbone.kind)
        classes = sorted({int(label) for each in pictures for label in each.labels})
        if not any(len(each.boxes) for each in self.held_out):
            raise TrainingError(
                f"{labels}: there is no object in the {recipe.held_out} pictures kept for "
                "validation. Give more pictures with objects."
            )
        self.made = Made(
            kind=backbone.kind,
            lift="" if lift is None else fingerprint(lift),
            lifts=0 if lift is None else recipe.lifts,
            classes=tuple(classes),
            size=recipe.size,
            width=recipe.width,
            depth=recipe.depth,
        )
        self.recipe: Recipe = recipe
        self.backbone = backbone.to(device)
        self.lift = None if lift is None else lift.to(device).eval()
        torch.manual_seed(recipe.seed)
        self.net: Detector = self.made.net().to(device)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=recipe.stages[0].rate, weight_decay=recipe.decay
        )

    def batch(self, step: int) -> Batch:
        """This process' share of a step's pictures, half of them mirrored."""
        rng = np.random.default_rng((self.recipe.seed, step))
        drawn = rng.integers(0, len(self.pictures), self.recipe.batch)
        mirrored = rng.random(self.recipe.batch) < 0.5
        ours = slice(self.workers.rank, None, self.workers.count)
        images, boxes, labels = [], [], []
        for number, mirror in zip(drawn[ours], mirrored[ours], strict=True):
            picture = self.pictures[number]
            pixels, scale = fitted(picture.path, self.recipe.size)
            corners = picture.boxes * (*scale, *scale)
            if mirror:
                pixels = np.ascontiguousarray(pixels[:, ::-1])
                corners = corners[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (self.recipe.size, 0) * 2
            images.append(pixels)
            boxes.append(torch.from_numpy(corners).float().to(self.device))
            known = [self.made.classes.index(int(label)) for label in picture.labels]
            labels.append(torch.tensor(known, dtype=torch.long, device=self.device))
        return as_input(np.stack(images), self.device), boxes, labels

    def predict(self, images: Tensor) -> Predictions:
        maps = feature_maps(self.backbone, images, self.lift, self.recipe.lifts)
        found: Predictions = self.net(maps)
        return found

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One update. Returns the loss by name."""
        images, boxes, labels = batch
        _, rate = self.recipe.at(self.step)
        self.net.train()
        losses = self.learn({"loss": loss_of(self.predict(images), boxes, labels)}, rate)
        self.step += 1
        return losses

    def candidates(self) -> Iterator[Candidate]:
        yield Candidate(self.net, self.validate())

    def save(self, net: nn.Module, path: Path) -> None:
        save_weights(net, path, {MADE_AS: json.dumps(asdict(self.made))})

    @torch.inference_mode()
    def detect(self, pictures: list[LabelledImage]) -> Iterator[Detections]:
        """What is found in each, in pixels of the full size; labels as in the files."""
        self.net.eval()
        for picture in pictures:
            yield _detect(self.net, self.made, self.backbone, self.lift, picture.path, self.device)

    def validate(self) -> dict[str, float]:
        """AP@0.5 on held-out pictures, in 0..1."""
        found = list(self.detect(self.held_out))
        return {"ap50": round(average_precision(found, self.held_out), 5)}


def fitted(source: Source, size: int) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """A picture, its longest side made `size` pixels, in the top left of a square whose rest
    repeats its last row and column: RGB [size, size, 3]; and pixels there for a full-size one,
    (x, y)."""
    image = load_image(source)
    height, width = image.pixels.shape[:2]
    scale = size / max(height, width)
    rows, columns = (min(max(round(side * scale), 1), size) for side in (height, width))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image.pixels, (columns, rows), interpolation=how)
    square = np.pad(small, ((0, size - rows), (0, size - columns), (0, 0)), mode="edge")
    return square.astype(np.uint8), (columns / image.width, rows / image.height)


def _detect(
    net: Detector,
    made: Made,
    backbone: Backbone,
    lift: LiFT | None,
    source: Source,
    device: torch.device,
) -> Detections:
    pixels, scale = fitted(source, made.size)
    image = as_input(pixels[None], device)
    found = detections(net(feature_maps(backbone, image, lift, made.lifts)), 0)
    classes = np.array(made.classes)[found.labels]
    return Detections(found.boxes / (*scale, *scale), classes, found.scores)


def load_detector(
    path: str | Path, backbone: Backbone, lift: LiFT | None = None
) -> Callable[[Source], Detections]:
    """What `train` wrote, as a function that finds objects in a picture: boxes in full-size pixels,
    labels as in the files it learnt from.

    Raises BundleError when the file is not a detector's or was trained on other features.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {})[MADE_AS]
        values = json.loads(text)
        kind = FeatureKind(**values.pop("kind"))
        made = Made(kind=kind, **values | {"classes": tuple(values["classes"])})
    except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise BundleError(f"{path}: no detector of 'covis train detector' ({error}).") from error
    known = {fingerprint(lift), older_fingerprint(lift)} if lift else {""}
    if not made.kind.same_as(backbone.kind) or made.lift not in known:
        raise BundleError(
            f"{path}: was trained on {made.kind}, {'lifted' if made.lift else 'not lifted'}; give "
            "that backbone and the same LiFT."
        )
    net = made.net()
    load_strictly(net, read_state_dict(path), path)
    net.eval()

    @torch.inference_mode()
    def detect(source: Source) -> Detections:
        return _detect(net, made, backbone, lift, source, torch.device("cpu"))

    return detect


def train(
    images: Path,
    labels: Path,
    out: Path,
    *,
    backbone: Backbone,
    lift: LiFT | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    device: str = "cpu",
    report: Report = print,
) -> Path:
    """Train a detector on pictures with boxes; returns the best weights' path.

    images, labels: folders, see `read_yolo`. out: takes `checkpoint.pt` (to resume from),
    `best.safetensors` (see `load_detector`) and `curve.csv`. Only the pyramid and the head learn.
    Under `torchrun` the processes share each update's pictures.

    Raises TrainingError when there are too few pictures, `out` holds a run and `resume` is not
    given, there is none to resume or it began otherwise; ArgumentError as `read_yolo` does.
    """
    out = Path(out)
    where, workers = join(device)
    saved = to_resume(out, resume)
    run = Run(images, labels, recipe or Recipe(), backbone, lift, where, workers)
    notes = began_with(out, saved, run.recipe, run.made, len(run.pictures))
    report = workers.once(report)
    count = sum(len(each.boxes) for each in run.pictures)
    report(f"{len(run.pictures)} pictures with {count} objects; classes: {len(run.made.classes)}")
    fit(run, out, saved=saved, notes=notes, report=report)
    return out / BEST
