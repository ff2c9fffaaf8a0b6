"""Object discovery without labels: CorLoc of TokenCut on VOC07, COCO20K and YOLO's layout.

The box found in an image is right when it overlaps one of its objects, of whatever class, by half
or more. Images without objects are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from covis.dense import DenseFeatures
from covis.dense.object_discovery import discover
from covis.evaluation.benchmark import Benchmark
from covis.evaluation.benchmarks.dense import DenseBenchmark
from covis.evaluation.datasets.boxes import (
    LabelledImage,
    localised,
    read_coco20k,
    read_voc07,
    read_yolo_folder,
)
from covis.evaluation.published_results import published_for
from covis.options import DISCOVERY_TAU
from covis.types import Source

NOTE = (
    "In percent: images in which the box that TokenCut finds overlaps an object's by half or more; "
    "tau {}."
)
Read = Callable[[str | Path], Iterable[LabelledImage]]


def score_images(
    images: Sequence[LabelledImage],
    describe: Callable[[Source], DenseFeatures],
    tick: Callable[[], None] = lambda: None,
    *,
    tau: float | None = DISCOVERY_TAU,
) -> dict[str, float]:
    """CorLoc, in 0..1. tick: called after each image. tau: see `discover`."""
    right = 0
    for image in images:
        found = discover(describe(image.path), tau)
        right += localised(found.box, image.boxes)
        tick()
    return {"CorLoc": right / len(images)}


def discovery(
    title: str, read: Read, tau: float | None = DISCOVERY_TAU
) -> DenseBenchmark[LabelledImage]:
    """CorLoc on the images with objects of what `read` reads. tau: see `discover`."""
    return DenseBenchmark(
        title,
        "object discovery",
        NOTE.format("as for the features" if tau is None else f"{tau:g}"),
        lambda data: (image for image in read(data) if len(image.boxes)),
        lambda images, describe, tick, _: score_images(images, describe, tick, tau=tau),
    )


VOC07 = discovery("VOC07, trainval", read_voc07)
COCO20K = discovery("COCO20K", read_coco20k)
YOLO = discovery("YOLO's layout", read_yolo_folder, None)

BENCHMARKS = (
    Benchmark(
        "voc07",
        "dense features: objects found without labels, CorLoc",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ (VOCtrainval_06-Nov-2007.tar)",
        "VOCdevkit/VOC2007/ with JPEGImages/, Annotations/ and ImageSets/",
        (
            "ImageSets/Main/trainval.txt",
            "VOC2007/ImageSets/Main/trainval.txt",
            "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
        ),
        VOC07.run,
    ),
    Benchmark(
        "coco20k",
        "dense features: objects found without labels, CorLoc",
        "https://cocodataset.org/#download (train2014), and its list is "
        "https://github.com/valeoai/LOST/blob/master/datasets/coco_20k_filenames.txt",
        "train2014/, annotations/instances_train2014.json and coco_20k_filenames.txt",
        ("coco_20k_filenames.txt",),
        COCO20K.run,
        published=published_for("coco20k"),
    ),
)
