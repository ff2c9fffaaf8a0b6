"""Images with boxes around their objects: readers, and how well found boxes fit.

Boxes are (left, top, right, bottom) in full-size pixels, measured to the outer edges: the one
around a whole image is (0, 0, width, height).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import PIL.Image
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.types import BoolArray, Matrix

Labels = NDArray[np.int64]
OVERLAP = 0.5
"""The IoU from which on a found box is right."""
SUFFIXES = {".jpg", ".jpeg", ".png"}

VOC_HELP = (
    "VOC07 is VOCtrainval_06-Nov-2007.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2007/: give "
    "the folder VOCdevkit that it unpacks to, or VOC2007 in it."
)
COCO_LIST = "coco_20k_filenames.txt"
COCO_ANNOTATIONS = "instances_train2014.json"
COCO_HELP = (
    "COCO20K is a part of train2014.zip of https://cocodataset.org/#download: give a folder with "
    f"train2014/, annotations/{COCO_ANNOTATIONS}, and {COCO_LIST} of "
    "https://github.com/valeoai/LOST/tree/master/datasets."
)
YOLO_HELP = (
    "Give a folder with images/ and labels/: for each picture a .txt file of its name with a line "
    "an object: class, and the box's centre x, y, width and height as shares of the picture's."
)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """boxes: (N, 4), see above. labels: (N,), the objects' classes, from 0."""

    path: Path
    boxes: Matrix
    labels: Labels


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes found in an image. boxes: (N, 4). labels: (N,). scores: (N,), the higher the surer."""

    boxes: Matrix
    labels: Labels
    scores: Matrix


def read_voc07(
    folder: str | Path, split: Literal["train", "val", "trainval", "test"] = "trainval"
) -> Iterator[LabelledImage]:
    """Every object of every image, difficult ones too; classes numbered by name.

    Raises ArgumentError that names the file when the list or an annotation is missing or
    malformed. Whether the images are there is left to whoever reads them.
    """
    places = [Path(folder) / inner for inner in ("", "VOC2007", "VOCdevkit/VOC2007")]
    root = next((each for each in places if (each / "ImageSets").is_dir()), places[0])
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: no list of images to read ({error}). {VOC_HELP}") from error
    read = [_read_voc(root / "Annotations" / f"{name}.xml") for name in names]
    classes = sorted({label for objects in read for label, _ in objects})
    for name, objects in zip(names, read, strict=True):
        labels = [classes.index(label) for label, _ in objects]
        yield _image(root / "JPEGImages" / f"{name}.jpg", [box for _, box in objects], labels)


def read_coco20k(folder: str | Path) -> Iterator[LabelledImage]:
    """The images of the list in its order; crowds are left out, classes keep COCO's numbers.

    Raises ArgumentError that names the file when the list or the annotations are missing or
    malformed. Whether the images are there is left to whoever reads them.
    """
    folder = Path(folder)
    path = folder / COCO_LIST
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: no list of images to read ({error}). {COCO_HELP}") from error
    annotations = folder / "annotations" / COCO_ANNOTATIONS
    try:
        entries = json.loads(annotations.read_text("utf-8"))["annotations"]
        objects = defaultdict(list)
        for entry in entries:
            if not entry.get("iscrowd", 0):
                left, top, width, height = map(float, entry["bbox"])
                box = left, top, left + width, top + height
                objects[int(entry["image_id"])].append((box, int(entry["category_id"])))
    except OSError as error:
        raise ArgumentError(f"{annotations}: cannot be read ({error}). {COCO_HELP}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(f"{annotations}: not COCO's annotations ({error!r}).") from error
    for name in names:
        number = re.search(r"(\d+)\.jpg$", name)
        if number is None:
            raise ArgumentError(f"{path}: '{name}' names no image of train2014. {COCO_HELP}")
        found = objects[int(number[1])]
        image = folder / "train2014" / Path(name).name
        yield _image(image, [box for box, _ in found], [label for _, label in found])


def read_yolo(images: str | Path, labels: str | Path) -> Iterator[LabelledImage]:
    """Every picture of a folder, with a file of labels in the other; none means no objects.

    Raises ArgumentError that names the file, and the line, when there are no pictures, one cannot
    be read or a line is malformed.
    """
    images, labels = Path(images), Path(labels)
    if not labels.is_dir():
        raise ArgumentError(f"{labels}: no such folder. {YOLO_HELP}")
    paths = sorted(path for path in images.glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ArgumentError(f"{images}: holds no pictures. {YOLO_HELP}")
    for path in paths:
        try:
            with PIL.Image.open(path) as picture:
                size = picture.size
        except OSError as error:
            raise ArgumentError(f"{path}: cannot be read ({error}).") from error
        file = labels / f"{path.stem}.txt"
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
        found = [
            _read_yolo(line, size, f"{file}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        yield _image(path, [box for box, _ in found], [label for _, label in found])


def read_yolo_folder(folder: str | Path) -> Iterator[LabelledImage]:
    """Those of a folder with images/ and labels/, see `read_yolo`."""
    return read_yolo(Path(folder) / "images", Path(folder) / "labels")


def overlaps(boxes: ArrayLike, others: ArrayLike) -> Matrix:
    """IoU of boxes (N, 4) with others (M, 4) -> (N, M); 0 where both are empty."""
    a, b = (np.asarray(each, np.float64).reshape(-1, 4) for each in (boxes, others))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=1) for each in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def localised(box: ArrayLike, truth: Matrix) -> bool:
    """Whether a box overlaps one of the objects' (N, 4) by half or more: what CorLoc counts."""
    return bool((overlaps(box, truth) >= OVERLAP).any())


