"""How far the verdict of `covis match` can be believed, on ../shared/data, as Markdown tables.

    python benchmarks/verdict.py
    python benchmarks/verdict.py --parts even --methods nearest --different 3
    python benchmarks/verdict.py --parts sizes --methods xfeat:nearest --sizes 480,640

`even`, the same: the pairs of data/homography and data/pose, and the queries of
data/retrieval/museum with their paintings. Different: each query with the paintings most alike in
colours and with others, and pictures of two different sets. Planes (museum, homography) are
matched with a homography, scenes with a fundamental matrix, as `covis match` does when asked, or
by default. Right and wrong pairs weigh the same, as in the verdict.

`sizes`: at each size, for each method and geometry, how many are called the same of
- 500 pairs of unrelated photographs (paintings, coco128, PF-WILLOW, and of different sets),
- 200 of look-alikes: half paintings with the colours of a query's, half corridors, stairs and lifts
  of two floors of data/retrieval/tower, the most alike in colours,
- the pairs that show the same, as above.

Methods are features and matcher, "xfeat:nearest"; "nearest" alone is of the default features;
fast, auto and thorough are the efforts of `covis.match`; and lightglue is left out where its
weights are not installed. Nothing here was used to calibrate the
verdict.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import get_args

import common
import cv2
import numpy as np
from common import DATA

from covis import Extractor, Features, Matcher, Matches, verify
from covis.api import escalate
from covis.effort.pictures import Pictures, Tools
from covis.effort.plan import Plan
from covis.errors import ArgumentError
from covis.evaluation.datasets.pairs import read_pairs
from covis.evaluation.metrics.calibration import describe
from covis.evaluation.tables import markdown
from covis.geometry.agreement import View
from covis.geometry.look_alikes import judge_by_pictures
from covis.geometry.verdict import Calibration
from covis.images.decode import load_image
from covis.matching import needs_semi_dense
from covis.options import Effort, MatchOptions, RuntimeOptions
from covis.runtime.bundle import list_bundles
from covis.training.recipes.verdict import colours
from covis.types import GeometryKind, Verdict

LIGHT = "lightglue-xfeat-covis"
UNRELATED, LOOK_ALIKE_PAIRS = 500, 200
GEOMETRIES: tuple[GeometryKind, ...] = ("homography", "fundamental", "essential")
KEPT = 2000
"""Pictures and their features that stay in memory."""
LOOK_ALIKES = 2
"""Of a query's wrong paintings, how many are those with the most alike colours."""
FLOOR = "f00"
"""A picture of the tower begins with its floor, so long."""


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
    palettes = np.array([palette(path) for path in paintings])
    for index in np.linspace(0, len(entries) - 1, min(queries, len(entries))).astype(int):
        entry = entries[index]
        query = folder / "queries" / entry["query"]
        right = [i for i, path in enumerate(paintings) if path.name in entry["relevant"]]
        for i in right:
            yield Case(query, paintings[i], True, "museum", "homography")
        alike = np.argsort(-palettes @ palette(query), kind="stable")
        wrong = [i for i in alike if i not in right]
        others = rng.permutation(wrong[LOOK_ALIKES:])[: max(different - LOOK_ALIKES, 0)]
        for i in [*wrong[: min(LOOK_ALIKES, different)], *others]:
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


def unrelated(data: Path, count: int, rng: np.random.Generator) -> list[Case]:
    """Pairs of pictures of two groups, from some 200 pictures in all."""
    paths = {
        "paintings": sorted((data / "retrieval/museum/db").glob("*.jpg")),
        "photographs": sorted((data / "dense/coco128").rglob("*.jpg")),
    }
    chosen = [
        (path, path)
        for group in paths.values()
        for path in (group[i] for i in rng.permutation(len(group))[:60])
    ]
    folders = [*data.glob("homography/*/"), *data.glob("pose/*/")]
    folders += [path for path in (data / "dense/PF-WILLOW").rglob("*/") if any(path.glob("*.png"))]
    for folder in [*sorted(folders), data / "retrieval/tower/db"]:
        pictures = [
            path
            for path in sorted(folder.rglob("*"))
            if path.suffix in {".jpg", ".png", ".ppm"} and ".depth" not in path.name
        ]
        chosen += [(pictures[i], folder) for i in rng.permutation(len(pictures))[:4]]
    cases = []
    while len(cases) < count:
        (path0, group0), (path1, group1) = (chosen[rng.integers(len(chosen))] for _ in range(2))
        if group0 != group1:
            cases.append(Case(path0, path1, False, "unrelated", "fundamental"))
    return cases


