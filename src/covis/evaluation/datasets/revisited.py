"""Revisited Oxford and Paris (Radenovic et al., CVPR 2018): the data and the protocol.

Each query has three lists of database pictures: easy and hard ones show its building, junk does too
little to be called right or wrong. What counts as right and what is taken out of the ranking before
it is scored depends on the difficulty (section 2.3): see `Revisited.judged`. A query's picture is
cropped to its box before anything else. Up to a million distractors that show neither city may
stand behind the database.

The published layout is a folder with `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl` and `jpg/`, and for
the distractors one with `revisitop1m.txt` and `jpg/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.datasets.plain_pickle import read_plain_pickle
from covis.evaluation.metrics.retrieval import Places, Ranking, find_places
from covis.images.decode import load_image
from covis.types import Image

Difficulty = Literal["easy", "medium", "hard"]
Box = tuple[float, float, float, float]

DEPTHS = (1, 5, 10)
"""The k of mP@k."""

SOURCE = "http://cmp.felk.cvut.cz/revisitop"


@dataclass(frozen=True, eq=False)
class Revisited:
    """One of the two sets. Pictures are named by their index into `database`.

    name: as published. database, queries: by path; distractors stand last.
    boxes: (left, top, right, bottom) in the query's pixels, its left edge at 0.
    """

    name: str
    database: tuple[Path, ...]
    queries: tuple[Path, ...]
    boxes: tuple[Box, ...]
    easy: tuple[frozenset[int], ...]
    hard: tuple[frozenset[int], ...]
    junk: tuple[frozenset[int], ...]

    def query_image(self, query: int) -> Image:
        """The query's picture, cropped. Raises ImageError as `load_image` does."""
        image = load_image(self.queries[query])
        corners = np.array(self.boxes[query]).reshape(2, 2).round().astype(int)
        (left, top), (right, bottom) = corners.clip(0, (image.width, image.height))
        if left >= right or top >= bottom:
            raise ArgumentError(f"{image.name}: the box {self.boxes[query]} is not in the picture.")
        cropped = np.ascontiguousarray(image.pixels[top:bottom, left:right])
        return replace(load_image(cropped), name=image.name)

    def judged(self, query: int, difficulty: Difficulty) -> tuple[frozenset[int], frozenset[int]]:
        """The relevant and the ignored pictures.

        Easy: easy ones are relevant, hard ones and junk ignored. Medium: easy and hard ones are
        relevant, junk is ignored. Hard: hard ones are relevant, easy ones and junk ignored.
        """
        easy, hard, junk = self.easy[query], self.hard[query], self.junk[query]
        if difficulty == "easy":
            return easy, hard | junk
        if difficulty == "medium":
            return easy | hard, junk
        return hard, easy | junk


@dataclass(frozen=True)
class Scores:
    """Of one difficulty, 0..1; NaN where no query has a relevant picture.

    mean_precision: k -> mP@k. queries: how many have one; the others are left out.
    """

    mean_average_precision: float
    mean_precision: dict[int, float]
    queries: int


def evaluate_revisited(truth: Revisited, rankings: Sequence[Ranking]) -> dict[Difficulty, Scores]:
    """Score one ranking a query: indices into `truth.database`, best first.

    Raises ArgumentError where there are more or fewer rankings than queries.
    """
    if len(rankings) != len(truth.queries):
        raise ArgumentError(
            f"One ranking a query is needed, not {len(rankings)} for {len(truth.queries)}."
        )
    found: dict[Difficulty, Scores] = {}
    for difficulty in get_args(Difficulty):
        areas: list[float] = []
        precisions: list[list[float]] = []
        for i, ranking in enumerate(rankings):
            relevant, ignored = truth.judged(i, difficulty)
            if count := len(relevant - ignored):
                places = find_places(ranking, relevant, ignored)
                areas.append(trapezoid_average_precision(places, count))
                precisions.append([precision_at(places, count, k) for k in DEPTHS])
        means = np.mean(precisions, axis=0) if areas else np.full(len(DEPTHS), np.nan)
        found[difficulty] = Scores(
            mean_average_precision=float(np.mean(areas)) if areas else np.nan,
            mean_precision=dict(zip(DEPTHS, means.tolist(), strict=True)),
            queries=len(areas),
        )
    return found


