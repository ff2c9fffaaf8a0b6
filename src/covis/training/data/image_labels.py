"""Photographs with image-level labels, as they lie on disk; decoded when they are needed."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covis.errors import TrainingError
from covis.images.picture_files import pictures_below

IMAGE_COLUMNS = ("image", "path", "file", "filename")
LABEL_COLUMNS = ("label", "class")


@dataclass(frozen=True, eq=False)
class LabelledPhotos:
    """Pictures and what each one shows.

    paths: N files. labels: (N,) int64, indices into `classes`. classes: their names.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def only(self, indices: NDArray[np.intp]) -> LabelledPhotos:
        """Some of the photos, with the classes that are left, in their order."""
        kept, labels = np.unique(self.labels[indices], return_inverse=True)
        return LabelledPhotos(
            tuple(self.paths[i] for i in indices),
            labels.astype(np.int64),
            tuple(self.classes[i] for i in kept),
        )


def read_unlabelled(images: Path) -> LabelledPhotos:
    """Each picture under `images` is a class of its own. Raises TrainingError when none is."""
    return _labelled(
        images, ((p, p.relative_to(images).as_posix()) for p in pictures_below(images))
    )


def read_folders(images: Path) -> LabelledPhotos:
    """The folder that holds a picture is its class; pictures beside the folders have none.

    Raises TrainingError where there are not at least two such folders.
    """
    pairs = [(p, p.parent.relative_to(images).as_posix()) for p in pictures_below(images)]
    found = _labelled(images, (pair for pair in pairs if pair[1] != "."))
    if len(found.classes) < 2:
        raise TrainingError(
            f"{images}: has pictures in one folder only ('{found.classes[0]}'). Put each class "
            "into a folder of its own, give a CSV file with --labels, or leave --labels out."
        )
    return found


def read_csv(images: Path, table: Path) -> LabelledPhotos:
    """Labels from a CSV file with a header.

    It has a column "image" (or "path", "file", "filename"), relative to `images`, and "label"
    (or "class"). Or it is one of GLDv2's: "id" and "landmark_id", or "landmark_id" and
    "images" (ids between spaces); picture abc... is then a/b/c/abc....jpg under `images`.
    Pictures that are not there are left out.

    Raises TrainingError when the file is missing or has other columns, or no picture is there.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(_rows(images, reader, table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{table}: cannot be read as CSV ({error}).") from None
    found = [(path, label) for path, label in rows if path.is_file()]
    if rows and not found:
        raise TrainingError(
            f"{table}: none of its {len(rows)} pictures is under {images}; the first would be "
            f"{rows[0][0]}. Check --photos."
        )
    return _labelled(images, found)


def _rows(images: Path, reader: csv.DictReader[str], table: Path) -> Iterable[tuple[Path, str]]:
    columns = reader.fieldnames or []
    if "landmark_id" in columns and ("id" in columns or "images" in columns):
        for row in reader:
            for name in (row.get("images") or row.get("id") or "").split():
                yield images / name[0] / name[1:2] / name[2:3] / f"{name}.jpg", row["landmark_id"]
        return
    image = next((column for column in IMAGE_COLUMNS if column in columns), None)
    label = next((column for column in LABEL_COLUMNS if column in columns), None)
    if image is None or label is None:
        raise TrainingError(
            f"{table}: has the columns {', '.join(columns) or 'of an empty file'}; needed are "
            "'image' and 'label', or those of GLDv2 ('id' or 'images', and 'landmark_id')."
        )
    for row in reader:
        if row[image] and row[label]:
            yield images / row[image], row[label]


def _labelled(images: Path, pairs: Iterable[tuple[Path, str]]) -> LabelledPhotos:
    found = sorted(pairs)
    if not found:
        raise TrainingError(f"{images}: no pictures to learn from. Give a folder with --photos.")
    classes, labels = np.unique([label for _, label in found], return_inverse=True)
    return LabelledPhotos(
        tuple(path for path, _ in found), labels.astype(np.int64), tuple(classes.tolist())
    )
