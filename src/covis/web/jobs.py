"""Long work: in threads of its own, a bounded number at a time, known by an id that a page which
was loaded again can ask for. What is done is kept for a while, the newest only.

Threads, since a store cannot be used in a forked process and covis computes outside Python's lock.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from covis.errors import CovisError

Kind = Literal["match", "search", "long"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
OVER = frozenset(("done", "failed", "cancelled"))
WORKERS: dict[Kind, int] = {"match": 1, "search": 2, "long": 1}
"""How many of each are worked on at a time, for memory: adding photos holds up no match, and a
match no search."""
WAITING = 16
"""So many of each may wait; more are refused."""
PATIENCE = 1.0
"""Seconds that work is given to end when all ends."""
KEPT = 20
"""Finished jobs of each that are remembered."""


class BusyError(CovisError):
    """There is too much to do already."""


class _Cancelled(Exception):
    pass


@dataclass(eq=False)
class Job:
    """Work, and what came of it.

    answer: what the page is told, ready for JSON; a part of it while it runs. kept: what
    downloads are made from.
    """

    id: str
    kind: Kind = "search"
    state: State = "waiting"
    answer: Any = None
    error: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    _progress: dict[str, Any] = field(default_factory=dict)
    _version: int = 0
    _hearers: list[Callable[[], object]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _began: float = 0.0

    @property
    def version(self) -> int:
        """Another whenever there is news."""
        return self._version

    @property
    def over(self) -> bool:
        return self.state in OVER

    def report(self, stage: str, done: float, total: float | None = None) -> None:
        """Say how far it is. Ends the work here where it was cancelled."""
        self.check()
        spent = time.monotonic() - self._began
        rate = done / spent if spent > 0 else 0.0
        left = (total - done) / rate if total is not None and rate > 0 else None
        self._progress = {
            "stage": stage, "done": done, "total": total, "rate": rate, "left": left,
        }  # fmt: skip
        self._changed()

    def tell(self, answer: Any) -> None:
        """Show a part of the answer already."""
        self.check()
        self.answer = answer
        self._changed()

    def check(self) -> None:
        """End the work here where it was cancelled."""
        if self._stop.is_set():
            raise _Cancelled

    def to_dict(self) -> dict[str, Any]:
        """What the page is told."""
        return {
            "job": self.id,
            "version": self._version,
            "state": self.state,
            "progress": self._progress,
            "answer": self.answer,
            "error": self.error,
        }

    @contextmanager
    def heard(self, hearer: Callable[[], object]) -> Iterator[None]:
        """Have it called whenever there is news, in the thread that makes them."""
        self._hearers.append(hearer)
        try:
            yield
        finally:
            self._hearers.remove(hearer)

    def cancel(self) -> None:
        """Have it end at its next report; what it finds until then is not shown."""
        self._stop.set()
        if not self.over:
            self._end("cancelled")

    def _changed(self) -> None:
        self._version += 1
        for hearer in list(self._hearers):
            hearer()

    def _end(self, state: State, error: str = "") -> None:
        if not self.over:
            self.state, self.error = state, error
            self._changed()

    def _run(self, work: Work) -> None:
        if self._stop.is_set():
            return
        self.state, self._began = "running", time.monotonic()
        self._changed()
        try:
            answer = work(self)
            self.check()
            self.answer = answer
            self._end("done")
        except _Cancelled:
            self._end("cancelled")
        except CovisError as error:
            self._end("failed", str(error))
        except Exception as error:
            traceback.print_exc()
            words = f"covis failed: {type(error).__name__}; the terminal that it runs in says more."
            self._end("failed", words)


Work = Callable[[Job], Any]


class Jobs:
    """All of one server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queues: dict[Kind, queue.SimpleQueue[tuple[Job, Work] | None]] = {
            kind: queue.SimpleQueue() for kind in WORKERS
        }
        self._workers = [
            threading.Thread(target=self._work, args=(kind,), daemon=True)
            for kind, count in WORKERS.items()
            for _ in range(count)
        ]
        for worker in self._workers:
            worker.start()

    def start(self, work: Work, kind: Kind = "search") -> Job:
        """Queue work. Raises BusyError where too much of its kind waits already."""
        with self._lock:
            alike = [job for job in self._jobs.values() if job.kind == kind]
            if sum(job.state == "waiting" for job in alike) >= WAITING:
                raise BusyError("covis has too much to do already; try again in a moment.")
            finished = [job.id for job in alike if job.over]
            for old in finished[: max(0, len(finished) - KEPT + 1)]:
                del self._jobs[old]
            job = Job(secrets.token_urlsafe(9), kind)
            self._jobs[job.id] = job
        self._queues[kind].put((job, work))
        return job

    def get(self, name: str) -> Job | None:
        """A job by its id; None for one that there never was, or that is forgotten."""
        return self._jobs.get(name)

    def close(self) -> bool:
        """Cancel all of it; what runs ends at its next report. Whether all has ended."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()
        for kind, count in WORKERS.items():
            for _ in range(count):
                self._queues[kind].put(None)
        until = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        return not any(worker.is_alive() for worker in self._workers)

    def _work(self, kind: Kind) -> None:
        while (item := self._queues[kind].get()) is not None:
            item[0]._run(item[1])
