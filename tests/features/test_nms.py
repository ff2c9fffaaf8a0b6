"""The parts that detectors share, against slow and plain references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covis.features.nms import best_first, bilinear, suppress, weighted_rows

quick = settings(max_examples=25, deadline=None)


def window_largest(scores, radius):
    padded = np.pad(scores, radius, constant_values=-np.inf)
    views = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
    return views.max(axis=(2, 3))


def slow_suppress(scores, radius):
    kept = scores == window_largest(scores, radius)
    for _ in range(2):
        near = window_largest(kept.astype(np.float32), radius) > 0
        rest = np.where(near, 0, scores)
        kept |= (rest == window_largest(rest, radius)) & ~near
    return kept


@quick
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(0, 999),
    st.sampled_from([3, 1000]),
)
def test_suppress(height, width, radius, seed, levels):
    """Three levels of brightness make many ties and plateaus."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (height, width)) / levels).astype(np.float32)
    np.testing.assert_array_equal(suppress(scores, radius), slow_suppress(scores, radius))


def test_suppress_what_stands_beside_a_slope_comes_back():
    """Not a local maximum, but the largest once the one on its other side is gone."""
    scores = np.zeros((11, 21), np.float32)
    scores[5, 5], scores[5, 7], scores[5, 9] = 0.9, 0.8, 0.7
    assert np.argwhere(suppress(scores, 2) & (scores > 0)).tolist() == [[5, 5], [5, 9]]


@quick
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 40))
def test_best_first(values, count):
    scores = np.array(values, np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert best_first(scores, count).tolist() == expected


@quick
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_bilinear(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.random((height, width, 3), np.float32)
    points = (rng.random((20, 2)) * [width - 1, height - 1]).astype(np.float32)
    points[:4] = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]
    columns, rows = np.arange(width), np.arange(height)
    for (x, y), found in zip(points, bilinear(pixels, points), strict=True):
        across, down = np.maximum(1 - abs(columns - x), 0), np.maximum(1 - abs(rows - y), 0)
        expected = np.einsum("hwd,w,h->d", pixels, across, down)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("values", [[-1.5, 0.0, -0.0, 2.0, -1.5, 2.0, 1e-40, -1e-40, -3e38, 3e38]])
def test_best_first_orders_numbers_below_zero_and_both_zeros(values):
    """As a stable sort does: the two zeros are equal."""
    scores = np.array(values * 3, np.float32)
    expected = np.argsort(-scores, kind="stable")
    for count in (len(scores), 7):
        np.testing.assert_array_equal(best_first(scores, count), expected[:count])


@pytest.mark.parametrize("count", [0, 1, 512, 513, 1300])
def test_weighted_rows_at_every_number_of_blocks(count):
    rng = np.random.default_rng(count)
    rows = rng.random((30, 5), np.float32)
    taps, weights = rng.integers(0, 30, (count, 4)), rng.random((count, 4), np.float32)
    found = weighted_rows(rows, taps, weights)
    expected = np.einsum("nk,nkd->nd", weights.astype(np.float64), rows[taps].astype(np.float64))
    assert found.shape == (count, 5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
