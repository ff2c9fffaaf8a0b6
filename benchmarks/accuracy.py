"""Two-view accuracy of several methods over ../shared/data, as one Markdown table.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --methods sift,xfeat,run/best.safetensors
    python benchmarks/accuracy.py --sets graf,boat --max-size 640 --json table.json

Methods: xfeat (the bundle in the package), sift (OpenCV, RootSIFT, ratio 0.8), another bundle's
name or folder, or a weights file with XFeat's official key names. Each takes 4096 features an
image and mutual nearest neighbours, or another --matcher and --max-keypoints; with --matcher
semi-dense, 10,000 semi-dense features, refined. With --scores, RANSAC tries the most similar
matches first, as `covis.match` does. Errors and thresholds are in pixels of the images as they
are matched. `covis eval pairs` measures one method, `covis reproduce` those with a name.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covis.errors import ArgumentError, CovisError
from covis.evaluation.benchmark import Settings
from covis.evaluation.datasets.pairs import PairSet, read_pairs
from covis.evaluation.method import Method
from covis.evaluation.metrics.two_view import Setup, TwoViewResult, evaluate_setups, pool
from covis.evaluation.protocol import Protocol

SHARED = Path(__file__).resolve().parents[2] / "shared"
PUBLISHED_XFEAT = SHARED / "weights" / "xfeat" / "xfeat.safetensors"


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


def row(method: str, result: TwoViewResult) -> list[str]:
    shares = " / ".join(f"{100 * value:.0f}" for value in result.share.values())
    areas = " / ".join(f"{100 * value:.1f}" for value in result.auc.values())
    return [
        result.name,
        str(len(result.matches)),
        method,
        shares,
        areas,
        f"{result.median_error:.2f}",
        f"{result.matches.mean():.0f}",
        f"{result.inliers.mean():.0f}",
    ]


def table(results: Sequence[tuple[str, TwoViewResult]]) -> str:
    """Markdown, the methods side by side for every set."""
    blocks = []
    for kind, unit in (("homography", "3/5/7 px"), ("pose", "5/10/20 deg")):
        of_kind = [(method, result) for method, result in results if result.kind == kind]
        if not of_kind:
            continue
        header = [kind, "pairs", "method", f"share at {unit}", f"AUC at {unit}"]
        header += ["median error", "matches", "inliers"]
        sets = list(dict.fromkeys(result.name for _, result in of_kind))
        rows = [row(m, r) for name in sets for m, r in of_kind if r.name == name]
        lines = [header, ["---"] * len(header), *rows]
        blocks.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(blocks)


def as_json(method: str, result: TwoViewResult) -> dict[str, Any]:
    """Numbers of one table row; errors that are infinite become null."""
    errors = [[e if np.isfinite(e) else None for e in pair] for pair in result.errors.tolist()]
    return {
        "method": method,
        "set": result.name,
        "kind": result.kind,
        "share": result.share,
        "auc": result.auc,
        "errors": errors,
        "matches": result.matches.tolist(),
        "inliers": result.inliers.tolist(),
    }


def run(arguments: argparse.Namespace) -> None:
    size = Protocol("", 0, (), (), longest=arguments.max_size)
    sets = [
        dataclasses.replace(each, pairs=tuple(map(size.sized, each.pairs)))
        for each in find_sets(SHARED / "data", arguments.sets)
    ]
    setup = Setup("poselib-prosac" if arguments.scores else "poselib", arguments.threshold)
    results: list[tuple[str, TwoViewResult]] = []
    for name in arguments.methods:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            method = make_method(name, arguments.matcher, Path(folder), arguments.max_keypoints)
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
    print(table(results))
    size = f"at most {arguments.max_size} px" if arguments.max_size else "at their own size"
    print(f"\nMeans over {arguments.seeds} RANSAC seeds. Images {size}.")
    if arguments.json:
        rows = [as_json(method, result) for method, result in results]
        arguments.json.write_text(json.dumps(rows, indent=1), "utf-8")


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", type=names, default=["sift", str(PUBLISHED_XFEAT), "xfeat"])
    parser.add_argument("--matcher", default="nearest", help="as covis.Matcher takes it")
    parser.add_argument("--max-keypoints", type=int, help="4096, semi-dense 10,000")
    parser.add_argument("--sets", type=names, help="names of folders; all when left out")
    parser.add_argument("--max-size", type=int, help="longer side in pixels; own size if left out")
    parser.add_argument("--seeds", type=int, default=3, help="how many RANSAC seeds to average")
    parser.add_argument("--threshold", type=float, help="inlier threshold in pixels")
    parser.add_argument("--scores", action="store_true", help="try the most similar first")
    parser.add_argument("--json", type=Path, help="write the numbers and every error there")
    try:
        run(parser.parse_args())
    except CovisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
