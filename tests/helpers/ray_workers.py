"""Workers of Ray that are killed while they work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_worker_killed() -> Iterator[None]:
    """The first worker that runs a stage of Ray Data within the block is killed at once."""
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(killed,), daemon=True)
    killer.start()
    yield
    killer.join(60)
    assert killed


def kill_a_worker(killed: list[int]) -> None:
    """Of the processes that this one started, the first that runs the engine's stage."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            if command(pid).startswith(b"ray::MapWorker") and os.getpid() in ancestors(pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.02)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            break
        pid = int(status.split("PPid:")[1].split()[0])
        found.append(pid)
    return found
