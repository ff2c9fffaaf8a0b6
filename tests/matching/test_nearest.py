"""Mutual nearest neighbours against brute force, and their memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from covis.errors import ArgumentError
from covis.matching import nearest
from covis.matching.nearest import mutual_nearest

quick = settings(max_examples=60, deadline=None)


def brute(x, y, min_similarity=None, max_ratio=None):
    """Row by row, as the documentation says it; exact where the products are whole numbers."""
    found = []
    product = x.astype(np.float64) @ y.astype(np.float64).T
    for i, row in enumerate(product):
        if not len(row):
            continue
        j = int(row.argmax())
        if row[j] < product[:, j].max() or j in [other for _, other in found]:
            continue
        if min_similarity is not None and row[j] < min_similarity:
            continue
        if max_ratio is not None and len(row) > 1:
            second = np.delete(row, j).max()
            near, far = (max(2 - 2 * s, 0.0) for s in (row[j], second))
            if not near < max_ratio**2 * far:
                continue
        found.append((i, j))
    return found


def whole_numbers(seed, count, dimension=8, largest=3):
    """Descriptors whose products are exact in float32, with many ties."""
    return (
        np.random.default_rng(seed)
        .integers(-largest, largest + 1, (count, dimension))
        .astype(np.float32)
    )


def unit(seed, count, dimension=16):
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


counts = st.integers(0, 40)


@quick
@example(0, 5, 0, 3)
@example(5, 0, 0, 3)
@example(0, 0, 0, 3)
@example(1, 1, 0, 3)
@given(counts, counts, st.integers(0, 999), st.integers(0, 3))
def test_brute_force_with_ties(count0, count1, seed, largest):
    x, y = whole_numbers(seed, count0, 4, largest), whole_numbers(seed + 1, count1, 4, largest)
    indices, similarity = mutual_nearest(x, y)
    assert indices.tolist() == [list(pair) for pair in brute(x, y)]
    assert indices.shape == (len(indices), 2)
    assert indices.dtype == np.int64
    assert similarity.dtype == np.float32
    np.testing.assert_array_equal(similarity, (x[indices[:, 0]] * y[indices[:, 1]]).sum(axis=1))


@quick
@given(counts, counts, st.integers(0, 999), st.integers(1, 300))
def test_block_boundaries_change_nothing(count0, count1, seed, size):
    x, y = whole_numbers(seed, count0, 4), whole_numbers(seed + 1, count1, 4)
    expected, products = mutual_nearest(x, y, max_ratio=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK_BYTES", size)
        indices, similarity = mutual_nearest(x, y, max_ratio=1)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(similarity, products)


@quick
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 999),
    st.none() | st.floats(-1, 1),
    st.none() | st.floats(0.05, 1),
)
def test_thresholds(count0, count1, seed, floor, ratio):
    x, y = unit(seed, count0, 4), unit(seed + 1, count1, 4)
    indices, similarity = mutual_nearest(x, y, min_similarity=floor, max_ratio=ratio)
    plain, _ = mutual_nearest(x, y)
    assert {tuple(pair) for pair in indices.tolist()} <= {tuple(pair) for pair in plain.tolist()}
    # Rounding may decide a pair that sits on a threshold, so those a hair away must agree.
    hair = 1e-5
    strict = brute(x, y, floor and floor + hair, ratio and ratio * (1 - 1e-3))
    loose = brute(x, y, floor and floor - hair, ratio and min(ratio * (1 + 1e-3), 1 + hair))
    found = {tuple(pair) for pair in indices.tolist()}
    assert set(strict) <= found <= set(loose)
    if floor is not None:
        assert (similarity >= np.float32(floor)).all()


def test_same_set_matches_itself():
    x = unit(0, 500)
    indices, similarity = mutual_nearest(x, x)
    np.testing.assert_array_equal(indices, np.column_stack([np.arange(500)] * 2))
    np.testing.assert_allclose(similarity, 1, atol=1e-5)


def test_swapped_images_give_swapped_pairs():
    x, y = unit(0, 200), unit(1, 300)
    forth, _ = mutual_nearest(x, y)
    back, _ = mutual_nearest(y, x)
    assert len(forth) > 20
    assert sorted(forth.tolist()) == sorted(back[:, ::-1].tolist())


def test_duplicates_match_once():
    x = np.repeat(unit(0, 3), 4, axis=0)
    indices, _ = mutual_nearest(x, x)
    assert indices.tolist() == [[0, 0], [4, 4], [8, 8]]


def test_ratio_drops_repeated_structure():
    """A pair of equals in image 1 is ambiguous; a lone descriptor has no second to lose to."""
    x = unit(0, 1)
    assert len(mutual_nearest(x, np.repeat(x, 2, axis=0), max_ratio=0.9)[0]) == 0
    assert len(mutual_nearest(x, x, max_ratio=0.9)[0]) == 1


def test_arrays_that_are_not_contiguous():
    x, y = whole_numbers(0, 60), whole_numbers(1, 80)
    expected, _ = mutual_nearest(x[::2].copy(), y[:, ::2].repeat(2, axis=1).copy())
    found, _ = mutual_nearest(x[::2], y[:, ::2].repeat(2, axis=1))
    np.testing.assert_array_equal(found, expected)
    before = x.copy()
    found, _ = mutual_nearest(np.asfortranarray(x), np.asfortranarray(y), max_ratio=0.9)
    np.testing.assert_array_equal(found, mutual_nearest(x, y, max_ratio=0.9)[0])
    np.testing.assert_array_equal(x, before)


def test_exception_lengths_differ():
    with pytest.raises(ArgumentError, match="64 and 128 numbers"):
        mutual_nearest(np.zeros((3, 64), np.float32), np.zeros((3, 128), np.float32))
    with pytest.raises(ArgumentError, match="64 and 128 numbers"):
        mutual_nearest(np.zeros((0, 64), np.float32), np.zeros((3, 128), np.float32))


def test_exception_shape():
    with pytest.raises(ArgumentError, match=r"shape \(N, D\)"):
        mutual_nearest(np.zeros(64, np.float32), np.zeros((3, 64), np.float32))


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, float("nan")])
def test_exception_ratio(ratio):
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ArgumentError, match=r"max_ratio must lie in 0\.\.1"):
        mutual_nearest(x, x, max_ratio=ratio)


MEMORY = """
import resource, sys
import numpy as np
from covis.matching.nearest import mutual_nearest
x, y = (np.random.default_rng(s).standard_normal((10_000, 64), np.float32) for s in (0, 1))
mutual_nearest(x[:100], y[:100], max_ratio=0.9)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
indices, _ = mutual_nearest(x, y, max_ratio=0.9999)
print(peak() - before)
"""


def test_memory_does_not_hold_the_product():
    """10,000 x 10,000 similarities are 400 MB; the matching adds a tenth of that at most."""
    pytest.importorskip("resource", reason="peak memory is measured as Unix counts it")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 60
