"""Ways to double the resolution of a backbone's features, on the same features of PF-WILLOW.

`python benchmarks/dense.py enlargements` prints the table: PCK and how far it is from bilinear's
pair by pair, with the standard error of the mean difference; the processor's time of the
enlargement alone, and the memory that it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.dense import DenseFeatures, pck, transfer
from covis.dense.features import (
    UPSAMPLER,
    VIT_LIFT,
    described,
    distinct,
    pad,
    resized,
    with_backbone,
)
from covis.errors import ArgumentError
from covis.evaluation.benchmarks.dense import at_size, peak, reset_peak
from covis.evaluation.benchmarks.pf_willow import read_willow
from covis.evaluation.metrics.keypoint_transfer import KeypointPair
from covis.evaluation.tables import markdown
from covis.images.decode import load_image
from covis.options import RuntimeOptions
from covis.runtime.bundle import Bundle, find_bundle
from covis.runtime.onnx import open_graphs
from covis.types import FloatArray, Image

ALPHAS = (0.05, 0.1, 0.15)
BASE = "bilinear"
REACH, NEAR, LIKE = 2, 0.75, 0.5
"""Of the joint bilateral filter: cells on each side, and the standard deviations of places in cells
and of colours as the backbone takes them. FeatUp learns the two; here they are fixed."""

Maps = FloatArray
"""(1, C, h, w)."""
Way = Callable[[Maps, Maps], Maps]
"""An image and its features -> features with twice as many cells each way, or as many."""


def twice(maps: Maps) -> Maps:
    """Bilinear."""
    rows, columns = (2 * side for side in maps.shape[2:])
    large = [cv2.resize(each, (columns, rows), interpolation=cv2.INTER_LINEAR) for each in maps[0]]
    return np.stack(large)[None]


def joint_bilateral(image: Maps, features: Maps) -> Maps:
    """Means of the cells around, by how near they are and how alike their colours."""
    _, channels, rows, columns = features.shape
    size = 2 * columns, 2 * rows
    fine = np.stack([cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in image[0]])
    coarse = fine.reshape(3, rows, 2, columns, 2).mean(axis=(2, 4))
    edges = ((0, 0), (REACH, REACH), (REACH, REACH))
    padded, colours = (np.pad(each, edges, mode="edge") for each in (features[0], coarse))
    down, right = (np.tile([-0.25, 0.25], side) for side in (rows, columns))
    sums = np.zeros((channels, 2 * rows, 2 * columns), np.float32)
    total = np.zeros((2 * rows, 2 * columns), np.float32)
    for i in range(2 * REACH + 1):
        for j in range(2 * REACH + 1):
            there, colour = (
                each[:, i : i + rows, j : j + columns].repeat(2, 1).repeat(2, 2)
                for each in (padded, colours)
            )
            away = (down - i + REACH)[:, None] ** 2 + (right - j + REACH) ** 2
            unlike = ((fine - colour) ** 2).mean(axis=0)
            weights = np.exp(-away / (2 * NEAR**2) - unlike / (2 * LIKE**2)).astype(np.float32)
            sums += weights * there
            total += weights
    return (sums / total)[None]


def by_graph(bundle: Bundle, threads: int | None) -> Way:
    """What a bundle's LiFT or upsampler does."""
    graph = open_graphs(bundle, ("lift",), RuntimeOptions(threads=threads))["lift"]
    cell = bundle.settings["cell"]

    def lifted(image: Maps, features: Maps) -> Maps:
        fitting = resized(image, *(cell * side for side in features.shape[2:]))
        (found,) = graph(["lifted"], image=fitting, features=features)
        return np.asarray(found, np.float32)

    return lifted


def part_of(share: float, threads: int | None) -> Way:
    """A share of what LiFT adds to bilinear enlargement: lift-dinov2-small adds another to what
    upsampler-covis gives."""
    bundle = find_bundle(VIT_LIFT)
    both, under = by_graph(bundle, threads), by_graph(find_bundle(UPSAMPLER), threads)
    times = share / bundle.training["share"]
    return lambda image, features: (
        twice(features) + times * (both(image, features) - under(image, features))
    )


WAYS: dict[str, Callable[[int | None], Way]] = {
    "backbone": lambda _: lambda image, features: features,
    BASE: lambda _: lambda image, features: twice(features),
    "joint bilateral, fixed widths": lambda _: joint_bilateral,
    "LiFT, whole": lambda threads: part_of(1, threads),
    "LiFT, as much as lift-dinov2-small has": lambda threads: part_of(
        find_bundle(VIT_LIFT).training["share"], threads
    ),
    UPSAMPLER: lambda threads: by_graph(find_bundle(UPSAMPLER), threads),
    VIT_LIFT: lambda threads: by_graph(find_bundle(VIT_LIFT), threads),
}
"""By name, given threads, what opens it."""
TIMED = [name for name in WAYS if not name.startswith("LiFT")]
"""The others are put together of what is longer than they would be."""
WARM = 8
"""Pictures by which the memory is measured, and before the time is."""


