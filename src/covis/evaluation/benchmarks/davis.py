"""DAVIS-2017 (Pont-Tuset et al., arXiv 1704.00675): the first frame's mask carried through a clip.

The published layout is a folder with `ImageSets/2017/val.txt`, a clip a line,
`JPEGImages/480p/<clip>/` and `Annotations/480p/<clip>/`. A single clip, a folder with `frames/` and
`masks/`, is taken as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covis.dense import DenseFeatures, propagate, read_mask
from covis.dense.masks import VOID, fit
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Benchmark
from covis.evaluation.benchmarks.dense import (
    DenseBenchmark,
)
from covis.evaluation.published_results import published_for
from covis.options import FINE_DENSE
from covis.types import Matrix, Source

HELP = (
    "DAVIS-2017 is DAVIS-2017-trainval-480p.zip of https://davischallenge.org/davis2017/code.html: "
    "give the folder with JPEGImages/480p, Annotations/480p and ImageSets/2017/val.txt."
)
NOTE = (
    "In percent: region similarity J and contour accuracy F, means over the frames between the "
    "first and the last, then over all objects of all clips. Masks are carried as by DINO: the "
    "first and the last 7 frames, 12 of the backbone's cells around, the best 5."
)


@dataclass(frozen=True)
class Clip:
    """Frames of a video and as many masks, in their order."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]


def read_davis(folder: str | Path) -> Iterator[Clip]:
    """The clips of the validation set, or the one of a folder with `frames/` and `masks/`.

    Raises ArgumentError that names the file or folder when one is missing, or a clip has not as
    many masks as frames or fewer than three.
    """
    folder = Path(folder)
    if (folder / "frames").is_dir() and (folder / "masks").is_dir():
        yield _clip(folder.resolve().name, folder / "frames", folder / "masks")
        return
    path = folder / "ImageSets" / "2017" / "val.txt"
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: no list of clips to read ({error}). {HELP}") from error
    for name in names:
        places = (folder / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        yield _clip(name, *places)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The labels of a mask, (H, W), 0 for the background; 255 of one with a palette is background.

    Raises ImageError as `read_mask` does.
    """
    labels, palette = read_mask(path)
    return labels if palette is None else np.where(labels == VOID, 0, labels)


def score_clips(
    clips: Sequence[Clip],
    describe: Callable[[Source], DenseFeatures],
    tick: Callable[[], None] = lambda: None,
    *,
    threads: int | None = None,
) -> dict[str, float]:
    """J, F and their mean, in 0..1. tick: called after each clip."""
    fits: list[Matrix] = []
    counts: list[int] = []
    for clip in clips:
        first = read_labels(clip.masks[0])
        objects = np.setdiff1d(first, 0).tolist()
        if not objects:
            raise ArgumentError(f"{clip.masks[0]}: shows no object, all of it is 0.")
        carried = list(propagate(map(describe, clip.frames), first, threads=threads))
        between = zip(carried[1:-1], clip.masks[1:-1], strict=True)
        found = [fit(mask, read_labels(path), objects) for mask, path in between]
        fits.append(np.mean(found, axis=0))
        counts.append(len(objects))
        tick()
    j, f = np.average(fits, axis=0, weights=counts).tolist()
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def _clip(name: str, frames: Path, masks: Path) -> Clip:
    found = sorted(frames.glob("*.jpg")), sorted(masks.glob("*.png"))
    if len(found[0]) != len(found[1]) or len(found[0]) < 3:
        raise ArgumentError(
            f"{frames}: {len(found[0])} frames (*.jpg), and {len(found[1])} masks (*.png) in "
            f"{masks}; as many are needed, and three at least. {HELP}"
        )
    return Clip(name, tuple(found[0]), tuple(found[1]))


DAVIS = DenseBenchmark(
    "DAVIS-2017",
    "label propagation",
    NOTE,
    read_davis,
    lambda clips, describe, tick, threads: score_clips(clips, describe, tick, threads=threads),
    default=FINE_DENSE,
)

BENCHMARKS = (
    Benchmark(
        "davis",
        "dense features: masks carried through videos, DAVIS-2017: J, F",
        "https://davischallenge.org/davis2017/code.html (TrainVal, 480p)",
        "JPEGImages/480p/, Annotations/480p/ and ImageSets/2017/val.txt; or a clip of your own, "
        "frames/ and masks/",
        ("ImageSets/2017/val.txt", "masks/*.png"),
        DAVIS.run,
        ("DAVIS", "bmx-trees"),
        published=published_for("davis"),
    ),
)
