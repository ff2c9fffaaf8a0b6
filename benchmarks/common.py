"""What the benchmarks share: their command line, timing in turns, a peer's table, peak memory.

NumPy is not imported here before it is needed: a script may say first how many threads its BLAS
takes.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covis.errors import ArgumentError, CovisError
from covis.evaluation.tables import markdown

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Data and published weights, beside the repository."""
DATA = SHARED / "data"
XFEAT = SHARED / "weights" / "xfeat" / "xfeat.safetensors"
"""The official XFeat weights."""

OPTIONS: dict[str, dict[str, Any]] = {
    "--threads": {"type": int, "help": "all processors when left out"},
    "--json": {"type": Path, "help": "write every row there"},
    "--max-size": {"type": int, "default": 640, "help": "longer side in pixels"},
}
"""Of the command line, those that several scripts have."""

PAUSE = 0.1
"""Seconds between two timed calls: the threads of one may still be spinning for more work."""

PEAK = """
import atexit, re
def peak():
    kilobytes = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    print("peak", int(kilobytes) // 1024, "MB")
atexit.register(peak)
"""
"""Code that has its process print the most memory it held. It is the kernel's own figure for
the process; getrusage would count its parent's memory as well."""


def parser(doc: str | None, *shared: str) -> argparse.ArgumentParser:
    """One whose help is the script's docstring. shared: which of OPTIONS it has."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in shared:
        options.add_argument(name, **OPTIONS[name])
    return options


def main(run: Callable[[argparse.Namespace], None], options: argparse.ArgumentParser) -> int:
    """Run a script with its command line; 0, or 2 and one line for an error of covis.

    The BLAS behind NumPy takes as many threads as the option `threads`, where the script has one
    and NumPy is not imported yet.
    """
    arguments = options.parse_args()
    threads = getattr(arguments, "threads", None)
    if threads:
        os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    try:
        run(arguments)
    except CovisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def names(text: str) -> list[str]:
    """Names between semicolons, or between commas where there are none."""
    return [name.strip() for name in text.split(";" if ";" in text else ",") if name.strip()]


def check_known(kind: str, asked: Collection[str], known: Collection[str]) -> None:
    """Raises ArgumentError for the first name that is not known."""
    for name in asked:
        if name not in known:
            raise ArgumentError(f"no {kind} '{name}'; there are: {', '.join(known)}.")


def medians(rounds: int, *tasks: Callable[[], object]) -> list[float]:
    """Seconds of each, in turns, so that whatever else the machine does hits all alike.

    A first round does not count.
    """
    return [seconds for seconds, _ in taken(rounds, *tasks)]


def taken(rounds: int, *tasks: Callable[[], object]) -> list[tuple[float, float]]:
    """The same, and beside it the processor's seconds, which other work does not stretch."""
    times: list[list[tuple[float, float]]] = [[] for _ in tasks]
    for number in range(rounds + 1):
        for task, found in zip(tasks, times, strict=True):
            time.sleep(PAUSE)
            began = time.perf_counter(), time.process_time()
            task()
            if number:
                found.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return [
        (statistics.median(clock), statistics.median(processor))
        for clock, processor in (zip(*found, strict=True) for found in times)
    ]


@dataclass(frozen=True)
class Contest:
    """covis and a peer at one task, the work that cannot be avoided, and the ratio to reach."""

    task: str
    peer_name: str
    covis: Callable[[], object]
    peer: Callable[[], object]
    gflop: float
    target: float

    def cells(
        self, ours: tuple[float, float], theirs: tuple[float, float], gflops: float
    ) -> list[str]:
        """ours, theirs: what `taken` gives."""
        limit = self.gflop / gflops
        return [
            self.task,
            f"{ours[0] * 1e3:.1f} ms",
            f"{theirs[0] * 1e3:.1f} ms ({self.peer_name})",
            f"{theirs[0] / ours[0]:.2f} (at least {self.target})",
            f"{ours[1] * 1e3:.1f}, {theirs[1] * 1e3:.1f} ms: {theirs[1] / ours[1]:.2f}",
            f"{limit * 1e3:.1f} ms, {ours[0] / limit:.2f} times it" if self.gflop else "",
        ]


def race(contests: Sequence[Contest], rounds: int, threads: int) -> None:
    """Run all contests round by round; prints the medians beside what the machine can do."""
    import torch

    torch.set_num_threads(threads)
    matrix0, matrix1 = torch.rand(2, 1024, 1024)

    def products() -> None:
        for _ in range(5):
            matrix0 @ matrix1

    tasks = [task for contest in contests for task in (contest.covis, contest.peer)]
    product, *seconds = taken(rounds, products, *tasks)
    gflops = 5 * 2 * 1024**3 / 1e9 / product[0]
    print(f"{platform.processor() or platform.machine()}, {threads} threads, medians of")
    print(f"{rounds} interleaved rounds; matrix product (1024^3): {gflops:.0f} GFLOP/s\n")
    header = ["task", "covis", "peer", "times as fast", "processor time, both"]
    header.append("machine's limit, covis' distance")
    turns = zip(contests, seconds[::2], seconds[1::2], strict=True)
    print(markdown(header, [each.cells(ours, theirs, gflops) for each, ours, theirs in turns]))
    print()


def print_of_process(code: str, *arguments: object) -> None:
    """What code prints in a process of its own, and the most memory that held."""
    command = [sys.executable, "-c", PEAK + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print((done.stdout + done.stderr).strip())
