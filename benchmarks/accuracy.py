"""Two-view accuracy of several methods over ../shared/data, as one Markdown table.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --methods sift,xfeat,run/best.safetensors
    python benchmarks/accuracy.py --sets graf,boat --max-size 640 --json table.json

Methods: xfeat (the bundle in the package), sift (OpenCV, RootSIFT, ratio 0.8), another bundle's
name or folder, or a weights file with XFeat's official key names; "name:matcher" for a matcher of
its own; or fast, auto, thorough, the efforts of `covis.match`. Each takes 4096 features an
image and mutual nearest neighbours, or another --matcher and --max-keypoints; with --matcher
semi-dense, 10,000 semi-dense features, refined. With --scores, RANSAC tries the most similar
matches first, as `covis.match` does. Errors and thresholds are in pixels of the images as they
are matched. `covis eval pairs` measures one method, `covis reproduce` those with a name.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import common
from common import DATA, XFEAT

import covis
from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks.pairs import figures
from covis.evaluation.datasets.pairs import Pair, PairSet, PosePair, read_pairs
from covis.evaluation.method import Method
from covis.evaluation.metrics.two_view import Setup, TwoViewResult, evaluate_setups, pool
from covis.evaluation.protocol import Protocol, detail_of
from covis.evaluation.tables import Row, figures_table, rows_json
from covis.images.decode import load_image
from covis.options import Effort
from covis.types import Matches


def make_method(
    name: str,
    matcher: str,
    folder: Path,
    max_keypoints: int | None = None,
    full_depth: bool = False,
) -> Method:
    """The method of a name on the command line.

    folder: takes a bundle of the weights where they are a file. max_keypoints: the matcher's
    own number by default. full_depth: see `covis.Matcher`.
    """
    if Path(name).is_file():
        from covis.export.xfeat import export_xfeat
        from covis.nets.xfeat import load_official

        export_xfeat(load_official(name), folder / "new", name="new", licence="", source=name)
        name = str(folder / "new")
    return Method(
        Settings(features=name, matcher=matcher, max_keypoints=max_keypoints, full_depth=full_depth)
    )


class EffortMethod:
    """`covis.match` with an effort, on the pictures of pairs at their sizes.

    seconds: that each pair took.
    """

    def __init__(self, effort: Effort, max_keypoints: int | None, threads: int | None) -> None:
        self._options = {"effort": effort, "max_keypoints": max_keypoints, "threads": threads}
        self.seconds: list[float] = []

    def match(self, pair: Pair) -> Matches:
        """With the geometry that the pair is measured by, and its cameras."""
        images = [
            dataclasses.replace(load_image(path, max_size=max(size)), width=size[0], height=size[1])
            for path, size in ((pair.path0, pair.size0), (pair.path1, pair.size1))
        ]
        cameras = {}
        if isinstance(pair, PosePair):
            cameras = {"camera0": pair.camera0, "camera1": pair.camera1}
        geometry = "essential" if cameras else "homography"
        began = time.perf_counter()
        found = covis.match(*images, geometry=geometry, max_size=0, **cameras, **self._options)
        self.seconds.append(time.perf_counter() - began)
        return found


def find_sets(data: Path, names: Sequence[str] | None) -> list[PairSet]:
    """The sets of pairs under data/homography and data/pose, all or those named."""
    folders = sorted(data.glob("homography/*/")) + sorted(data.glob("pose/*/"))
    if not folders:
        raise ArgumentError(f"{data}: no sets of pairs in homography/ or pose/ there.")
    known = [folder.name for folder in folders]
    for name in names or ():
        if name not in known:
            raise ArgumentError(f"No set {name!r} under {data}; there are {', '.join(known)}.")
    return [read_pairs(folder) for folder in folders if names is None or folder.name in names]


def row_of(method: str, result: TwoViewResult) -> Row:
    """Areas, shares and counts as `covis eval pairs` has them, and every pair's errors."""
    found = {**figures(result), "median error": result.median_error}
    detail = detail_of(result)
    return Row(result.kind, method, result.name, found, len(result.matches), detail=detail)


def table(results: Sequence[tuple[str, TwoViewResult]]) -> str:
    """Markdown: of each kind the methods side by side for every set."""
    blocks = []
    for kind in dict.fromkeys(result.kind for _, result in results):
        of_kind = [(method, result) for method, result in results if result.kind == kind]
        sets = list(dict.fromkeys(result.name for _, result in of_kind))
        of_kind.sort(key=lambda each: sets.index(each[1].name))
        blocks.append(figures_table([(kind, row_of(*each)) for each in of_kind], digits=2))
    return "\n\n".join(blocks)


def run(arguments: argparse.Namespace) -> None:
    size = Protocol("", 0, (), (), longest=arguments.max_size)
    sets = [
        dataclasses.replace(each, pairs=tuple(map(size.sized, each.pairs)))
        for each in find_sets(DATA, arguments.sets)
    ]
    setup = Setup("poselib-prosac" if arguments.scores else "poselib", arguments.threshold)
    results: list[tuple[str, TwoViewResult]] = []
    for name in arguments.methods:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            method: Method | EffortMethod
            if name in get_args(Effort):
                method = EffortMethod(name, arguments.max_keypoints, arguments.threads)
            else:
                features, _, matcher = name.partition(":")
                matcher = matcher or arguments.matcher
                method = make_method(features, matcher, Path(folder), arguments.max_keypoints)
            found = [
                evaluate_setups(method.match, pairs, [setup], seeds=range(arguments.seeds))[setup]
                for pairs in sets
            ]
        for kind in ("homography", "pose"):
            of_kind = [result for result in found if result.kind == kind]
            if len(of_kind) > 1:
                found.append(pool(of_kind, f"all {kind}"))
        results += [(name, result) for result in found]
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        if isinstance(method, EffortMethod):
            mean, most = statistics.mean(method.seconds), max(method.seconds)
            print(f"{name}: {mean:.2f} s a pair, at most {most:.2f}", file=sys.stderr)
    print(table(results))
    size = f"at most {arguments.max_size} px" if arguments.max_size else "at their own size"
    print(f"\nMeans over {arguments.seeds} RANSAC seeds. Images {size}.")
    if arguments.json:
        rows = [row_of(method, result) for method, result in results]
        arguments.json.write_text(rows_json(rows), "utf-8")


def main() -> int:
    options = common.parser(__doc__, "--json", "--threads")
    options.add_argument("--methods", type=common.names, default=["sift", str(XFEAT), "xfeat"])
    options.add_argument("--matcher", default="nearest", help="as covis.Matcher takes it")
    options.add_argument("--max-keypoints", type=int, help="4096, semi-dense 10,000")
    options.add_argument("--sets", type=common.names, help="names of folders; all when left out")
    options.add_argument("--max-size", type=int, help="longer side in pixels; own size if left out")
    options.add_argument("--seeds", type=int, default=3, help="how many RANSAC seeds to average")
    options.add_argument("--threshold", type=float, help="inlier threshold in pixels")
    options.add_argument("--scores", action="store_true", help="try the most similar first")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
