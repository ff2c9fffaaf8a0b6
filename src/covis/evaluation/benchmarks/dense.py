"""What the benchmarks of dense features share: what is compared, and the rows of it.

Each compares a backbone's own features with the same ones lifted and, since that is what a LiFT
has to beat, with the same ones enlarged bilinearly to the same number of cells.
"""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np

from covis.dense import DenseExtractor, DenseFeatures, enlarge
from covis.dense.features import dense_bundle, has_lift
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report, Settings
from covis.evaluation.protocol import counting
from covis.evaluation.tables import Row
from covis.images.decode import load_image
from covis.options import DEFAULT_DENSE, DEFAULT_DEVICE, Device
from covis.types import Image, Source

T = TypeVar("T")

Describe = Callable[[Image], DenseFeatures]
Describer = Callable[[Source], DenseFeatures]
"""Reads an image and describes it, at the size and with the variant that is measured."""
Tick = Callable[[], None]
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


@dataclass(frozen=True)
class DenseBenchmark(Generic[T]):
    """A benchmark of dense features: what it reads, and how it scores what was read.

    title: what it is called in messages. protocol, note: of its rows; note says how the scores
        are defined. read: gives a folder's items: pairs, clips, images.
    score: given items, what describes an image, what to call after each item, and threads, the
        scores by name, in 0..1. default: the bundle that `covis eval` takes where none is named.
    """

    title: str
    protocol: str
    note: str
    read: Callable[[str | Path], Iterable[T]]
    score: Callable[[Sequence[T], Describer, Tick, int | None], Mapping[str, float]]
    default: str = DEFAULT_DENSE

    def evaluate(
        self,
        data: str | Path,
        model: Model,
        *,
        sizes: Sequence[int | None] = SIZES,
        variants: Sequence[Variant] = VARIANTS,
        every: int = 1,
        threads: int | None = None,
        device: Device = DEFAULT_DEVICE,
        report: Report = lambda done, total: None,
    ) -> list[Row]:
        """A row for every variant at every size, of those that `possible` leaves.

        sizes: pixels of the images' longest side, to which they are resized; None for their own.
        every: takes every so many-th item. threads, device: of a bundle's networks, see
            `RuntimeOptions`.
        report: takes how many items are done, of all rows, and of how many.

        Raises ArgumentError for a size below 1, no size or no item at all, and what reading and
        scoring raise.
        """
        items = list(self.read(data))[::every]
        if not items:
            raise ArgumentError(f"{self.title}: there is nothing to measure.")
        if not sizes or any(size is not None and size < 1 for size in sizes):
            raise ArgumentError("sizes must be one or more, each of 1 pixel or more.")
        variants = possible(model, variants)
        tick = counting(report, len(items) * len(sizes) * len(variants))
        rows = []
        for size in sizes:
            for variant in variants:
                describe = describer(model, variant.lifts, threads, device)
                counted = _Counted(describe, size, variant.enlarged)
                reset_peak()
                began = time.perf_counter()
                scores = self.score(items, counted, tick, threads)
                took = counted.seconds, time.perf_counter() - began
                rows.append(
                    dense_row(
                        self.protocol,
                        model,
                        variant,
                        scores,
                        len(items),
                        took,
                        images=counted.images,
                        size=size,
                        note=self.note,
                    )
                )
        return rows

    def run(self, data: Path, settings: Settings, report: Report) -> list[Row]:
        """As `covis eval` runs it, at one size.

        Of the settings, features are a bundle for dense features, and `default` where they say
        nothing of their own.
        """
        model = self.default if settings.features == Settings.features else settings.features
        return self.evaluate(
            data,
            model,
            sizes=(settings.max_size or None,),
            every=settings.every,
            threads=settings.threads,
            device=settings.device,
            report=report,
        )


def dense_row(
    protocol: str,
    model: Model,
    variant: Variant,
    scores: Mapping[str, float],
    items: int,
    seconds: tuple[float, float],
    *,
    images: int,
    size: int | None = None,
    note: str = "",
) -> Row:
    """The row of a variant at a size: the scores in percent, times, memory since `reset_peak`.

    seconds: to describe all images, and for everything that was done. Of the detail, "variant" and
    "px" say which row it is, and "ms with the task" is the second of them an image.
    """
    name = model if isinstance(model, str) else getattr(model, "name", "features")
    describing, total = (1000 * each / max(images, 1) for each in seconds)
    memory = peak()
    return Row(
        protocol=protocol,
        method=f"{name}, {variant.name}",
        part="own size" if size is None else f"{size} px",
        figures={
            **{score: 100 * value for score, value in scores.items()},
            "ms an image": describing,
            "peak MB": math.nan if memory is None else memory / 1e6,
        },
        items=items,
        note=note,
        detail={"variant": variant.name, "px": size, "ms with the task": total},
    )


def possible(model: Model, variants: Sequence[Variant]) -> Sequence[Variant]:
    """Those without a lift, where the model is a bundle that has no LiFT."""
    if not isinstance(model, str) or has_lift(dense_bundle(model)):
        return variants
    return [variant for variant in variants if not variant.lifts]


def describer(
    model: Model, lifts: int, threads: int | None = None, device: Device = DEFAULT_DEVICE
) -> Describe:
    """What describes images with features lifted `lifts` times."""
    if isinstance(model, str):
        return DenseExtractor(model, lifts=lifts, max_size=0, threads=threads, device=device)
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
