"""Measures of image search: where the right answers stand in rankings.

A ranking lists items best first; items are anything that can be told apart: indices into a
database, or names. It need not hold the whole database: what it leaves out was not found. An item
that comes again counts as a wrong one from the second time on. Equal similarities are no concern
of these measures: whoever makes the ranking says which of two comes first.

Queries without relevant items cannot be answered and are left out of every mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.types import Matrix

Places = NDArray[np.int64]
Ranking = Iterable[Hashable] | NDArray[Any]
Items = Collection[Hashable] | NDArray[Any]


def find_places(ranking: Ranking, relevant: Items, ignored: Items = ()) -> Places:
    """The places of the relevant items, ascending, the first place being 0.

    They are counted as if the ignored items, relevant ones among them too, were not in the ranking.
    """
    wanted, passed_over = set(relevant), set(ignored)
    found, place = [], 0
    for item in ranking.tolist() if isinstance(ranking, np.ndarray) else ranking:
        if item in passed_over:
            continue
        if item in wanted:
            found.append(place)
            wanted.remove(item)
        place += 1
    return np.array(found, np.int64)


def average_precision(places: Places, relevant: int, k: int | None = None) -> float:
    """The mean, over the relevant items, of the precision at their places; 0 for those not found.

    places: see `find_places`. relevant: how many items are, 1 at least. k: only the first k places
    count; then the sum is divided by k where more than k items are relevant (GLDv2's rule).
    """
    if k is not None:
        places, relevant = places[places < k], min(relevant, k)
    return float(np.sum(np.arange(1, len(places) + 1) / (places + 1)) / relevant)


def mean_average_precision(
    rankings: Sequence[Ranking], relevant: Sequence[Items], k: int | None = None
) -> float:
    """The mean of `average_precision` over queries: one ranking and one set of items for each.

    Raises ArgumentError where their numbers differ, no query has a relevant item, or k is below 1.
    """
    _check_k(k)
    return _mean(rankings, relevant, lambda places, count: average_precision(places, count, k))


def recall_at(rankings: Sequence[Ranking], relevant: Sequence[Items], k: int) -> float:
    """Recall@k of place recognition: the share of queries with a right answer in the first k.

    Raises ArgumentError as `mean_average_precision` does.
    """
    _check_k(k)
    return _mean(rankings, relevant, lambda places, _: float(np.any(places < k)))


def relevant_within(
    query_positions: ArrayLike, database_positions: ArrayLike, radius: float
) -> list[Places]:
    """For each query the indices of what was taken within a radius of it, the radius included.

    query_positions: (Q, D), database_positions: (N, D), in the radius' unit: metres east and north,
        say, not degrees.

    Raises ArgumentError on other shapes, positions that are not finite, or a radius below 0.
    """
    queries, database = _positions(query_positions), _positions(database_positions)
    if queries.shape[1] != database.shape[1]:
        raise ArgumentError(
            f"Positions of queries have {queries.shape[1]} coordinates, "
            f"those of the database {database.shape[1]}."
        )
    if not radius >= 0:
        raise ArgumentError(f"The radius must be 0 or more, not {radius}.")
    return [np.flatnonzero(np.linalg.norm(database - query, axis=1) <= radius) for query in queries]


def _mean(
    rankings: Sequence[Ranking],
    relevant: Sequence[Items],
    measure: Callable[[Places, int], float],
) -> float:
    if len(rankings) != len(relevant):
        raise ArgumentError(
            f"One ranking a query is needed, not {len(rankings)} for {len(relevant)}."
        )
    values = [
        measure(find_places(ranking, items), len(set(items)))
        for ranking, items in zip(rankings, relevant, strict=True)
        if len(items)
    ]
    if not values:
        raise ArgumentError("No query has a relevant item: there is nothing to measure.")
    return float(np.mean(values))


def _check_k(k: int | None) -> None:
    if k is not None and k < 1:
        raise ArgumentError(f"k must be 1 or more, not {k}.")


def _positions(values: ArrayLike) -> Matrix:
    positions = np.asarray(values, np.float64)
    if positions.ndim != 2 or not np.isfinite(positions).all():
        raise ArgumentError("Positions must be an array of shape (N, D) of finite numbers.")
    return positions
