"""Probabilities beside what is so, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.metrics.calibration import (
    brier_score,
    describe,
    even_weights,
    log_loss,
    rates,
    reliability,
)

PROBABILITIES = [0.95, 0.6, 0.6, 0.05, 0.01, 1.0]
RIGHT = [True, True, False, False, False, False]


def test_right_and_wrong_pairs_weigh_the_same():
    np.testing.assert_allclose(even_weights(RIGHT), [1 / 4, 1 / 4, *[1 / 8] * 4])


def test_scores_by_hand():
    expected = (0.05**2 + 0.4**2) / 4 + (0.6**2 + 0.05**2 + 0.01**2 + 1) / 8
    assert brier_score(PROBABILITIES, RIGHT) == pytest.approx(expected)
    expected = -math.log(0.95 * 0.6) / 4 - math.log(0.4 * 0.95 * 0.99 * 0.5) / 8
    assert log_loss([*PROBABILITIES[:-1], 0.5], RIGHT) == pytest.approx(expected)
    assert log_loss(PROBABILITIES, RIGHT) == math.inf


def test_a_coin_scores_as_a_coin():
    assert brier_score([0.5] * 6, RIGHT) == pytest.approx(0.25)
    assert log_loss([0.5] * 6, RIGHT) == pytest.approx(math.log(2))


def test_bins_by_hand():
    bins = {(b.low, b.high): b for b in reliability(PROBABILITIES, RIGHT)}
    assert [b.pairs for b in bins.values()] == [1, 1, 0, 0, 2, 0, 1, 1]
    middle = bins[0.5, 0.75]
    assert middle.said == pytest.approx(0.6)
    assert middle.seen == pytest.approx((1 / 4) / (1 / 4 + 1 / 8))
    assert math.isnan(bins[0.1, 0.25].seen)


def test_rates_by_hand():
    assert rates(PROBABILITIES, RIGHT, 0.6) == (2 / 4, 1)
    assert rates(PROBABILITIES, RIGHT, 0.9) == (1 / 4, 1 / 2)


def test_the_table_has_what_was_counted():
    lines = describe(PROBABILITIES, RIGHT, [0.9])
    assert "| 0.5 to 0.75 | 2 | 0.600 | 0.667 |" in lines
    assert "| 0.9 | 25.00 % | 50.0 % |" in lines
    assert lines[-1].startswith("2 pairs the same, 4 different.")


@pytest.mark.parametrize("right", [[True] * 6, [False] * 6, [True, False]])
def test_exception_for_pairs_of_one_sort_or_another_number(right):
    with pytest.raises(ArgumentError):
        brier_score(PROBABILITIES, right)
