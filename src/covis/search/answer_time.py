"""How long the parts of an answer take, and what the last of them will, on a busy machine.

Other work may slow everything down several times. How much so is told by the stages that one
thread works through: by the clock they take longer than the processor was theirs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER = 0.02
"""Seconds for what is always done at the end: the hits' files are looked for, their order made."""
COMPARED = 0.01
"""Seconds of comparing a hit's photo with the query, once it is decoded."""
MEGAPIXEL = 0.004
"""Seconds of decoding a photo, for each megapixel."""
MOST = 0.5
"""The share of a budget that the end of an answer is given at most."""


class Clock:
    """Adds up the seconds of stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last, self._last_worked = time.perf_counter(), time.thread_time()
        self._lock, self._alone, self._worked = threading.Lock(), 0.0, 0.0

    def lap(self, stage: str, *, alone: bool = False) -> None:
        """A stage ends. alone: this thread did its work and waited for the processor alone."""
        now, worked = time.perf_counter(), time.thread_time()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        if alone:
            self._took(now - self._last, worked - self._last_worked)
        self._last, self._last_worked = now, worked

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Some thread works alone meanwhile, in any stage."""
        began, worked = time.perf_counter(), time.thread_time()
        yield
        self._took(time.perf_counter() - began, time.thread_time() - worked)

    def _took(self, seconds: float, worked: float) -> None:
        with self._lock:
            self._alone += seconds
            self._worked += worked

    @property
    def slowdown(self) -> float:
        """So many times as long as on an idle machine things take, at least 1."""
        return max(1.0, self._alone / self._worked) if self._worked > 0 else 1.0


def kept(clock: Clock, budget: float, compared: int, megapixels: float, workers: int) -> float:
    """Seconds of the budget that the end of an answer needs.

    compared: photos of so many megapixels in all that are compared with the query there.
    """
    comparing = (compared * COMPARED + megapixels * MEGAPIXEL) / max(1, min(workers, compared))
    return max(ANSWER, min(MOST * budget, clock.slowdown * (ANSWER + comparing)))
