"""Two-view accuracy of several methods over ../shared/data, as one Markdown table.

    python benchmarks/accuracy.py --methods sift,xfeat:../shared/weights/xfeat/xfeat.safetensors
    python benchmarks/accuracy.py --sets graf,boat --max-size 640 --json table.json

Methods: sift (OpenCV, 4096 features, RootSIFT, ratio 0.8 and mutual), kornia-xfeat (kornia's
XFeat with the published weights of ../shared, 4096 keypoints, mutual nearest neighbours without
a floor), xfeat:FILE (the same with any weights of official names), and covis:BUNDLE (covis'
own extractor and matcher; a bundle's name or folder). With --scores, RANSAC tries each method's
most similar matches first, as `covis.match` does.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, CovisError
from covis.evaluation.pairs import PairSet, read_pairs
from covis.evaluation.two_view import MatchFunction, TwoViewResult, evaluate_two_view, pool
from covis.features import Extractor
from covis.matching import Matcher
from covis.types import Matches

SHARED = Path(__file__).resolve().parents[2] / "shared"
PUBLISHED_XFEAT = SHARED / "weights" / "xfeat" / "xfeat.safetensors"
FEATURES = 4096

FloatArray = NDArray[np.float32]


class Described(NamedTuple):
    """points: (N, 2) in covis' full-size pixels. descriptors: (N, D), unit length."""

    points: FloatArray
    descriptors: FloatArray


Extract = Callable[[Path], Described]


def read_image(
    path: Path, flags: int, max_size: int | None
) -> tuple[NDArray[np.uint8], FloatArray]:
    """The image, its longer side at most max_size, and (x, y) full-size pixels a pixel."""
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ArgumentError(f"{path}: not a readable image.")
    height, width = image.shape[:2]
    if max_size is not None and max(width, height) > max_size:
        shrink = max_size / max(width, height)
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    scale = np.array([width / image.shape[1], height / image.shape[0]], np.float32)
    return np.asarray(image, np.uint8), scale


def nearest(first: Described, second: Described, ratio: float | None = None) -> Matches:
    """Mutual nearest neighbours; with a ratio, those whose runner-up is farther by that much."""
    similarity = first.descriptors @ second.descriptors.T
    if not similarity.size:
        empty = np.empty((0, 2), np.float32)
        return Matches(empty, empty, empty[:, 0])
    best1, best0 = similarity.argmax(1), similarity.argmax(0)
    keep = best0[best1] == np.arange(len(best1))
    if ratio is not None and similarity.shape[1] > 1:
        two = np.partition(similarity, -2, axis=1)[:, -2:]
        distance = np.sqrt(np.maximum(2 - 2 * two, 0))
        keep &= distance[:, 1] < ratio * distance[:, 0]
    rows = np.flatnonzero(keep)
    columns = best1[rows]
    return Matches(first.points[rows], second.points[columns], similarity[rows, columns])


def matcher(extract: Extract, ratio: float | None = None) -> MatchFunction:
    """A method from its extraction, which runs once an image."""
    cached = functools.cache(extract)
    return lambda path0, path1: nearest(cached(path0), cached(path1), ratio)


def sift(max_size: int | None) -> MatchFunction:
    detector = cv2.SIFT.create(nfeatures=FEATURES)

    def extract(path: Path) -> Described:
        image, scale = read_image(path, cv2.IMREAD_GRAYSCALE, max_size)
        keypoints, descriptors = detector.detectAndCompute(image, None)
        if descriptors is None:
            return Described(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
        points = np.array([keypoint.pt for keypoint in keypoints], np.float32)
        shares = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
        return Described((points + 0.5) * scale, np.sqrt(shares))

    return matcher(extract, ratio=0.8)


def xfeat(weights: Path, max_size: int | None) -> MatchFunction:
    import torch
    from kornia.feature import XFeat

    from covis.nets.xfeat import load_official

    model = XFeat(top_k=FEATURES)
    model.net.load_state_dict(load_official(weights).state_dict())
    model.eval()

    def extract(path: Path) -> Described:
        image, scale = read_image(path, cv2.IMREAD_COLOR_RGB, max_size)
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        found = model.detectAndCompute(tensor)[0]
        # kornia reports pixel i of its input, a multiple of 32 wide and high, at i * ratio.
        size = np.array([tensor.shape[3], tensor.shape[2]])
        half = 0.5 * size / np.maximum(32, size // 32 * 32)
        points = (found["keypoints"].numpy() + half) * scale
        return Described(points.astype(np.float32), found["descriptors"].numpy())

    return matcher(extract)


def own(bundle: str, max_size: int | None) -> MatchFunction:
    extract = Extractor(bundle, max_keypoints=FEATURES, max_size=max_size)
    cached = functools.cache(extract)
    match = Matcher()
    return lambda path0, path1: match(cached(path0), cached(path1))


def without_scores(match: MatchFunction) -> MatchFunction:
    """The same matches as bare points, none before another."""

    def bare(path0: Path, path1: Path) -> tuple[FloatArray, FloatArray]:
        found = match(path0, path1)
        return (found.points0, found.points1) if isinstance(found, Matches) else found

    return bare


def make_method(name: str, max_size: int | None) -> MatchFunction:
    """The method of a name on the command line. Raises ArgumentError for an unknown one."""
    if name == "sift":
        return sift(max_size)
    if name == "kornia-xfeat":
        return xfeat(PUBLISHED_XFEAT, max_size)
    if name.startswith("xfeat:"):
        return xfeat(Path(name.removeprefix("xfeat:")), max_size)
    if name.startswith("covis:"):
        return own(name.removeprefix("covis:"), max_size)
    known = "sift, kornia-xfeat, xfeat:FILE and covis:BUNDLE"
    raise ArgumentError(f"No method {name!r}; there are {known}.")


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
    sets = find_sets(SHARED / "data", arguments.sets)
    results: list[tuple[str, TwoViewResult]] = []
    for name in arguments.methods:
        match = make_method(name, arguments.max_size)
        if not arguments.scores:
            match = without_scores(match)
        start = time.perf_counter()
        found = [
            evaluate_two_view(
                match, pairs, seeds=range(arguments.seeds), threshold=arguments.threshold
            )
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
    parser.add_argument("--methods", type=names, default=["sift", "kornia-xfeat"])
    parser.add_argument("--sets", type=names, help="names of folders; all when left out")
    parser.add_argument("--max-size", type=int, help="longer side in pixels; own size if left out")
    parser.add_argument("--seeds", type=int, default=3, help="how many RANSAC seeds to average")
    parser.add_argument("--threshold", type=float, help="inlier threshold in full-size pixels")
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
