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
import PIL.Image
from numpy.typing import NDArray

from covis.dense import DenseFeatures
from covis.dense.labels import propagate
from covis.dense.masks import contour_accuracy, region_similarity
from covis.errors import ArgumentError
from covis.evaluation.dense import SIZES, VARIANTS, Model, Table, Variant, measure
from covis.images import Source

VOID = 255
"""Of a mask with a palette: pixels that belong to nothing."""
HELP = (
    "DAVIS-2017 is DAVIS-2017-trainval-480p.zip of https://davischallenge.org/davis2017/code.html: "
    "give the folder with JPEGImages/480p, Annotations/480p and ImageSets/2017/val.txt."
)
NOTE = (
    "In percent: region similarity J and contour accuracy F, means over the frames between the "
    "first and the last, then over all objects of all clips. Masks are carried as by DINO: the "
    "first and the last 7 frames, 12 cells around, the best 5."
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


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The labels of a picture, (H, W), 0 for the background.

    With a palette they are its indices, and 255 is background; else they are its grey values.

    Raises ArgumentError when it cannot be read or has colours instead of labels.
    """
    try:
        with PIL.Image.open(path) as image:
            if image.mode not in ("1", "L", "P"):
                raise ArgumentError(f"{path}: a mask has a palette or greys, not {image.mode}.")
            labels = np.array(image, np.uint8)
            return np.where(labels == VOID, 0, labels) if image.mode == "P" else labels
    except OSError as error:
        raise ArgumentError(f"{path}: no mask to read ({error}).") from error


def score_clips(
    clips: Sequence[Clip], describe: Callable[[Source], DenseFeatures], threads: int | None = None
) -> dict[str, float]:
    """J, F and their mean, in 0..1."""
    similarities: list[float] = []
    accuracies: list[float] = []
    for clip in clips:
        first = read_mask(clip.masks[0])
        objects = np.setdiff1d(first, 0)
        if not objects.size:
            raise ArgumentError(f"{clip.masks[0]}: shows no object, all of it is 0.")
        found: list[list[tuple[float, float]]] = []
        carried = propagate(map(describe, clip.frames), first, threads=threads)
        for mask, path in zip(list(carried)[1:-1], clip.masks[1:-1], strict=True):
            truth = read_mask(path)
            if truth.shape != mask.shape:
                raise ArgumentError(f"{path}: not of the size of the clip's first mask.")
            pairs = [(mask == each, truth == each) for each in objects]
            found.append([(region_similarity(*p), contour_accuracy(*p)) for p in pairs])
        for similarity, accuracy in np.mean(found, axis=0):
            similarities.append(float(similarity))
            accuracies.append(float(accuracy))
    j, f = float(np.mean(similarities)), float(np.mean(accuracies))
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def evaluate(
    data: str | Path,
    model: Model,
    *,
    sizes: Sequence[int | None] = SIZES,
    variants: Sequence[Variant] = VARIANTS,
    every: int = 1,
    threads: int | None = None,
    report: Callable[[str], object] | None = None,
) -> Table:
    """J and F on DAVIS-2017, of every `every`-th clip. For the rest see `measure`.

    Raises ArgumentError as `read_davis` does.
    """
    clips = list(read_davis(data))[::every]
    return measure(
        lambda describe: score_clips(clips, describe, threads),
        model,
        benchmark="DAVIS-2017",
        note=NOTE,
        items=len(clips),
        sizes=sizes,
        variants=variants,
        threads=threads,
        report=report,
    )


def _clip(name: str, frames: Path, masks: Path) -> Clip:
    found = sorted(frames.glob("*.jpg")), sorted(masks.glob("*.png"))
    if len(found[0]) != len(found[1]) or len(found[0]) < 3:
        raise ArgumentError(
            f"{frames}: {len(found[0])} frames (*.jpg), and {len(found[1])} masks (*.png) in "
            f"{masks}; as many are needed, and three at least. {HELP}"
        )
    return Clip(name, tuple(found[0]), tuple(found[1]))
