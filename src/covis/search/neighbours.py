"""The nearest of each of many vectors, among those that come after it.

Few vectors are compared with all others. Many are put into parts, each around a centre, and every
one is compared with those of the parts whose centres are nearest to it: matrix products of whole
parts, so that a million vectors take minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from covis.types import FloatArray

PART = 1000
"""Vectors in a part, on average."""
TRAINED_ON = 64
"""Vectors a part that its centre is found by."""
ROUNDS = 8
MEMBERS = 4096
"""So many of a part are compared at a time."""
SAMPLED = 3000
"""Vectors whose products tell how alike two are by chance."""
SHARES = 1e-1, 1e-3
"""Of those products, where the tail is measured by which it is continued."""

Rows = Callable[[NDArray[np.int64]], FloatArray]
"""Places (N,) -> the vectors there, (N, D) float32 of unit length or zero."""
Pairs = NDArray[np.int64]
"""(N, 2): two vectors each, by number."""


class Neighbours:
    """Vectors, and which of them are near others."""

    def __init__(self, rows: Rows, count: int, probes: int = 0) -> None:
        """rows: gives the vectors; count: how many there are. probes: parts that each one is
        compared with; 0 to compare all with all."""
        self._rows, self._count = rows, count
        parts = max(1, count // PART) if probes else 1
        self._probes = min(probes, parts) or 1
        self._centres = _centres(rows, count, parts)
        own = np.empty(count, np.int64)
        for begin in range(0, count, MEMBERS):
            block = np.arange(begin, min(begin + MEMBERS, count))
            own[block] = _scores(rows(block), self._centres).argmax(axis=1)
        order = np.argsort(own, kind="stable")
        self._members = np.split(order, np.searchsorted(own[order], np.arange(1, parts)))

    def above(
        self, queries: FloatArray, places: NDArray[np.int64], least: float, most: int
    ) -> tuple[Pairs, FloatArray]:
        """Of each query (Q, D) the `most` nearest ones with a product of `least` or more, among
        those later than its place, (Q,): pairs of a query's number and a place, in the order of
        the queries, best first, and the products."""
        visited = self._visited(queries)
        order = np.argsort(visited, axis=None, kind="stable")
        parts = np.arange(len(self._members) + 1)
        bounds = np.searchsorted(visited.ravel()[order], parts)
        first = places.min(initial=self._count)
        found = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
        for part, members in enumerate(self._members):
            which = order[bounds[part] : bounds[part + 1]] // self._probes
            later = members[np.searchsorted(members, first, "right") :]
            for at in range(0, len(later) if len(which) else 0, MEMBERS):
                some = later[at : at + MEMBERS]
                values = queries[which] @ self._rows(some).T
                near = np.flatnonzero(values >= least)
                pairs = np.stack([which[near // len(some)], some[near % len(some)]], axis=1)
                after = pairs[:, 1] > places[pairs[:, 0]]
                found.append(_best(pairs[after], values.ravel()[near[after]], most))
        pairs, products = (np.concatenate(each) for each in zip(*found, strict=True))
        return _best(pairs, products, most)

    def _visited(self, queries: FloatArray) -> NDArray[np.intp]:
        """(Q, probes): the parts that each query is compared with; some queries at a time, since
        of all of them the scores would take gigabytes."""
        visited = np.empty((len(queries), self._probes), np.intp)
        for begin in range(0, len(queries), MEMBERS):
            scores = _scores(queries[begin : begin + MEMBERS], self._centres)
            nearest = np.argpartition(-scores, self._probes - 1, axis=1)[:, : self._probes]
            visited[begin : begin + MEMBERS] = nearest
        return visited


def _scores(vectors: FloatArray, centres: FloatArray) -> FloatArray:
    """(N, D), (parts, D) -> (N, parts): the larger the nearer the centre."""
    near: FloatArray = vectors @ centres.T
    near -= (centres**2).sum(axis=1) / 2
    return near


def _centres(rows: Rows, count: int, parts: int) -> FloatArray:
    """(parts, D) float32, by k-means on some of the vectors."""
    rng = np.random.default_rng(0)
    vectors = rows(np.sort(rng.permutation(count)[: TRAINED_ON * parts]))
    if parts == 1:
        return np.zeros((1, vectors.shape[1]), np.float32)
    centres = vectors[rng.permutation(len(vectors))[:parts]]
    for _ in range(ROUNDS):
        own = _scores(vectors, centres).argmax(axis=1)
        order = np.argsort(own, kind="stable")
        there, first = np.unique(own[order], return_index=True)
        sums = np.add.reduceat(vectors[order], first, axis=0)
        centres[there] = sums / np.diff(first, append=len(order))[:, None]
    return centres


def _best(pairs: Pairs, values: FloatArray, most: int) -> tuple[Pairs, FloatArray]:
    """Of each first one of the pairs those with the largest values."""
    order = np.lexsort((pairs[:, 1], -values, pairs[:, 0]))
    pairs, values = pairs[order], values[order]
    kept = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0]) < most
    return pairs[kept], values[kept]


def by_chance(rows: Rows, count: int, pairs: float) -> float:
    """The product that so many pairs of a vector with others reach by chance; -1 for few vectors.

    Of many, real copies are too few to count among the products of a sample. The tail of these is
    continued as that of a normal distribution, after Fisher's transformation of correlations.
    """
    if count < SAMPLED:
        return -1.0
    sample = rows(np.sort(np.random.default_rng(1).permutation(count)[:SAMPLED]))
    upper = np.triu_indices(len(sample), 1)
    products = np.arctanh(np.clip((sample @ sample.T)[upper], -0.999, 0.999))
    near, far = np.quantile(products, [1 - share for share in SHARES])
    normal = NormalDist()
    z_near, z_far = (-normal.inv_cdf(share) for share in SHARES)
    z = -normal.inv_cdf(min(pairs / count, 0.5))
    return float(np.tanh(near + (far - near) * (z - z_near) / (z_far - z_near)))
