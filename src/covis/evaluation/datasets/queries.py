"""Sets of queries with right answers, read from a folder with a `queries.json`.

`db/` holds the pictures to search, `queries/` those to search with. `queries.json` is a list of
{"query", "relevant"}: the path of a query under `queries/`, and those of its right answers under
`db/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covis.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class QuerySet:
    """Pictures to search, and queries with their right answers.

    name: the folder's. database: by path. relevant: for each query indices into the database.
    """

    name: str
    database: tuple[Path, ...]
    queries: tuple[Path, ...]
    relevant: tuple[frozenset[int], ...]


def read_queries(folder: str | Path) -> QuerySet:
    """The set in a folder with `db/`, `queries/` and `queries.json`.

    Raises ArgumentError that names the file, and the query in it, when the list or a picture is
    missing, or the list is malformed.
    """
    folder = Path(folder)
    path = folder / "queries.json"
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ArgumentError(f"{path}: no list of queries to read ({error.strerror}).") from error
    except ValueError as error:
        raise ArgumentError(f"{path}: not JSON ({error}).") from error
    if not isinstance(entries, list) or not entries:
        raise ArgumentError(f"{path}: holds no list of queries.")
    database = tuple(sorted(each for each in (folder / "db").rglob("*") if each.is_file()))
    known = {each.relative_to(folder / "db").as_posix(): i for i, each in enumerate(database)}
    queries, relevant = [], []
    for i, entry in enumerate(entries):
        name, answers = _read_entry(entry, where := f"{path}, query {i}")
        if not (folder / "queries" / name).is_file():
            raise ArgumentError(f"{where}: the picture {folder / 'queries' / name} is not there.")
        for answer in answers:
            if answer not in known:
                raise ArgumentError(f"{where}: the picture {folder / 'db' / answer} is not there.")
        queries.append(folder / "queries" / name)
        relevant.append(frozenset(known[answer] for answer in answers))
    return QuerySet(folder.name, database, tuple(queries), tuple(relevant))


def _read_entry(entry: Any, where: str) -> tuple[str, list[str]]:
    match entry:
        case {"query": str(name), "relevant": [*answers]} if all(
            isinstance(answer, str) for answer in answers
        ):
            return name, answers
    raise ArgumentError(f'{where}: must have a "query", a path, and "relevant", a list of paths.')
