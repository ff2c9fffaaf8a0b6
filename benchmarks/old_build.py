"""`covis.match` beside an earlier build of covis, pair by pair in turns, on easy pairs.

    python benchmarks/old_build.py --old ../base/src [--sets bikes,leuven] [--every 1] [--threads 1]

--old: the `src` folder of that build's checkout. Each build is a process of its own that matches
the same two files by `covis.match(a, b)`, with all its defaults but the threads; it has matched
one pair before the first that counts. Printed are the processor's seconds, which other work does
not stretch, the inliers, and on how many pairs the present build has fewer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import common
from accuracy import find_sets
from common import DATA
from lightglue import EASY

from covis.evaluation.tables import markdown

PRESENT = Path(__file__).resolve().parents[1] / "src"
MATCHES = """
import json, sys, time
import covis
for line in sys.stdin:
    a, b, geometry, threads = json.loads(line)
    begun = time.process_time()
    found = covis.match(a, b, geometry=geometry, threads=threads)
    taken = time.process_time() - begun
    print(json.dumps([taken, int(found.inliers.sum())]), flush=True)
"""


class Build:
    """A build of covis in a process of its own."""

    def __init__(self, source: Path, threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source)}
        for library in ("OPENBLAS", "OMP"):
            environment[f"{library}_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, "-c", MATCHES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def match(self, *asked: Any) -> tuple[float, int]:
        """Processor's seconds and inliers of (path, path, geometry, threads)."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a build ended before it answered; its error is above.")
        seconds, inliers = json.loads(line)
        return seconds, inliers


def run(options: argparse.Namespace) -> None:
    """Match, and print a table by set."""
    builds = [Build(source, options.threads) for source in (options.old, PRESENT)]
    totals: list[tuple[float, int, float, int]] = []
    table = []
    for pairs in find_sets(DATA, tuple(common.names(options.sets))):
        geometry = "homography" if pairs.kind == "homography" else "fundamental"
        rows = []
        for number, pair in enumerate(pairs.pairs[:: options.every]):
            asked = (str(pair.path0), str(pair.path1), geometry, options.threads)
            if not number and not totals:
                for build in builds:
                    build.match(*asked)
            turn = builds if number % 2 else builds[::-1]
            found = {build: build.match(*asked) for build in turn}
            rows.append((*found[builds[0]], *found[builds[1]]))
        totals += rows
        table.append(_row(f"{pairs.name} ({len(rows)})", rows))
    table.append(_row(f"all ({len(totals)})", totals))
    header = ["pairs", "old, s", "now, s", "times as fast", "inliers, old", "now"]
    print(markdown(header, table), "\n")
    few = sum(now < old for _, old, _, now in totals)
    print(f"On {few} of {len(totals)} pairs the present build has fewer inliers.")


def _row(name: str, rows: list[tuple[float, int, float, int]]) -> list[str]:
    old, before, now, after = zip(*rows, strict=True)
    seconds = statistics.median(old), statistics.median(now)
    return [
        name,
        *(f"{each:.2f}" for each in seconds),
        f"{sum(old) / sum(now):.2f}",
        *(f"{statistics.mean(each):.0f}" for each in (before, after)),
    ]


if __name__ == "__main__":
    options = common.parser(__doc__)
    options.add_argument("--old", type=Path, required=True, help="src of the earlier build")
    options.add_argument("--sets", default=",".join(EASY))
    options.add_argument("--every", type=int, default=1, help="take every Nth pair")
    options.add_argument("--threads", type=int, default=1)
    sys.exit(common.main(run, options))
