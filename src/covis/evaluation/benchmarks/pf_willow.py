"""PF-WILLOW (Ham et al., "Proposal Flow", CVPR 2016): ten images of each of ten categories, ten
keypoints an image.

All ordered pairs within a category are used, 900. The target's box is the tight one around its
keypoints; all of them are visible, so PCK comes out the same a pair and a keypoint.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report
from covis.evaluation.benchmarks.dense import SIZES, VARIANTS, Model, Table, Variant, measure
from covis.evaluation.metrics.keypoint_transfer import KeypointPair, score_pairs
from covis.types import FloatArray

PAIRS = "test_pairs_pf.csv"
POINTS = 10
HELP = (
    "PF-WILLOW is PF-dataset.zip of https://www.di.ens.fr/willow/research/proposalflow/: give the "
    "folder with car(G), car(M), ..., each with the images and a .mat file beside every one, or "
    f"with {PAIRS} in it, the list of pairs that others use."
)
NOTE = (
    "In percent: keypoints within alpha times the longer side of the box around the target's "
    "keypoints; all ordered pairs of a category; mean over pairs."
)


def read_willow(folder: str | Path) -> Iterator[KeypointPair]:
    """The pairs of a folder: of its `test_pairs_pf.csv` where there is one, else all ordered pairs
    of images with a .mat file beside them.

    Raises ArgumentError that names the file when one is missing or malformed.
    """
    folder = Path(folder)
    if (folder / PAIRS).is_file():
        yield from _listed(folder)
        return
    categories = sorted({path.parent for path in folder.glob("*/*.mat")})
    if not categories:
        raise ArgumentError(f"{folder}: holds no PF-WILLOW. {HELP}")
    for category in categories:
        images = [(_image_of(path), _points_of(path)) for path in sorted(category.glob("*.mat"))]
        for (source, source_points), (target, target_points) in permutations(images, 2):
            yield _pair(source, target, source_points, target_points)


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
    """PCK on PF-WILLOW, of every `every`-th pair. For the rest see `measure`.

    Raises ArgumentError as `read_willow` does.
    """
    pairs = list(read_willow(data))[::every]
    return measure(
        lambda describe, tick: {
            name.removesuffix(" image"): share
            for name, share in score_pairs(pairs, describe, tick).items()
            if name.endswith("image")
        },
        model,
        benchmark="PF-WILLOW",
        note=NOTE,
        items=len(pairs),
        sizes=sizes,
        variants=variants,
        threads=threads,
        report=report,
    )


def _pair(
    source: Path, target: Path, source_points: FloatArray, target_points: FloatArray
) -> KeypointPair:
    return KeypointPair(
        source=source,
        target=target,
        source_points=source_points,
        target_points=target_points,
        side=float(np.ptp(target_points, axis=0).max()),
        category=source.parent.name,
    )


def _listed(folder: Path) -> Iterator[KeypointPair]:
    """The list has two names, then x of the first image's keypoints, y, x of the second's, y."""
    path = folder / PAIRS
    with path.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.reader(file), 1):
            if number == 1:
                continue
            try:
                values = np.array([float(cell) for cell in cells[2:]], np.float32)
                points = values.reshape(2, 2, POINTS).transpose(0, 2, 1) - np.float32(0.5)
            except ValueError:
                raise ArgumentError(
                    f"{path}, line {number}: not two names and {4 * POINTS} numbers. {HELP}"
                ) from None
            source, target = (_named(folder, name, f"{path}, line {number}") for name in cells[:2])
            yield _pair(source, target, points[0], points[1])


def _named(folder: Path, name: str, where: str) -> Path:
    """The published list's names begin with the folder's."""
    places = [folder / name, folder / Path(*Path(name).parts[1:])]
    for place in places:
        if place.is_file():
            return place
    raise ArgumentError(f"{where}: the image {places[-1]} is not there. {HELP}")


def _image_of(path: Path) -> Path:
    for suffix in (".png", ".jpg"):
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    raise ArgumentError(f"{path}: no image of that name beside it. {HELP}")


def _points_of(path: Path) -> FloatArray:
    """(10, 2); MATLAB puts the centre of the top-left pixel at (1, 1)."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        points = np.asarray(loadmat(path)["pts_coord"], np.float32)
    except (MatReadError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{path}: holds no keypoints 'pts_coord' ({error}).") from None
    if points.shape != (2, POINTS):
        raise ArgumentError(f"{path}: {POINTS} keypoints are needed, not an array {points.shape}.")
    return points.T - np.float32(0.5)
