"""How little an agreement looks like chance: Moisan and Stival's a-contrario bound (2004)."""

from __future__ import annotations

import math


def log10_expected_models(
    sample: int, solutions: int, count: int, inliers: int, chance: float
) -> float:
    """How many models with as many inliers unrelated points bring, as log10.

    sample: how many points determine a model. solutions: how many models one sample can give.
    chance: that a point agrees with a model by accident.
    """
    if count <= sample or inliers < sample:
        return 0.0
    return (
        math.log10(solutions * (count - sample))
        + _log10_choose(count, inliers)
        + _log10_choose(inliers, sample)
        + (inliers - sample) * math.log10(min(chance, 1))
    )


def _log10_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)
