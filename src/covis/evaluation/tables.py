"""The one row of figures that every benchmark gives, and the one table that shows rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """The figures of one method on one part of a benchmark.

    protocol: what was measured and how, in words; rows of one protocol stand in one table, and
        `covis.evaluation.published_results` has what papers print under it.
    method: what was measured, by the names of its models. part: "all", a scene, a set.
    figures: name -> value, as papers print them: shares and areas in percent, others with their
        unit in the name; NaN for none. items: how many pairs, queries, ... they come from; 0 where
        that is not known.
    note: what else a reader must know. detail: ready for JSON, such as single errors.
    """

    protocol: str
    method: str
    part: str
    figures: Mapping[str, float]
    items: int
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def figures_table(rows: Sequence[tuple[str, Row]], *, digits: int = 1) -> str:
    """Markdown: a column for each figure that a row has, empty where it is NaN or not there.

    rows: with what stands in the first column, such as "measured". digits: behind the point.
    """
    columns = list(dict.fromkeys(name for _, row in rows for name in row.figures))
    lines = []
    for label, row in rows:
        figures = (row.figures.get(name, math.nan) for name in columns)
        cells = [f"{value:.{digits}f}" if math.isfinite(value) else "" for value in figures]
        lines.append([label, row.method, row.part, str(row.items or ""), *cells])
    return markdown(["", "method", "part", "items", *columns], lines)


def rows_json(rows: Sequence[Row]) -> str:
    """A list of rows with every figure unrounded; NaN and infinity become null."""
    return json.dumps(finite([asdict(row) for row in rows]), indent=1, allow_nan=False)


def finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