def trapezoid_average_precision(places: Places, relevant: int) -> float:
    """The area under precision over recall, as the official evaluation measures it.

    Each relevant picture found is a step of 1 / relevant in recall; its height is the mean of the
    precision at its place and of that just before it, which is 1 at the top of the list. Pictures
    that were not found add nothing.

    places: see `find_places`. relevant: how many pictures are, 1 at least.
    """
    before = np.arange(len(places))
    at = (before + 1) / (places + 1)
    previous = np.where(places == 0, 1.0, before / np.maximum(places, 1))
    return float(np.sum(at + previous) / (2 * relevant))


def precision_at(places: Places, relevant: int, k: int) -> float:
    """The precision among the first k places, or up to the last relevant one where that is sooner.

    So 3 relevant pictures on top give 1 for k = 10. That is the official rule for whole rankings;
    here, a relevant picture that was not found stands behind the end, so that a short ranking gains
    nothing by it.
    """
    whole = len(places) == relevant
    depth = min(k, int(places[-1]) + 1) if whole else k
    return float(np.count_nonzero(places < depth) / depth)


def read_revisited(folder: str | Path, distractors: str | Path | None = None) -> Revisited:
    """Read a set in the published layout, with the distractors of another folder behind it.

    Whether the distractors' pictures are there is left to whoever reads them: a million are many.

    Raises ArgumentError that names the file when one is missing, damaged or not in that layout.
    """
    folder = Path(folder)
    found = sorted(folder.glob("gnd_*.pkl"))
    if len(found) != 1:
        raise ArgumentError(
            f"{folder}: needs one ground truth, gnd_roxford5k.pkl or gnd_rparis6k.pkl, and the "
            f"pictures in jpg/, and has {len(found)} such files; they are at {SOURCE}."
        )
    path = found[0]
    truth = read_plain_pickle(path)
    match truth:
        case {"imlist": [*images], "qimlist": [*queries], "gnd": [*entries]} if all(
            isinstance(name, str) for name in (*images, *queries)
        ) and len(queries) == len(entries):
            pass
        case _:
            raise ArgumentError(
                f"{path}: not the published ground truth: needs imlist, qimlist and gnd, one entry "
                "a query."
            )
    pictures = folder / "jpg"
    present = {each.name for each in pictures.iterdir()} if pictures.is_dir() else set()
    missing = [name for name in (*images, *queries) if f"{name}.jpg" not in present]
    if missing:
        raise ArgumentError(
            f"{pictures}: {len(missing)} of {len(images) + len(queries)} pictures are missing, "
            f"first {missing[0]}.jpg; unpack the set's archives there, see {SOURCE}."
        )
    where = [f"{path}, query {i}" for i in range(len(entries))]
    easy, hard, junk = (
        tuple(
            _indices(entry, field, len(images), at)
            for entry, at in zip(entries, where, strict=True)
        )
        for field in ("easy", "hard", "junk")
    )
    database = [pictures / f"{name}.jpg" for name in images]
    return Revisited(
        name=path.stem.removeprefix("gnd_"),
        database=(*database, *(() if distractors is None else _distractors(Path(distractors)))),
        queries=tuple(pictures / f"{name}.jpg" for name in queries),
        boxes=tuple(_box(entry, at) for entry, at in zip(entries, where, strict=True)),
        easy=easy,
        hard=hard,
        junk=junk,
    )


def _distractors(folder: Path) -> list[Path]:
    path = folder / "revisitop1m.txt"
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"{path}: no list of distractors to read ({error}); it is at {SOURCE}."
        ) from error
    return [folder / "jpg" / name for name in names]


def _indices(entry: Any, field: str, images: int, where: str) -> frozenset[int]:
    try:
        values = np.asarray(entry[field]).ravel()
    except (TypeError, ValueError, KeyError, IndexError):
        raise ArgumentError(f"{where}: the list {field!r} is missing or malformed.") from None
    if not values.size:
        return frozenset()
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() >= images:
        raise ArgumentError(f"{where}: {field!r} must be indices below {images}.")
    return frozenset(values.tolist())


def _box(entry: Any, where: str) -> Box:
    try:
        values = np.asarray(entry["bbx"], np.float64).ravel()
    except (TypeError, ValueError, KeyError):
        values = np.empty(0)
    if len(values) != 4 or not np.isfinite(values).all():
        raise ArgumentError(f"{where}: 'bbx' must be four finite numbers.")
    left, top, right, bottom = values.tolist()
    return left, top, right, bottom
