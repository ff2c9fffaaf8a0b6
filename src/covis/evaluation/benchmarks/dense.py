"""What the benchmarks of dense features share: what is compared, and the table of it.

Each compares a backbone's own features with the same ones lifted and, since that is what a LiFT
has to beat, with the same ones enlarged bilinearly to the same number of cells.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from covis.dense import DenseExtractor, DenseFeatures, enlarge
from covis.dense.features import DEFAULT_DENSE, dense_bundle, has_lift
from covis.errors import ArgumentError
from covis.evaluation import benchmark as registered
from covis.evaluation.benchmark import Report, Settings
from covis.evaluation.protocol import counting
from covis.images.decode import Source, load_image
from covis.types import Image

Describe = Callable[[Image], DenseFeatures]
Model = str | Callable[[int], Describe]
"""A bundle's name or folder; or what gives, for a number of lifts, a function that describes
images."""

SIZES: tuple[int | None, ...] = (None,)


@dataclass(frozen=True)
class Variant:
    """Features lifted `lifts` times, then enlarged bilinearly `enlarged` times, each time x 2."""

    name: str
    lifts: int
    enlarged: int


VARIANTS = (
    Variant("backbone", 0, 0),
    Variant("+ bilinear x 2", 0, 1),
    Variant("+ LiFT once", 1, 0),
    Variant("+ bilinear x 4", 0, 2),
    Variant("+ LiFT twice", 2, 0),
)


@dataclass(frozen=True)
class Row:
    """One variant at one size.

    size: longest side of the images in pixels; None for their own. scores: in 0..1.
    seconds: to describe an image. total: for everything that was done, divided by the images
    described. memory: of the process at its largest while the row was measured, in bytes; None
    where the system does not tell.
    """

    size: int | None
    variant: str
    scores: dict[str, float]
    seconds: float
    total: float
    memory: int | None


@dataclass(frozen=True)
class Table:
    """A benchmark's rows. items: pairs, clips, images; note: how the scores are defined."""

    benchmark: str
    model: str
    items: int
    rows: tuple[Row, ...]
    note: str

    def markdown(self) -> str:
        """Scores in percent."""
        names = list(self.rows[0].scores)
        lines = [
            ["px", "features", *names, "s an image", "s with the task", "peak MB"],
            ["---"] * (len(names) + 5),
        ]
        lines += [
            [
                "own" if row.size is None else str(row.size),
                row.variant,
                *(f"{100 * row.scores[name]:.2f}" for name in names),
                f"{row.seconds:.3f}",
                f"{row.total:.3f}",
                "" if row.memory is None else f"{row.memory / 1e6:.0f}",
            ]
            for row in self.rows
        ]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{self.benchmark} ({self.items}), {self.model}\n\n{table}\n\n{self.note}"

    def json(self) -> str:
        """The same numbers, unrounded."""
        return json.dumps(asdict(self), indent=1)


@dataclass
class _Counted:
    """Describes images of one size, and counts them and the seconds that takes."""

    describe: Describe
    size: int | None
    enlarged: int
    images: int = 0
    seconds: float = 0.0

    def __call__(self, source: Source) -> DenseFeatures:
        image = at_size(load_image(source), self.size)
        began = time.perf_counter()
        features = self.describe(image)
        if self.enlarged:
            features = enlarge(features, self.enlarged)
        self.seconds += time.perf_counter() - began
        self.images += 1
        return features


def measure(
    score: Callable[[Callable[[Source], DenseFeatures], Callable[[], None]], dict[str, float]],
    model: Model,
    *,
    benchmark: str,
    note: str,
    items: int,
    sizes: Sequence[int | None] = SIZES,
    variants: Sequence[Variant] = VARIANTS,
    threads: int | None = None,
    report: Report = lambda done, total: None,
) -> Table:
    """Score every variant at every size, of those that `possible` leaves.

    score: given what describes an image, and what to call after each item, what the benchmark
    says of it. sizes: pixels of the
    images' longest side, to which they are resized; None for their own. threads: of a bundle's
    networks; all by default. report: takes how many items are done, of all rows, and of how many.

    Raises ArgumentError for a size below 1, no size or no item at all, and what `score` raises.
    """
    if not items:
        raise ArgumentError(f"{benchmark}: there is nothing to measure.")
    if not sizes or any(size is not None and size < 1 for size in sizes):
        raise ArgumentError("sizes must be one or more, each of 1 pixel or more.")
    variants = possible(model, variants)
    tick = counting(report, items * len(sizes) * len(variants))
    rows = []
    for size in sizes:
        for variant in variants:
            counted = _Counted(describer(model, variant.lifts, threads), size, variant.enlarged)
            reset_peak()
            began = time.perf_counter()
            scores = score(counted, tick)
            seconds = time.perf_counter() - began
            images = max(counted.images, 1)
            row = Row(
                size=size,
                variant=variant.name,
                scores=scores,
                seconds=counted.seconds / images,
                total=seconds / images,
                memory=peak(),
            )
            rows.append(row)
    name = model if isinstance(model, str) else getattr(model, "name", "features")
    return Table(benchmark, name, items, tuple(rows), note)


def run(
    evaluate: Callable[..., Table],
    data: Path,
    settings: Settings,
    report: Report,
    protocol: str,
    default: str = DEFAULT_DENSE,
) -> list[registered.Row]:
    """A benchmark of dense features as `covis eval` runs it, at one size.

    evaluate: such as `covis.evaluation.benchmarks.spair.evaluate`. Of the settings, features are a
    bundle for dense features, and `default` where they say nothing of their own.
    """
    model = default if settings.features == Settings.features else settings.features
    size = settings.max_size or None
    table = evaluate(
        data,
        model,
        sizes=(size,),
        every=settings.every,
        threads=settings.threads,
        report=report,
    )
    return [
        registered.Row(
            protocol=protocol,
            method=f"{table.model}, {row.variant}",
            part="own size" if size is None else f"{size} px",
            figures={
                **{name: 100 * score for name, score in row.scores.items()},
                "ms an image": 1000 * row.seconds,
                "peak MB": math.nan if row.memory is None else row.memory / 1e6,
            },
            items=table.items,
            note=table.note,
        )
        for row in table.rows
    ]


def possible(model: Model, variants: Sequence[Variant]) -> Sequence[Variant]:
    """Those without a lift, where the model is a bundle that has no LiFT."""
    if not isinstance(model, str) or has_lift(dense_bundle(model)):
        return variants
    return [variant for variant in variants if not variant.lifts]


def describer(model: Model, lifts: int, threads: int | None = None) -> Describe:
    """What describes images with features lifted `lifts` times."""
    if isinstance(model, str):
        return DenseExtractor(model, lifts=lifts, max_size=None, threads=threads)
    return model(lifts)


def at_size(image: Image, size: int | None) -> Image:
    """The image with pixels of that longest side, enlarged too; coordinates stay what they are."""
    if size is None or max(image.pixels.shape[:2]) == size:
        return image
    factor = size / max(image.pixels.shape[:2])
    height, width = (max(round(side * factor), 1) for side in image.pixels.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    pixels = cv2.resize(image.pixels, (width, height), interpolation=how)
    return replace(image, pixels=np.asarray(pixels, np.uint8), mask=None)


def reset_peak() -> None:
    """Give back what is free and forget how large the process has been, where the system can."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int | None:
    """How large the process has been since `reset_peak`, in bytes; None where it cannot be told."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None