def average_precision(
    found: Sequence[Detections], truth: Sequence[LabelledImage], overlap: float = OVERLAP
) -> float:
    """The mean over classes of the area under precision over recall, in 0..1; NaN without objects.

    The detections of a class over all images, surest first: each takes the object of its class and
    image that it overlaps most among those not taken, if by `overlap` or more; else it is wrong.
    Precision at a recall is the highest at it or beyond.
    """
    areas = []
    for label in sorted({int(label) for image in truth for label in image.labels}):
        scores: list[float] = []
        right: list[bool] = []
        objects = 0
        for image, detections in zip(truth, found, strict=True):
            boxes = image.boxes[image.labels == label]
            objects += len(boxes)
            ours = detections.labels == label
            order = np.argsort(-detections.scores[ours], kind="stable")
            scores.extend(detections.scores[ours][order])
            right.extend(_taken(overlaps(detections.boxes[ours][order], boxes), overlap))
        ranked = np.array(right, bool)[np.argsort(-np.array(scores), kind="stable")]
        areas.append(_area(ranked, objects))
    return float(np.mean(areas)) if areas else np.nan


def _taken(alike: Matrix, overlap: float) -> list[bool]:
    """Which rows get a column that no row before them has; rows are detections, surest first."""
    alike = alike.copy()
    right = []
    for row in range(len(alike)):
        best = int(alike[row].argmax()) if alike.shape[1] else -1
        hit = best >= 0 and bool(alike[row, best] >= overlap)
        right.append(hit)
        if hit:
            alike[:, best] = -1
    return right


def _area(right: BoolArray, objects: int) -> float:
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[right].sum() / objects)


def _image(path: Path, boxes: list[tuple[float, ...]], labels: list[int]) -> LabelledImage:
    return LabelledImage(
        path, np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64)
    )


def _read_voc(path: Path) -> list[tuple[str, tuple[float, ...]]]:
    """Pixels are counted from 1 there, and those at both ends belong to the box."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
        found: list[tuple[str, tuple[float, ...]]] = []
        for each in objects:
            corners = [each.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
            left, top, right, bottom = (float(corner or "missing") for corner in corners)
            found.append((each.findtext("name") or "", (left - 1, top - 1, right, bottom)))
        return found
    except OSError as error:
        raise ArgumentError(f"{path}: no annotation to read ({error}). {VOC_HELP}") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise ArgumentError(f"{path}: no annotation of VOC ({error}).") from error


def _read_yolo(line: str, size: tuple[int, int], where: str) -> tuple[tuple[float, ...], int]:
    try:
        number, *shares = line.split()
        x, y, width, height = map(float, shares)
        label = int(number)
    except ValueError:
        raise ArgumentError(f"{where}: not a class and four numbers. {YOLO_HELP}") from None
    corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return tuple(share * side for share, side in zip(corners, (*size, *size), strict=True)), label