@dataclass(frozen=True)
class Kept:
    """Backbone's features of pictures at a size, kept in a folder."""

    folder: Path
    backbone: Bundle
    size: int
    threads: int | None

    def image(self, path: Path) -> Image:
        return at_size(load_image(path), self.size)

    def write(self, paths: Sequence[Path]) -> None:
        runtime = RuntimeOptions(threads=self.threads)
        graph = open_graphs(self.backbone, ("backbone",), runtime)["backbone"]
        for number, path in enumerate(paths):
            pixels = pad(self.image(path).pixels, self.backbone.settings["multiple"])
            image, features = graph(["image", "features"], pixels=pixels)
            np.savez(self.folder / f"{self.size}-{number}.npz", image=image, features=features)

    def read(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Maps, Maps]]:
        for number, path in enumerate(paths):
            with np.load(self.folder / f"{self.size}-{number}.npz") as found:
                yield path, found["image"], found["features"]


@dataclass(frozen=True, eq=False)
class Measured:
    """scores: (pairs, alphas), percent. ms: of the processor, an image. megabytes: the most
    that was held for it, weights included."""

    scores: NDArray[np.float64]
    ms: float
    megabytes: float


def measure(
    name: str, kept: Kept, paths: Sequence[Path], pairs: Sequence[KeypointPair]
) -> Measured:
    reset_peak()
    held, busy = peak() or 0, 0.0
    enlarge = WAYS[name](kept.threads)
    for _, image, coarse in islice(kept.read(paths), WARM):
        enlarge(image, coarse)
    megabytes = ((peak() or 0) - held) / 1e6
    features: dict[Path, DenseFeatures] = {}
    for path, image, coarse in kept.read(paths):
        began = time.process_time()
        fine = enlarge(image, coarse)
        busy += time.process_time() - began
        doublings = int(fine.shape[2] > coarse.shape[2])
        seen = described(fine, kept.image(path), kept.backbone, doublings=doublings)
        features[path] = distinct(seen)
    scores = []
    for pair in pairs:
        landed, _ = transfer(features[pair.source], features[pair.target], pair.source_points)
        scores.append([pck(landed, pair.target_points, pair.side, alpha) for alpha in ALPHAS])
    return Measured(100 * np.array(scores), 1000 * busy / len(paths), megabytes)


def row(name: str, found: Measured, base: Measured) -> list[str]:
    figures = " / ".join(f"{each:.1f}" for each in found.scores.mean(axis=0))
    less = found.scores - base.scores
    error = less.std(axis=0, ddof=1) / len(less) ** 0.5 if len(less) > 1 else 0 * less[0]
    against = " / ".join(
        f"{mean:+.1f} ± {each:.1f}" for mean, each in zip(less.mean(axis=0), error, strict=True)
    )
    cost = [f"{found.ms:.0f}", f"{found.megabytes:.0f}"] if name in TIMED else ["", ""]
    return [name, figures, against, *cost]


def run(data: Path, sizes: Sequence[int], every: int, threads: int | None) -> None:
    """Print a table a size. data: PF-WILLOW. every: takes every so many-th pair.

    Raises BundleError where the backbone is not installed.
    """
    backbone = with_backbone(find_bundle(VIT_LIFT))
    pairs = list(read_willow(data))[::every]
    if not pairs:
        raise ArgumentError(f"{data}: there is nothing to measure.")
    paths = sorted({path for pair in pairs for path in (pair.source, pair.target)})
    for size in sizes:
        # A process for each: what one way has freed would hide what the next one takes.
        alone = {"max_workers": 1, "max_tasks_per_child": 1, "mp_context": get_context("spawn")}
        with TemporaryDirectory() as folder, ProcessPoolExecutor(**alone) as pool:
            kept = Kept(Path(folder), backbone, size, threads)
            kept.write(paths)
            rows = {name: pool.submit(measure, name, kept, paths, pairs).result() for name in WAYS}
        named = " / ".join(f"{alpha:g}" for alpha in ALPHAS)
        header = [f"{size} px, {len(pairs)} pairs", f"PCK@{named}", "less bilinear's"]
        print(
            markdown(
                [*header, "processor ms an image", "MB"],
                [row(name, found, rows[BASE]) for name, found in rows.items()],
            ),
            flush=True,
        )
        print()
