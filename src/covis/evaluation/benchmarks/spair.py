"""SPair-71k (Min et al., arXiv 1908.10543): 18 categories, keypoints that two images share.

The published layout is a folder with `Layout/large/test.txt`, a pair a line,
`PairAnnotation/test/<pair>.json` and `JPEGImages/<category>/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import log2
from pathlib import Path
from typing import Any, Literal

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report
from covis.evaluation.benchmarks.dense import SIZES, VARIANTS, Model, Table, Variant, measure
from covis.evaluation.metrics.keypoint_transfer import KeypointPair, score_pairs
from covis.types import FloatArray

Split = Literal["trn", "val", "test"]
HELP = (
    "SPair-71k is SPair-71k.tar.gz of https://cvlab.postech.ac.kr/research/SPair-71k/: give the "
    "folder that it unpacks to, with JPEGImages/, PairAnnotation/ and Layout/."
)
NOTE = (
    "In percent: keypoints within alpha times the longer side of the target's box. image: mean "
    "over pairs of each one's share; point: share of all keypoints; category: mean over categories "
    "of the share of each one's keypoints."
)


def read_spair(folder: str | Path, split: Split = "test") -> Iterator[KeypointPair]:
    """The pairs of a split, as listed in `Layout/large/`. Whether their images are there is left
    to whoever reads them.

    Raises ArgumentError that names the file when the list or an annotation is missing or
    malformed.
    """
    folder = Path(folder)
    path = folder / "Layout" / "large" / f"{split}.txt"
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: no list of pairs to read ({error}). {HELP}") from error
    if not names:
        raise ArgumentError(f"{path}: lists no pairs. {HELP}")
    for name in names:
        yield _read(folder, _annotation(folder / "PairAnnotation" / split, name))


def as_published(patch: int) -> tuple[Variant, ...]:
    """Variants as LiFT's authors measure them: plain or lifted, then enlarged bilinearly to a cell
    a pixel. They average over categories, and take 100 random pairs of each.

    patch: of the backbone, in pixels; a power of two from 4 on.
    """
    times = round(log2(patch))
    return (
        Variant("backbone, a cell a pixel", 0, times),
        Variant("+ LiFT once, a cell a pixel", 1, times - 1),
        Variant("+ LiFT twice, a cell a pixel", 2, times - 2),
    )


def evaluate(
    data: str | Path,
    model: Model,
    *,
    sizes: Sequence[int | None] = SIZES,
    variants: Sequence[Variant] = VARIANTS,
    every: int = 1,
    threads: int | None = None,
    report: Report = lambda done, total: None,
) -> Table:
    """PCK on the test pairs of SPair-71k, of every `every`-th one. For the rest see `measure`.

    Raises ArgumentError as `read_spair` does, ImageError where an image is missing.
    """
    pairs = list(read_spair(data))[::every]
    return measure(
        lambda describe, tick: score_pairs(pairs, describe, tick),
        model,
        benchmark="SPair-71k",
        note=NOTE,
        items=len(pairs),
        sizes=sizes,
        variants=variants,
        threads=threads,
        report=report,
    )


def _annotation(folder: Path, name: str) -> Path:
    """Where the system allows no colon in names, unpacking leaves an underscore."""
    path = folder / f"{name}.json"
    plain = folder / f"{name.replace(':', '_')}.json"
    return plain if plain.is_file() and not path.is_file() else path


def _read(folder: Path, path: Path) -> KeypointPair:
    try:
        entry = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path}: no annotation to read ({error}). {HELP}") from error
    match entry:
        case {
            "category": str(category),
            "src_imname": str(source),
            "trg_imname": str(target),
            "src_kps": from_points,
            "trg_kps": to_points,
            "trg_bndbox": box,
        }:
            pass
        case _:
            raise ArgumentError(
                f"{path}: needs category, src_imname, trg_imname, src_kps, trg_kps, trg_bndbox."
            )
    source_points, target_points = _points(from_points, path), _points(to_points, path)
    if len(source_points) != len(target_points):
        raise ArgumentError(f"{path}: the two images have not as many keypoints.")
    left, top, right, bottom = _box(box, path)
    images = folder / "JPEGImages" / category
    return KeypointPair(
        source=images / source,
        target=images / target,
        source_points=source_points,
        target_points=target_points,
        side=max(right - left, bottom - top),
        category=category,
    )


def _points(values: Any, path: Path) -> FloatArray:
    """(N, 2) of pixels counted from 0, so that their centres are at .5."""
    try:
        points = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        points = np.empty(0, np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ArgumentError(f"{path}: keypoints must be a list of (x, y).")
    return points + np.float32(0.5)


def _box(values: Any, path: Path) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = map(float, values)
    except (TypeError, ValueError):
        raise ArgumentError(f"{path}: a box must be four numbers, not {values!r}.") from None
    return left, top, right, bottom
