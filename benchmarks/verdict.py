"""How far the verdict of `covis match` can be believed, on ../shared/data, as Markdown tables.

    python benchmarks/verdict.py
    python benchmarks/verdict.py --methods nearest --different 3 --max-keypoints 1024

The same: the pairs of data/homography and data/pose, and the queries of data/retrieval/museum
with their paintings. Different: each query with the paintings most alike in colours and with
others, and pictures of two different sets. None of them was used to calibrate the verdict.
Planes (museum, homography) are matched with a homography, scenes with a fundamental matrix, as
`covis match` does when asked, or by default. Methods: nearest, and lightglue where the weights
`lightglue-xfeat-covis` are installed. Right and wrong pairs weigh the same, as in the verdict.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from covis import Extractor, Features, Matcher, verify
from covis.errors import ArgumentError, CovisError
from covis.evaluation.datasets.pairs import read_pairs
from covis.evaluation.metrics.calibration import describe
from covis.geometry.verdict import Calibration
from covis.runtime.bundle import list_bundles
from covis.training.recipes.verdict import colours
from covis.types import GeometryKind, Verdict

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIGHT = "lightglue-xfeat-covis"
LOOK_ALIKES = 2
"""Of a query's wrong paintings, how many are those with the most alike colours."""


@dataclass(frozen=True)
class Case:
    """Two pictures, whether they show the same, where they come from and how to match them."""

    path0: Path
    path1: Path
    same: bool
    group: str
    kind: GeometryKind


def museum(data: Path, different: int, queries: int, rng: np.random.Generator) -> Iterator[Case]:
    """Each query with its painting, and with `different` others."""
    folder = data / "retrieval" / "museum"
    try:
        entries = json.loads((folder / "queries.json").read_text("utf-8"))
    except OSError as error:
        raise ArgumentError(f"{folder}: no queries.json to read ({error.strerror}).") from error
    paintings = sorted((folder / "db").glob("*.jpg"))
    palettes = np.array([colours(thumbnail(path)) for path in paintings])
    for index in np.linspace(0, len(entries) - 1, min(queries, len(entries))).astype(int):
        entry = entries[index]
        query = folder / "queries" / entry["query"]
        right = [i for i, path in enumerate(paintings) if path.name in entry["relevant"]]
        for i in right:
            yield Case(query, paintings[i], True, "museum", "homography")
        alike = np.argsort(-palettes @ colours(thumbnail(query)), kind="stable")
        wrong = [i for i in alike if i not in right]
        others = rng.permutation(wrong[LOOK_ALIKES:])[: max(different - LOOK_ALIKES, 0)]
        for i in [*wrong[:LOOK_ALIKES], *others]:
            yield Case(query, paintings[i], False, "museum", "homography")


def two_view(data: Path, different: int, rng: np.random.Generator) -> Iterator[Case]:
    """The pairs of the sets, and `different` pairs of pictures of each two sets of a kind."""
    for kind, geometry in (("homography", "homography"), ("pose", "fundamental")):
        sets = [read_pairs(folder) for folder in sorted(data.glob(f"{kind}/*/"))]
        for pair_set in sets:
            for pair in pair_set.pairs:
                yield Case(pair.path0, pair.path1, True, pair_set.name, geometry)
        for set0, set1 in combinations(sets, 2):
            for _ in range(different):
                pair0, pair1 = (s.pairs[rng.integers(len(s.pairs))] for s in (set0, set1))
                yield Case(pair0.path0, pair1.path1, False, f"two {kind} sets", geometry)


def thumbnail(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4)


def judge_all(
    cases: Sequence[Case], method: str, max_keypoints: int, max_size: int
) -> list[Verdict]:
    extract = Extractor(max_keypoints=max_keypoints, max_size=max_size, threads=1)
    match = Matcher(method, threads=1)

    @functools.cache
    def features(path: Path) -> Features:
        return extract(path)

    verdicts = []
    for case in cases:
        pair = features(case.path0), features(case.path1)
        verdict = verify(match(*pair), *pair, case.kind).verdict
        assert verdict is not None  # There is a kind of geometry.
        verdicts.append(verdict)
    return verdicts


def by_group(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> list[str]:
    """What was said of each group's pairs."""
    said = Counter((c.group, c.same, v.label) for c, v in zip(cases, verdicts, strict=True))
    lines = ["| pairs | answer | same | unsure | different |", "| --- | --- | --- | --- | --- |"]
    for group, same in dict.fromkeys((case.group, case.same) for case in cases):
        counts = [str(said[group, same, label]) for label in ("same", "unsure", "different")]
        lines.append(f"| {group} | {'same' if same else 'different'} | {' | '.join(counts)} |")
    return lines


def run(arguments: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(arguments.seed)
    cases = [
        *museum(DATA, arguments.different, arguments.queries, rng),
        *two_view(DATA, arguments.different, rng),
    ][:: arguments.every]
    same = [case.same for case in cases]
    thresholds = [0.5, 0.9, 0.99, Calibration.read().same]
    installed = [bundle.name for bundle in list_bundles()]
    for method in arguments.methods:
        if method == "lightglue" and LIGHT not in installed:
            print(f"lightglue left out: no weights {LIGHT}.\n", file=sys.stderr)
            continue
        start = time.perf_counter()
        verdicts = judge_all(cases, method, arguments.max_keypoints, arguments.max_size)
        print(f"## {method}\n")
        print("\n".join(describe([v.probability for v in verdicts], same, thresholds)))
        print("\n" + "\n".join(by_group(cases, verdicts)) + "\n")
        loud = [(v.probability, c) for c, v in zip(cases, verdicts, strict=True) if not c.same]
        for probability, case in sorted(loud, key=lambda pair: -pair[0])[: arguments.worst]:
            print(f"{probability:.3f} {case.path0} {case.path1}", file=sys.stderr)
        print(f"{method}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(
        f"xfeat-covis, {arguments.max_keypoints} keypoints, images at most {arguments.max_size} px."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods", type=lambda text: text.split(","), default=["nearest", "lightglue"]
    )
    parser.add_argument(
        "--different", type=int, default=20, help="wrong pairs, a query or two sets"
    )
    parser.add_argument("--queries", type=int, default=60, help="of the museum, at most")
    parser.add_argument("--every", type=int, default=1, help="only every N-th pair")
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument("--max-size", type=int, default=640, help="longer side in pixels")
    parser.add_argument("--worst", type=int, default=0, help="name so many wrong pairs")
    parser.add_argument("--seed", type=int, default=0)
    try:
        run(parser.parse_args())
    except CovisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
