"""Stages of a run that follow one another, and learning rates within them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Timed(Protocol):
    """A stretch of training. Rates fall from `rate` to `final_rate` along a cosine."""

    @property
    def share(self) -> float:
        """Share of the run's steps; the last stage takes what is left."""

    @property
    def rate(self) -> float: ...

    @property
    def final_rate(self) -> float: ...


@dataclass(frozen=True)
class Stage:
    """A stretch of training in which nothing but the rate changes, see `Timed`."""

    share: float
    rate: float
    final_rate: float


S = TypeVar("S", bound=Timed)


def stage_at(stages: Sequence[S], step: int, steps: int, warmup: int) -> tuple[S, float]:
    """The stage that `step` of `steps` falls into, and the learning rate there."""
    begin = 0
    for index, stage in enumerate(stages):
        end = steps if index == len(stages) - 1 else begin + round(stage.share * steps)
        if step < end:
            fall = 0.5 * (1 + math.cos(math.pi * (step - begin) / max(end - begin, 1)))
            rate = stage.final_rate + (stage.rate - stage.final_rate) * fall
            return stage, rate * min(1.0, (step + 1) / max(warmup, 1))
        begin = end
    raise ValueError(f"step {step} lies beyond the recipe's {steps}")
