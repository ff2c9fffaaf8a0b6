"""What all recipes have, stages of a run that follow one another, and learning rates in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar


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
    stage, done = progress_at(stages, step, steps)
    fall = 0.5 * (1 + math.cos(math.pi * done))
    rate = stage.final_rate + (stage.rate - stage.final_rate) * fall
    return stage, rate * min(1.0, (step + 1) / max(warmup, 1))


def progress_at(stages: Sequence[S], step: int, steps: int) -> tuple[S, float]:
    """The stage that `step` of `steps` falls into, and how much of it is done: 0..1."""
    begin = 0
    for index, stage in enumerate(stages):
        end = steps if index == len(stages) - 1 else begin + round(stage.share * steps)
        if step < end:
            return stage, (step - begin) / max(end - begin, 1)
        begin = end
    raise ValueError(f"step {step} lies beyond the recipe's {steps}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run depends on besides its data, as far as all runs have it."""

    steps: int
    """Updates."""
    seed: int = 0
    held_out: int = 48
    """Photos kept from training for validation."""
    checkpoint_every: int = 250
    validate_every: int = 500

    def with_given(self, **values: Any) -> Self:
        """The same with other values, where these are not None."""
        return replace(self, **{name: v for name, v in values.items() if v is not None})


@dataclass(frozen=True, kw_only=True)
class StagedRecipe(Recipe, Generic[S]):
    """A recipe whose learning rates its stages say."""

    warmup: int = 50
    """Updates in which the rate rises to the first stage's."""
    stages: tuple[S, ...]

    def at(self, step: int) -> tuple[S, float]:
        """The stage that `step` falls into and the learning rate there."""
        return stage_at(self.stages, step, self.steps, self.warmup)
