"""How long each stage of a piece of work takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time spent inside to that of a stage."""
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0) + time.perf_counter() - began
