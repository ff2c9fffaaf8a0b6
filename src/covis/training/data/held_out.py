"""What is kept from training for validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from covis.errors import TrainingError

T = TypeVar("T")


def hold_out(
    items: Sequence[T], count: int, seed: int, *, things: str = "photos", folder: Path | None = None
) -> tuple[list[T], list[T]]:
    """`count` of the items, drawn by `seed`, to validate with, and the others to learn from.

    Raises TrainingError when there are no others; it calls the items `things` of `folder`.
    """
    if len(items) <= count:
        raise TrainingError(
            f"{'' if folder is None else f'{folder}: '}{len(items)} {things} are too few: {count} "
            "are kept for validation. Give a folder with more."
        )
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order[:count]], [items[i] for i in order[count:]]
