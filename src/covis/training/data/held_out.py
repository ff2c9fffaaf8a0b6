"""What is kept from training for validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from covis.errors import TrainingError

T = TypeVar("T")

LEAST = 3
"""Photos that a run takes: one to validate with, two to learn from."""


def held_out_of(available: int, count: int) -> int:
    """How many of the photos are kept for validation: `count`, but no more than a third."""
    return min(count, available // 3)


def check_enough(
    available: int, *, things: str = "photos", folder: Path | None = None, what: str = ""
) -> None:
    """Raise TrainingError when there are too few `things` of `folder` to train with.

    what: which ones count, as in "of 128 pixels or more".
    """
    if available < LEAST:
        where = "" if folder is None else f"{folder}: "
        raise TrainingError(
            f"{where}{available} {things}{what and f' {what}'} are too few: training takes "
            f"{LEAST} or more, of which a third at most is kept for validation."
        )


def hold_out(
    items: Sequence[T], count: int, seed: int, *, things: str = "photos", folder: Path | None = None
) -> tuple[list[T], list[T]]:
    """`count` of the items, drawn by `seed`, to validate with, and the others to learn from.

    Of few items only a third is kept. Raises TrainingError when there are fewer than `LEAST`; it
    calls the items `things` of `folder`.
    """
    check_enough(len(items), things=things, folder=folder)
    count = held_out_of(len(items), count)
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order[:count]], [items[i] for i in order[count:]]
