"""Object discovery without labels: CorLoc of TokenCut on VOC07, COCO20K and YOLO's layout.

The box found in an image is right when it overlaps one of its objects, of whatever class, by half
or more. Images without objects are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from covis.dense import DenseFeatures
from covis.dense.object_discovery import TAU, discover
from covis.evaluation.benchmark import Report
from covis.evaluation.benchmarks.dense import SIZES, VARIANTS, Model, Table, Variant, measure
from covis.evaluation.datasets.boxes import (
    LabelledImage,
    localised,
    read_coco20k,
    read_voc07,
    read_yolo_folder,
)
from covis.images.decode import Source

NOTE = (
    "In percent: images in which the box that TokenCut finds overlaps an object's by half or more; "
    "tau {:g}."
)
Read = Callable[[str | Path], Iterable[LabelledImage]]
NAMES: dict[Read, str] = {
    read_voc07: "VOC07, trainval",
    read_coco20k: "COCO20K",
    read_yolo_folder: "YOLO's layout",
}


def score_images(
    images: Sequence[LabelledImage],
    describe: Callable[[Source], DenseFeatures],
    tick: Callable[[], None] = lambda: None,
    *,
    tau: float = TAU,
) -> dict[str, float]:
    """CorLoc, in 0..1. tick: called after each image. tau: see `discover`."""
    right = 0
    for image in images:
        found = discover(describe(image.path), tau)
        right += localised(found.box, image.boxes)
        tick()
    return {"CorLoc": right / len(images)}


def evaluate(
    data: str | Path,
    model: Model,
    *,
    read: Read = read_voc07,
    sizes: Sequence[int | None] = SIZES,
    variants: Sequence[Variant] = VARIANTS,
    every: int = 1,
    tau: float = TAU,
    threads: int | None = None,
    report: Report = lambda done, total: None,
) -> Table:
    """CorLoc on what `read` reads, of every `every`-th image. For the rest see `measure` and
    `discover`.

    Raises ArgumentError as `read` does, ImageError where an image is missing.
    """
    images = [image for image in read(data) if len(image.boxes)][::every]
    return measure(
        lambda describe, tick: score_images(images, describe, tick, tau=tau),
        model,
        benchmark=NAMES.get(read, read.__name__),
        note=NOTE.format(tau),
        items=len(images),
        sizes=sizes,
        variants=variants,
        threads=threads,
        report=report,
    )


evaluate_voc07 = partial(evaluate, read=read_voc07)
evaluate_coco20k = partial(evaluate, read=read_coco20k)
