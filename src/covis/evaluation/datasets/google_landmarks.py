"""Google Landmarks v2 (Weyand et al., CVPR 2020): retrieval mAP@100, recognition micro-AP.

Reads the published ground truth, `retrieval_solution_v2.1.csv` (columns id, images, Usage) and
`recognition_solution_v2.1.csv` (id, landmarks, Usage). Usage is Public (the validation part),
Private (the test part) or Ignored. What the pictures of `train/` show is in `train.csv` (id, url,
landmark_id).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

from covis.errors import ArgumentError
from covis.evaluation.metrics.retrieval import mean_average_precision

Usage = Literal["Public", "Private"]
T = TypeVar("T")

DEPTH = 100
"""Places of a ranking that count in retrieval."""

SOURCE = "https://github.com/cvdfoundation/google-landmark"


def read_retrieval_solution(
    path: str | Path, usage: Usage = "Private"
) -> dict[str, frozenset[str]]:
    """Query id -> ids of the index images that show the same landmark.

    Raises ArgumentError that names the file, and the line in it, when it cannot be read.
    """
    return dict(_read(path, "images", usage, str))


def read_recognition_solution(
    path: str | Path, usage: Usage = "Private"
) -> dict[str, frozenset[int]]:
    """Query id -> the landmarks it shows; none for the many that show no landmark.

    Raises ArgumentError that names the file, and the line in it, when it cannot be read.
    """
    return dict(_read(path, "landmarks", usage, int))


def read_training_landmarks(path: str | Path) -> dict[str, int]:
    """Id of a training image -> the landmark that it shows.

    Raises ArgumentError that names the file, and the line in it, when it cannot be read.
    """
    found = {}
    for line, row in _rows(path, ("id", "landmark_id")):
        try:
            found[row["id"]] = int(row["landmark_id"])
        except ValueError:
            raise ArgumentError(
                f"{path}, line {line}: landmark_id must be a whole number, "
                f"not {row['landmark_id']!r}."
            ) from None
    return found


def score_retrieval(
    rankings: Mapping[str, Sequence[str]], solution: Mapping[str, frozenset[str]]
) -> float:
    """mAP@100, 0..1. rankings: query id -> ids of index images, best first.

    A query without a ranking scores 0; rankings of queries that are not in the solution do not
    count. Raises ArgumentError where none of them is.
    """
    _check_known(rankings, solution)
    ordered = [rankings.get(query, ()) for query in solution]
    return mean_average_precision(ordered, list(solution.values()), DEPTH)


def score_recognition(
    predictions: Mapping[str, tuple[int, float]], solution: Mapping[str, frozenset[int]]
) -> float:
    """Micro-AP (also called GAP), 0..1. predictions: query id -> landmark and confidence.

    All predictions form one list, the most confident first (equal ones by id, as Kaggle has it);
    the precision at each right one is summed up and divided by the number of queries that show a
    landmark. So a prediction for a query without one harms all that are less confident. Predictions
    for queries that are not in the solution do not count.

    Raises ArgumentError where none of the queries is in it, none of it shows a landmark, or a
    confidence is not a number.
    """
    _check_known(predictions, solution)
    shown = sum(bool(landmarks) for landmarks in solution.values())
    if not shown:
        raise ArgumentError("No query of the solution shows a landmark: nothing to measure.")
    for query, (_, confidence) in predictions.items():
        if math.isnan(confidence):
            raise ArgumentError(f"The confidence for query {query} is not a number.")
    counted = sorted(
        (-confidence, query, landmark)
        for query, (landmark, confidence) in predictions.items()
        if query in solution
    )
    total, right = 0.0, 0
    for place, (_, query, landmark) in enumerate(counted, 1):
        if landmark in solution[query]:
            right += 1
            total += right / place
    return total / shown


def _read(
    path: str | Path, column: str, usage: Usage, convert: Callable[[str], T]
) -> Iterator[tuple[str, frozenset[T]]]:
    if usage not in get_args(Usage):
        raise ArgumentError(f"No usage '{usage}'; there are: {', '.join(get_args(Usage))}.")
    seen = set()
    for line, row in _rows(path, ("id", column, "Usage")):
        where = f"{path}, line {line}"
        query, listed, part = row["id"], row[column], row["Usage"]
        if part not in (*get_args(Usage), "Ignored"):
            raise ArgumentError(f"{where}: Usage is {part!r}, not one of the published.")
        if query in seen:
            raise ArgumentError(f"{where}: the query {query} comes twice.")
        seen.add(query)
        if part != usage:
            continue
        try:
            yield query, frozenset(map(convert, listed.split()))
        except ValueError:
            raise ArgumentError(
                f"{where}: {column} must be whole numbers, not {listed!r}."
            ) from None


def _rows(path: str | Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a table with these columns, and where each one ends; what is left out is ""."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not set(columns) <= set(reader.fieldnames or ()):
                told = f"{', '.join(columns[:-1])} and {columns[-1]}"
                raise ArgumentError(f"{path}: must have the columns {told}.")
            for row in reader:
                yield reader.line_num, {name: row[name] or "" for name in columns}
    except OSError as error:
        raise ArgumentError(
            f"{path}: cannot be read ({error.strerror}); the files are at {SOURCE}."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError(f"{path}: not a CSV file ({error}).") from error


def _check_known(given: Mapping[str, object], solution: Mapping[str, object]) -> None:
    if not any(query in solution for query in given):
        raise ArgumentError(
            f"None of the {len(given)} queries is among the {len(solution)} of the solution; "
            "was the other part of it meant?"
        )
