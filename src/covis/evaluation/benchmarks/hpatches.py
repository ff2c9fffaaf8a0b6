"""HPatches (Balntas et al., CVPR 2017): homographies of planes, sequences of six pictures.

Protocol "XFeat" (section 4.2): mean homography accuracy, the share of pairs with at most 3, 5, 7
pixels of corner error, by MAGSAC++, for changes of light and of viewpoint. That pictures have their
own size and the threshold is 3 pixels are our assumptions.

Protocol "LightGlue" (section 5.1): shorter sides of 480 pixels, 1024 keypoints; precision and
recall of the matches at 3 pixels, and areas under the recall of corner errors up to 1, 3 and 5
pixels, by OpenCV's RANSAC with its best threshold and by a weighted direct linear transform of all
matches. A match is right when its reprojection error, the mean of both directions, is below 3
pixels; the true matches are the keypoints that are each other's nearest and so close.

The published layout is a folder with `i_*` and `v_*`, each of which holds `1.ppm` to `6.ppm` and
`H_1_2` to `H_1_6`, which map picture 1 to the others, the top-left pixel's centre at (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.datasets.pairs import HALF_PIXEL, HomographyPair, Pair, PairSet, image_size
from covis.evaluation.method import Method
from covis.evaluation.metrics.two_view import TwoViewResult
from covis.evaluation.protocol import SEARCHED, Protocol, chosen, counting, measure, sampled
from covis.types import FloatArray, Matches, Matrix

XFEAT = Protocol("XFeat", 4096, ("opencv-magsac",), (3.0,))
LIGHTGLUE = Protocol("LightGlue", 1024, ("opencv", "dlt"), SEARCHED, shortest=480)

LARGE = frozenset(
    (
        "i_contruction",
        "i_crownnight",
        "i_dc",
        "i_pencils",
        "i_whitebuilding",
        "v_artisans",
        "v_astronautis",
        "v_talent",
    )
)
"""Sequences of pictures so large that D2-Net left them out, and most since."""

PARTS = {"i": "illumination", "v": "viewpoint"}
RIGHT_WITHIN = 3.0
"""Pixels of reprojection error."""


def run(data: Path, settings: Settings, report: Report) -> list[Row]:
    sets = sampled(read_hpatches(data, large=settings.large), settings)
    protocols = chosen((XFEAT, LIGHTGLUE), settings)
    tick = counting(report, len(protocols) * sum(len(each.pairs) for each in sets))
    rows: list[Row] = []
    for protocol in protocols:
        method = Method(settings, protocol.max_keypoints)
        if protocol.name == XFEAT.name:
            rows += measure(protocol, method, sets, _accuracies, settings, tick)
        else:
            rows += _lightglue(protocol, method, sets, settings, tick)
    return rows


def read_hpatches(data: str | Path, *, large: bool = False) -> list[PairSet]:
    """The pairs of all sequences with changes of light, and those of viewpoint.

    large: with the sequences of LARGE. Raises ArgumentError that names the file when a picture or
    a homography is missing or damaged, or there is no sequence.
    """
    data = Path(data)
    sets = []
    for prefix, part in PARTS.items():
        pairs: list[Pair] = []
        for folder in sorted(data.glob(f"{prefix}_*/")):
            if large or folder.name not in LARGE:
                pairs += [_read_pair(folder, k) for k in range(2, 7)]
        if pairs:
            sets.append(PairSet(part, "homography", tuple(pairs)))
    if not sets:
        raise ArgumentError(f"{data}: no sequences i_* or v_* there.")
    return sets


def precision_of(points0: FloatArray, points1: FloatArray, homography_1from0: Matrix) -> float:
    """The share of matches (N, 2) that are right, see above, 0..1; 0 without any."""
    if not len(points0):
        return 0.0
    return float(np.mean(_errors(points0, points1, homography_1from0) < RIGHT_WITHIN))


def recall_of(
    points0: FloatArray,
    points1: FloatArray,
    keypoints0: FloatArray,
    keypoints1: FloatArray,
    homography_1from0: Matrix,
) -> float:
    """The share of the true matches of keypoints (A, 2), (B, 2) that are among (N, 2), 0..1.

    NaN where there are no true ones.
    """
    true = _true_matches(keypoints0, keypoints1, homography_1from0)
    if not len(true):
        return np.nan
    found = set(map(tuple, np.hstack([points0, points1]).tolist()))
    wanted = np.hstack([keypoints0[true[:, 0]], keypoints1[true[:, 1]]]).tolist()
    return sum(tuple(each) in found for each in wanted) / len(wanted)


def _read_pair(folder: Path, k: int) -> HomographyPair:
    path = folder / f"H_1_{k}"
    try:
        truth = np.loadtxt(path)
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error}).") from error
    except ValueError as error:
        raise ArgumentError(f"{path}: not a matrix of numbers ({error}).") from error
    if truth.shape != (3, 3) or not np.isfinite(truth).all():
        raise ArgumentError(f"{path}: must be a 3 x 3 matrix of finite numbers.")
    path0, path1 = folder / "1.ppm", folder / f"{k}.ppm"
    size0, size1 = (image_size(each, str(folder)) for each in (path0, path1))
    shifted = HALF_PIXEL @ truth @ np.linalg.inv(HALF_PIXEL)
    return HomographyPair(path0, path1, size0, size1, shifted)


def _accuracies(result: TwoViewResult) -> Mapping[str, float]:
    return {f"MHA@{t}": 100 * value for t, value in result.shares((3, 5, 7)).items()}


def _areas(result: TwoViewResult) -> Mapping[str, float]:
    return {f"AUC@{t}px": 100 * value for t, value in result.areas((1, 3, 5)).items()}


def _lightglue(
    protocol: Protocol,
    method: Method,
    sets: list[PairSet],
    settings: Settings,
    tick: Callable[[], None],
) -> list[Row]:
    told: list[tuple[float, float]] = []

    def match(pair: Pair) -> Matches:
        assert isinstance(pair, HomographyPair)
        found = method.match(pair)
        matrix = pair.homography_1from0
        precision = precision_of(found.points0, found.points1, matrix)
        recall = np.nan
        if method.has_sparse_keypoints:
            recall = recall_of(found.points0, found.points1, *method.keypoints(pair), matrix)
        told.append((precision, recall))
        return found

    rows = measure(protocol, method, sets, _areas, settings, tick, match)
    counts = [len(each.pairs) for each in sets]
    ends = np.cumsum(counts)
    names = [each.name for each in sets]
    parts = {name: told[end - n : end] for name, n, end in zip(names, counts, ends, strict=True)}
    if len(sets) > 1:
        parts["all"] = told
    for part, values in parts.items():
        precisions, recalls = np.array(values).T
        known = recalls[np.isfinite(recalls)]
        figures = {
            "precision@3px": 100 * float(precisions.mean()),
            "recall@3px": 100 * float(known.mean()) if len(known) else np.nan,
        }
        rows.append(Row(f"{protocol.name}, matches", method.name, part, figures, len(values)))
    return rows


def _true_matches(
    keypoints0: FloatArray, keypoints1: FloatArray, homography_1from0: Matrix
) -> NDArray[np.int64]:
    """(M, 2) indices of keypoints that are each other's nearest, and near enough to be right."""
    if not (len(keypoints0) and len(keypoints1)):
        return np.empty((0, 2), np.int64)
    forward = _map(homography_1from0, keypoints0)
    backward = _map(_inverse(homography_1from0), keypoints1)
    there = np.linalg.norm(forward[:, None] - keypoints1[None], axis=2)
    back = np.linalg.norm(keypoints0[:, None] - backward[None], axis=2)
    error = np.where(np.isfinite(there + back), (there + back) / 2, np.inf)
    nearest1, nearest0 = error.argmin(axis=1), error.argmin(axis=0)
    indices0 = np.arange(len(keypoints0))
    mutual = nearest0[nearest1] == indices0
    near = error[indices0, nearest1] < RIGHT_WITHIN
    return np.column_stack([indices0, nearest1])[mutual & near]


def _errors(points0: FloatArray, points1: FloatArray, homography_1from0: Matrix) -> Matrix:
    """(N,) reprojection errors in pixels, the mean of both directions."""
    there = np.linalg.norm(_map(homography_1from0, points0) - points1, axis=1)
    back = np.linalg.norm(_map(_inverse(homography_1from0), points1) - points0, axis=1)
    return np.asarray((there + back) / 2, np.float64)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _map(matrix: Matrix, points: FloatArray) -> Matrix:
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)
