"""Masks of objects: their files, and how well one fits another (DAVIS, CVPR 2016, section 4)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from covis.dense.frames import Frames
from covis.errors import ArgumentError, ImageError
from covis.files.atomic import replacing
from covis.images.decode import read_labels, read_samples
from covis.images.picture_files import pictures_in
from covis.types import BoolArray

MIDDLE = 127
"""Greys above it are white."""
SOLID = 3
"""An object has a square of so many pixels each way in it; the greys of a soft outline have not."""
VOID = 255
"""Of a mask with a palette and other objects: pixels that belong to nothing, as DAVIS has them."""
TOLERANCE = 0.008
"""How far apart contours may lie and still agree, of the picture's diagonal."""


def read_mask(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], list[int] | None]:
    """The labels of a picture (H, W), 0 for the background, and its palette as Pillow has it.

    Of a picture with a palette the labels are its indices. Others have no palette: where a picture
    is transparent in parts, what is not is 255; of a dark grey one, up to 127, the greys are the
    labels, and of a lighter one with black and two or more greys, each of which fills 3 x 3 pixels
    somewhere; of any other one they are 0 and 255, split in the middle.

    Raises ImageError when it cannot be read, or has colours but no palette.
    """
    try:
        labels = read_labels(path)
        if labels is not None:
            return labels
        samples = read_samples(path)
    except ImageError as error:
        if not os.path.exists(path):
            raise
        raise ImageError(f"{path} is not a mask covis can read ({error})") from None
    samples = _eight_bit(np.atleast_3d(samples))
    if samples.shape[2] == 4 and np.ptp(samples[:, :, 3]):
        return _split(samples[:, :, 3]), None
    colours = samples[:, :, :3]
    if np.ptp(colours, axis=2).any():
        raise ImageError(
            f"{path} has colours but no palette; save the mask as an indexed PNG, or in black "
            "and white."
        )
    greys = colours[:, :, 0]
    return (greys if greys.max() <= MIDDLE or _are_labels(greys) else _split(greys)), None


def read_objects(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], list[int] | None]:
    """The same for masks whose objects are followed: 255 of a palette is no object beside others.

    Raises ImageError as `read_mask` does.
    """
    labels, palette = read_mask(path)
    if palette is not None and np.setdiff1d(labels, (0, VOID)).size:
        labels = np.where(labels == VOID, 0, labels)
    return labels, palette


def read_given(
    path: str | os.PathLike[str], frames: Frames
) -> tuple[dict[int, NDArray[np.uint8]], list[int] | None]:
    """Masks by the number of their frame, from 0, and a palette, where one has it.

    path: the first frame's mask, or a folder of masks by the names of their frames: the first
        one's, and those of later frames in which objects are new or were lost.

    Raises ArgumentError for a folder without the first frame's, or with one that is of no frame;
    ImageError as `read_mask` does.
    """
    path = Path(path)
    if not path.is_dir():
        labels, palette = read_objects(path)
        return {0: labels}, palette
    given, palettes = {}, []
    for file in sorted(pictures_in(path)):
        number = frames.number_of(file.stem)
        if number is None:
            raise ArgumentError(f"{file}: {frames.path} has no frame of that name.")
        given[number], palette = read_objects(file)
        palettes += [] if palette is None else [palette]
    if 0 not in given:
        raise ArgumentError(
            f"{path}: no mask of the first frame of {frames.path}; name it after that frame."
        )
    return given, next(iter(palettes), None)


def _are_labels(greys: NDArray[np.uint8]) -> bool:
    """Whether greys are objects, and not one object with a soft outline."""
    levels = np.unique(greys)
    square = np.ones((SOLID, SOLID), np.uint8)
    return (
        levels[0] == 0
        and 2 < len(levels) <= MIDDLE
        and all(cv2.erode((greys == level).astype(np.uint8), square).any() for level in levels)
    )


def _eight_bit(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples of any depth; labels in 16 bits stay as they are."""
    if samples.dtype == np.uint16:
        return (samples if samples.max() <= 255 else samples >> 8).astype(np.uint8)
    if samples.dtype.kind == "f" and samples.max() <= 1:
        samples = 255 * samples
    return np.clip(np.nan_to_num(samples), 0, 255).astype(np.uint8)


def _split(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(values > MIDDLE, 255, 0).astype(np.uint8)


def fit(found: NDArray[Any], truth: NDArray[Any], labels: Iterable[int]) -> tuple[float, float]:
    """J and F of labels (H, W), means over `labels`.

    Raises ArgumentError when they are of several sizes.
    """
    j, f = np.mean(list(fits(found, truth, labels).values()), axis=0).tolist()
    return j, f


def fits(
    found: NDArray[Any], truth: NDArray[Any], labels: Iterable[int]
) -> dict[int, tuple[float, float]]:
    """J and F of each label of two masks (H, W).

    Raises ArgumentError when they are of several sizes.
    """
    if found.shape != truth.shape:
        sizes = (f"{mask.shape[1]}x{mask.shape[0]}" for mask in (found, truth))
        raise ArgumentError("a mask and the true one differ in size: {}, {}.".format(*sizes))
    pairs = {int(label): (found == label, truth == label) for label in labels}
    return {
        label: (region_similarity(*pair), contour_accuracy(*pair)) for label, pair in pairs.items()
    }


def write_mask(
    path: str | os.PathLike[str], labels: NDArray[Any], palette: list[int] | None = None
) -> None:
    """Write labels (H, W) as a PNG, indexed where there is a palette, else as greys.

    Raises CovisError when it cannot be written.
    """
    picture = PIL.Image.fromarray(labels.astype(np.uint8))
    if palette is not None:
        picture.putpalette(palette)
    with replacing(path) as file:
        picture.save(file, format="PNG")


def region_similarity(found: BoolArray, truth: BoolArray) -> float:
    """J of masks (H, W): what they share of what either covers, 0..1; 1 where both are empty."""
    either = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / either if either else 1.0


def contour_accuracy(found: BoolArray, truth: BoolArray, tolerance: float = TOLERANCE) -> float:
    """F of masks (H, W): the harmonic mean of two shares, 0..1: of the found contour within
    `tolerance` diagonals of the true one, rounded up to whole pixels, and the other way round.

    1 where neither mask has a contour, 0 where only one has.
    """
    reach = np.ceil(tolerance * np.hypot(*truth.shape))
    lines = contour(found), contour(truth)
    lengths = [np.count_nonzero(line) for line in lines]
    if not all(lengths):
        return float(not any(lengths))
    precision, recall = (
        np.count_nonzero(line & (_distances(other) <= reach)) / length
        for line, other, length in zip(lines, lines[::-1], lengths, strict=True)
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: BoolArray) -> BoolArray:
    """Where a mask (H, W) differs from the pixel to the right, below, or right below."""
    line = np.zeros(mask.shape, np.bool_)
    line[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    line[:-1] |= mask[:-1] != mask[1:]
    line[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return line


def _distances(line: BoolArray) -> NDArray[Any]:
    """Of every pixel to the nearest one that is set."""
    return cv2.distanceTransform((~line).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
