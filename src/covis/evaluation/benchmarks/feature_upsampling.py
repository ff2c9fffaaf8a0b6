"""How near features of small photos, lifted or enlarged, come to those of the photos themselves.

A photo is made half or a quarter as large, described, and its features are brought back to as many
cells as the photo's own have. The error is 1 minus the cosine: what LiFT is trained to lessen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np

from covis.dense import enlarge
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report
from covis.evaluation.benchmarks.dense import (
    VARIANTS,
    Model,
    Row,
    Table,
    describer,
    peak,
    possible,
    reset_peak,
)
from covis.evaluation.protocol import counting
from covis.images.decode import Source, load_image

WHOLE = 128
"""Photos are cropped to multiples of this, so that cells lie alike at every size."""
NOTE = (
    "1 minus the cosine with the features of the photo itself, mean over cells and photos; of 100, "
    "the lower the better. x 2 and once: of the photo at half its size; x 4 and twice: a quarter."
)


def evaluate(
    photos: Sequence[Source],
    model: Model,
    *,
    threads: int | None = None,
    report: Report = lambda done, total: None,
) -> Table:
    """The error of every variant but the plain backbone. report: see `measure`.

    Raises ArgumentError where no photo has sides of 128 pixels.
    """
    large = [pixels for pixels in (_cropped(photo) for photo in photos) if pixels.size]
    if not large:
        raise ArgumentError(f"{len(photos)} photos, and none with sides of {WHOLE} pixels or more.")
    whole = describer(model, 0, threads)
    targets = [whole(load_image(pixels)).descriptors for pixels in large]
    variants = [v for v in possible(model, VARIANTS) if v.lifts + v.enlarged]
    tick = counting(report, len(variants) * len(large))
    rows = []
    for variant in variants:
        times = variant.lifts + variant.enlarged
        describe = describer(model, variant.lifts, threads)
        reset_peak()
        errors, seconds, began = [], 0.0, time.perf_counter()
        for pixels, target in zip(large, targets, strict=True):
            size = [side >> times for side in pixels.shape[1::-1]]
            small = load_image(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
            started = time.perf_counter()
            found = enlarge(describe(small), variant.enlarged).descriptors
            seconds += time.perf_counter() - started
            errors.append(1 - float(np.einsum("hwc,hwc->hw", found, target).mean()))
            tick()
        total = time.perf_counter() - began
        score = {"error": float(np.mean(errors))}
        count = len(large)
        rows.append(Row(None, variant.name, score, seconds / count, total / count, peak()))
    name = model if isinstance(model, str) else getattr(model, "name", "features")
    return Table("Reconstruction", name, len(large), tuple(rows), NOTE)


def _cropped(photo: Source) -> np.ndarray:
    """From its middle; without pixels where it is too small."""
    pixels = load_image(photo).pixels
    height, width = (side // WHOLE * WHOLE for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
