"""How far probabilities can be believed: what they say beside what is so.

Right and wrong pairs weigh the same in total, however many there are of each: the probabilities
are meant for even odds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.types import BoolArray, Matrix

EDGES = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0)
"""Where the bins of `reliability` begin and end."""


class Bin(NamedTuple):
    """Pairs whose probability lies between two edges.

    pairs: how many. said: their mean probability. seen: the share of them that is right. Both
    with even weights for right and wrong pairs, NaN for no pairs.
    """

    low: float
    high: float
    pairs: int
    said: float
    seen: float


def even_weights(right: ArrayLike) -> Matrix:
    """(N,) float64 that sum to 1: half for the right ones, half for the others.

    Raises ArgumentError when one of the two is missing.
    """
    is_right = np.asarray(right, bool)
    count = int(is_right.sum())
    if not 0 < count < len(is_right):
        raise ArgumentError(
            f"Probabilities are judged on right and wrong pairs; {count} of {len(is_right)} "
            "are right."
        )
    return np.where(is_right, 0.5 / count, 0.5 / (len(is_right) - count))


def brier_score(probabilities: ArrayLike, right: ArrayLike) -> float:
    """The mean squared difference from 0 or 1; 0 is perfect, 0.25 a coin's."""
    p, y = _checked(probabilities, right)
    return float(even_weights(y) @ (p - y) ** 2)


def log_loss(probabilities: ArrayLike, right: ArrayLike) -> float:
    """The mean of -log(probability of what is so); 0 is perfect, 0.693 a coin's."""
    p, y = _checked(probabilities, right)
    with np.errstate(divide="ignore"):
        return float(even_weights(y) @ -np.log(np.where(y, p, 1 - p)))


def reliability(probabilities: ArrayLike, right: ArrayLike) -> list[Bin]:
    """What is said and what is seen, bin by bin of EDGES; a bin has its lower edge."""
    p, y = _checked(probabilities, right)
    weights = even_weights(y)
    bins = []
    for low, high in pairwise(EDGES):
        here = (p >= low) & ((p < high) | (high == EDGES[-1]))
        total = weights[here].sum()
        said, seen = (
            (weights[here] @ values[here] / total if total else np.nan) for values in (p, y)
        )
        bins.append(Bin(low, high, int(here.sum()), float(said), float(seen)))
    return bins


def rates(probabilities: ArrayLike, right: ArrayLike, threshold: float) -> tuple[float, float]:
    """The shares of wrong and of right pairs with at least a probability: false alarms, recall."""
    p, y = _checked(probabilities, right)
    return float((p[~y] >= threshold).mean()), float((p[y] >= threshold).mean())


def describe(probabilities: ArrayLike, right: ArrayLike, thresholds: Sequence[float]) -> list[str]:
    """Lines of Markdown: the bins, the scores, and the rates at each threshold."""
    count = int(np.asarray(right, bool).sum())
    lines = ["| probability | pairs | said | seen |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {b.low:g} to {b.high:g} | {b.pairs} | {b.said:.3f} | {b.seen:.3f} |"
        for b in reliability(probabilities, right)
        if b.pairs
    ]
    lines += ["", "| called the same from | false alarms | recall |", "| --- | --- | --- |"]
    for threshold in thresholds:
        false_alarms, recall = rates(probabilities, right, threshold)
        lines.append(f"| {threshold:.4g} | {100 * false_alarms:.2f} % | {100 * recall:.1f} % |")
    return [
        *lines,
        "",
        f"{count} pairs the same, {len(np.asarray(right)) - count} different. "
        f"Brier score {brier_score(probabilities, right):.4f}, "
        f"log loss {log_loss(probabilities, right):.4f}.",
    ]


def _checked(probabilities: ArrayLike, right: ArrayLike) -> tuple[Matrix, BoolArray]:
    p: Matrix = np.asarray(probabilities, np.float64)
    y: NDArray[np.bool_] = np.asarray(right, bool)
    if p.shape != y.shape or p.ndim != 1:
        raise ArgumentError(f"One probability a pair is needed, not {p.shape} for {y.shape}.")
    return p, y
