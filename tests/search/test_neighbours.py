"""The nearest of many vectors, and how near two are by chance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from covis.search import neighbours
from covis.search.neighbours import Neighbours, by_chance

Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """600 of 16 numbers, those from 500 on near the first ones."""
    rng = np.random.default_rng(3)
    drawn = rng.standard_normal((500, 16)) + 0.5
    copies = drawn[:100] + 0.2 * rng.standard_normal((100, 16))
    return unit(np.concatenate([drawn, copies]))


def later_than(vectors: Vectors, place: int, least: float, most: int) -> list[tuple[int, int]]:
    values = vectors @ vectors[place]
    near = [other for other in range(place + 1, len(vectors)) if values[other] >= least]
    return [(place, other) for other in sorted(near, key=lambda i: -values[i])[:most]]


def test_all_are_compared_with_all(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MEMBERS", 64)
    near = Neighbours(vectors.__getitem__, len(vectors))
    found, products = near.above(vectors[40:90], np.arange(40, 90), 0.3, 5)
    found[:, 0] += 40
    expected = [pair for place in range(40, 90) for pair in later_than(vectors, place, 0.3, 5)]
    assert [tuple(pair) for pair in found.tolist()] == expected
    np.testing.assert_allclose(products, (vectors @ vectors.T)[tuple(found.T)], rtol=1e-5)


def test_parts_have_all_that_is_very_near(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "PART", 20)
    near = Neighbours(vectors.__getitem__, len(vectors), probes=8)
    sizes = [len(members) for members in near._members]
    assert len(sizes) == 30
    assert sum(sizes) == 600
    found, _ = near.above(vectors[:100], np.arange(100), 0.9, 5)
    expected = [pair for place in range(100) for pair in later_than(vectors, place, 0.9, 5)]
    assert {(n, 500 + n) for n in range(100)} <= set(expected)
    assert [tuple(pair) for pair in found.tolist()] == expected


def test_nothing_is_near_in_an_empty_collection() -> None:
    none = np.empty((0, 16), np.float32)
    near = Neighbours(none.__getitem__, 0, probes=4)
    assert near.above(none, np.arange(0), 0.5, 5)[0].shape == (0, 2)


def test_so_many_are_as_near_by_chance() -> None:
    drawn = unit(np.random.default_rng(1).standard_normal((4000, 16)) + 0.3)
    for pairs in (1, 20):
        level = by_chance(drawn.__getitem__, len(drawn), pairs)
        products = drawn[:1000] @ drawn.T
        assert pairs / 2 < (products >= level).sum() / 1000 - 1 < 2 * pairs
    assert by_chance(drawn.__getitem__, 100, 1) == -1
