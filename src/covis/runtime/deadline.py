"""A time until which work may go on, which long work looks at by itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("until", default=math.inf)


class OutOfTime(Exception):
    """The work was given up: its time was over."""


@contextmanager
def working_until(end: float) -> Iterator[None]:
    """What this thread does meanwhile raises OutOfTime soon after `end`, on the performance
    counter, where it calls `check_time`."""
    before = _until.set(end)
    try:
        yield
    finally:
        _until.reset(before)


def check_time() -> None:
    """Raise OutOfTime where the time is over."""
    if time.perf_counter() > _until.get():
        raise OutOfTime
