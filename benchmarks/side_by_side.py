"""covis and a peer at one task, taking turns: what the speed benchmarks share."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PAUSE = 0.1
"""Seconds between two timed calls, for either side."""

PEAK = """
import atexit, re
def peak():
    kilobytes = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    print("peak", int(kilobytes) // 1024, "MB")
atexit.register(peak)
"""
"""Code that has its process print the most memory it held. It is the kernel's own figure for
the process; getrusage would count its parent's memory as well."""


@dataclass
class Contest:
    """covis and a peer at one task, and the work that cannot be avoided."""

    task: str
    peer_name: str
    covis: Callable[[], object]
    peer: Callable[[], object]
    gflop: float
    target: float
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"covis": [], "peer": []})

    def round(self) -> None:
        for side, call in (("covis", self.covis), ("peer", self.peer)):
            # The threads of the call before may still be spinning for more work.
            time.sleep(PAUSE)
            began = time.perf_counter()
            call()
            self.seconds[side].append(time.perf_counter() - began)

    def row(self, gflops: float) -> str:
        ours, theirs = (statistics.median(self.seconds[side]) for side in ("covis", "peer"))
        limit = self.gflop / gflops
        return (
            f"| {self.task} | {ours * 1e3:.1f} ms | {theirs * 1e3:.1f} ms ({self.peer_name}) | "
            f"{theirs / ours:.2f} (at least {self.target}) | "
            f"{limit * 1e3:.1f} ms, {ours / limit:.2f} times it |"
        )


def race(contests: Sequence[Contest], rounds: int, threads: int) -> None:
    """Run all contests round by round after one that does not count; prints the medians."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.rand(2, 1024, 1024)

    def gemm() -> float:
        began = time.perf_counter()
        for _ in range(5):
            a @ b
        return 5 * 2 * 1024**3 / 1e9 / (time.perf_counter() - began)

    for contest in contests:
        contest.round()
        contest.seconds = {"covis": [], "peer": []}
    rates = []
    for _ in range(rounds):
        rates.append(gemm())
        for contest in contests:
            contest.round()
    gflops = statistics.median(rates)
    print(f"{platform.processor() or platform.machine()}, {threads} threads, medians of")
    print(f"{rounds} interleaved rounds; matrix product (1024^3): {gflops:.0f} GFLOP/s\n")
    print("| task | covis | peer | times as fast | machine's limit, covis' distance |")
    print("| --- | --- | --- | --- | --- |")
    for contest in contests:
        print(contest.row(gflops))
    print()