def look_alikes(data: Path, count: int, rng: np.random.Generator) -> list[Case]:
    """Half paintings with the colours of a query's, half rooms of two floors."""
    paintings = [case for case in museum(data, LOOK_ALIKES, count // 4, rng) if not case.same]
    pictures = sorted((data / "retrieval/tower/db").glob("*.jpg"))
    palettes = np.array([palette(path) for path in pictures])
    floors = np.array([path.name[: len(FLOOR)] for path in pictures])
    rooms = []
    for i in rng.permutation(len(pictures))[: count // 4]:
        likeness = np.where(floors == floors[i], -1.0, palettes @ palettes[i])
        for j in np.argsort(-likeness, kind="stable")[:LOOK_ALIKES]:
            rooms.append(Case(pictures[i], pictures[j], False, "two floors", "fundamental"))
    return [*paintings, *rooms]


def palette(path: Path) -> np.ndarray:
    """The colours of a picture, (384,)."""
    return colours(cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4))


class Method:
    """Features and a matcher by name, which keep the features they found."""

    def __init__(self, name: str, max_keypoints: int, max_size: int) -> None:
        features, _, matcher = name.rpartition(":")
        self.extract = Extractor(
            features or None,
            max_keypoints=max_keypoints,
            max_size=max_size,
            semi_dense=needs_semi_dense(matcher),
            threads=1,
        )
        self.match = Matcher(matcher, features=self.extract.source, threads=1)
        self.features = functools.cache(self.extract)
        self.view = functools.cache(lambda path: View.of(load_image(path, max_size=max_size)))

    def verdicts(self, case: Case, kinds: Sequence[GeometryKind]) -> list[Verdict]:
        """One for each kind of geometry, as `covis.match` gives it."""
        pair = self.features(case.path0), self.features(case.path1)
        matches = self.match(*pair)
        views = self.view(case.path0), self.view(case.path1)
        found = [judge_by_pictures(verify(matches, *pair, kind), *views) for kind in kinds]
        return [each.verdict for each in found if each.verdict]


class EffortMethod:
    """`covis.match` with an effort; features are found once."""

    def __init__(self, effort: Effort, max_keypoints: int, max_size: int) -> None:
        self.options = MatchOptions(effort=effort, max_keypoints=max_keypoints, max_size=max_size)
        self.tools = Tools(self.options.extractor, RuntimeOptions(threads=1))
        self.plan = Plan.of(effort, None)
        self.picture = functools.lru_cache(KEPT)(
            lambda path: load_image(path, max_size=self.options.max_size)
        )
        self.features = functools.lru_cache(KEPT)(
            lambda path, features, view: (
                Pictures(lambda _: self.picture(path), self.tools).seen(0, features, view).features
            )
        )

    def verdicts(self, case: Case, kinds: Sequence[GeometryKind]) -> list[Verdict]:
        """One for each kind of geometry."""
        paths = case.path0, case.path1

        def check(found: Matches, kind: GeometryKind, one: Features, two: Features) -> Matches:
            return verify(found, one, two, kind)

        pictures = Pictures(
            lambda number: self.picture(paths[number]),
            self.tools,
            lambda number, *seen: self.features(paths[number], *seen),
        )
        asked = [dataclasses.replace(self.options, geometry=kind) for kind in kinds]
        found = [escalate(pictures, self.plan, check, options).verdict for options in asked]
        return [verdict for verdict in found if verdict]


def method_of(name: str, max_keypoints: int, max_size: int) -> Method | EffortMethod:
    """The one of a name on the command line."""
    kind = EffortMethod if name in get_args(Effort) else Method
    return kind(name, max_keypoints, max_size)


def by_group(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> str:
    """What was said of each group's pairs."""
    said = Counter((c.group, c.same, v.label) for c, v in zip(cases, verdicts, strict=True))
    labels = ("same", "unsure", "different")
    rows = []
    for group, same in dict.fromkeys((case.group, case.same) for case in cases):
        counts = [str(said[group, same, label]) for label in labels]
        rows.append([group, "same" if same else "different", *counts])
    return markdown(["pairs", "answer", *labels], rows)


def even(arguments: argparse.Namespace) -> None:
    """Right and wrong pairs by the geometry each asks for."""
    rng = np.random.default_rng(arguments.seed)
    cases = [
        *museum(DATA, arguments.different, arguments.queries, rng),
        *two_view(DATA, arguments.different, rng),
    ][:: arguments.every]
    same = [case.same for case in cases]
    thresholds = [0.5, 0.9, 0.99, Calibration.read().same]
    for name in arguments.methods:
        start = time.perf_counter()
        method = method_of(name, arguments.max_keypoints, arguments.max_size)
        verdicts = [method.verdicts(case, [case.kind])[0] for case in cases]
        print(f"## {name}\n")
        print("\n".join(describe([v.probability for v in verdicts], same, thresholds)))
        print(f"\n{by_group(cases, verdicts)}\n")
        loud = [(v.probability, c) for c, v in zip(cases, verdicts, strict=True) if not c.same]
        for probability, case in sorted(loud, key=lambda pair: -pair[0])[: arguments.worst]:
            print(f"{probability:.3f} {case.path0} {case.path1}", file=sys.stderr)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(
        f"xfeat-covis unless said, {arguments.max_keypoints} keypoints, images at most "
        f"{arguments.max_size} px."
    )


def sizes(arguments: argparse.Namespace) -> None:
    """What is called the same, by method, geometry and size."""
    rng = np.random.default_rng(arguments.seed)
    right = [*museum(DATA, 0, arguments.queries, rng), *two_view(DATA, 0, rng)]
    pools = {
        "unrelated": unrelated(DATA, UNRELATED, rng)[:: arguments.every],
        "look-alikes": look_alikes(DATA, LOOK_ALIKE_PAIRS, rng)[:: arguments.every],
        "right": right[:: arguments.every],
    }
    rows = []
    for name in arguments.methods:
        for size in arguments.sizes:
            method = method_of(name, arguments.max_keypoints, size)
            said: Counter[tuple[str, str]] = Counter()
            for pool, cases in pools.items():
                for case in cases:
                    for kind, verdict in zip(
                        GEOMETRIES, method.verdicts(case, GEOMETRIES), strict=True
                    ):
                        said[kind, pool] += verdict.label == "same"
            for kind in GEOMETRIES:
                shares = [f"{100 * said[kind, p] / len(cases):.1f}" for p, cases in pools.items()]
                rows.append([name, kind, str(size), *shares])
    titles = [f"{pool} ({len(cases)}), %" for pool, cases in pools.items()]
    print(f"Called the same:\n\n{markdown(['method', 'geometry', 'px', *titles], rows)}")


PARTS = {"even": even, "sizes": sizes}


def run(arguments: argparse.Namespace) -> None:
    common.check_known("part", arguments.parts, PARTS)
    cv2.setNumThreads(1)
    if LIGHT not in [bundle.name for bundle in list_bundles()]:
        left = [name for name in arguments.methods if name.rpartition(":")[2] != "lightglue"]
        if left != arguments.methods:
            print(f"lightglue left out: no weights {LIGHT}.\n", file=sys.stderr)
        arguments.methods = left
    for part in arguments.parts:
        PARTS[part](arguments)


def main() -> int:
    options = common.parser(__doc__, "--max-size")
    options.add_argument("--parts", type=common.names, default=list(PARTS))
    options.add_argument("--methods", type=common.names, default=["nearest", "lightglue"])
    options.add_argument(
        "--different", type=int, default=20, help="wrong pairs, a query or two sets"
    )
    options.add_argument("--queries", type=int, default=60, help="of the museum, at most")
    options.add_argument("--every", type=int, default=1, help="only every N-th pair")
    options.add_argument("--max-keypoints", type=int, default=2048)
    options.add_argument(
        "--sizes",
        type=lambda text: [int(n) for n in text.split(",")],
        default=[480, 640, 960, 1600],
    )
    options.add_argument("--worst", type=int, default=0, help="name so many wrong pairs")
    options.add_argument("--seed", type=int, default=0)
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
