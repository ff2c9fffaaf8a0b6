"""How well features match pairs rendered from held-out photos, upright and turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from covis.evaluation.metrics.pose import area_under_curve, corner_error
from covis.features import Extractor
from covis.geometry import estimate_geometry
from covis.matching.nearest import mutual_nearest
from covis.nets.edgepoint import EdgePoint
from covis.training.data.synthetic import CELL, Difficulty, Pair, pixel_grid, render_pair
from covis.training.losses.edgepoint import KEYPOINT

SIZE = 448
KEYPOINTS = 1000
BORDER = 4
CORRECT_WITHIN = 3.0
"""Pixels between a match and the truth."""
THRESHOLDS = (3, 5, 7)

SETS = {
    "plane": Difficulty(planes_probability=0, bend_probability=0, light=1.2, tilt=45, zoom=2),
    "scene": Difficulty(planes_probability=1, light=1.2, tilt=45, zoom=2, rotation=20, shift=0.25),
    "turned": Difficulty(
        planes_probability=0, bend_probability=0, zoom=4, any_rotation_probability=1, light=1.0
    ),
}
"""Pairs of planes measure by the area under the curve of the corner error, mean over 3, 5 and 7
pixels; scenes of several planes by the share of keypoints that find their right counterpart."""

Extract = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float64], NDArray[np.float32]]]
"""A grey view (S, S) -> keypoints (N, 2), the centre of the top-left pixel at 0, and descriptors
(N, D) of unit length."""


def edgepoint_features(net: EdgePoint) -> Extract:
    """Features of a network in evaluation mode."""
    device = next(net.parameters()).device

    @torch.no_grad()
    def extract(view: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        image = torch.from_numpy(view)[None, None].float().to(device) / 255
        maps = net(image)
        places, _ = score_peaks(maps.scores[:, 0], KEYPOINTS, KEYPOINT)[0]
        found = sample(maps.descriptors[0], places.float())
        return places.cpu().numpy().astype(np.float64), found.cpu().numpy()

    return extract


def bundle_features(extractor: Extractor) -> Extract:
    """Features as the runtime extracts them, to compare with."""

    def extract(view: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        found = extractor(view)
        return np.asarray(found.keypoints - 0.5, np.float64), found.descriptors

    return extract


def score_peaks(
    scores: torch.Tensor, count: int, threshold: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The best maxima of 5x5 pixels in [B, H, W]: for each image [n, 2] int64 (x, y) and [n]."""
    inner = F.pad(scores[:, BORDER:-BORDER, BORDER:-BORDER], (BORDER,) * 4, value=-torch.inf)
    highest = F.max_pool2d(F.max_pool2d(inner, (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2))
    kept = torch.where((inner == highest) & (inner > threshold), inner, -torch.inf)
    best, places = kept.flatten(1).topk(count, dim=1)
    width = scores.shape[2]
    result = []
    for values, flat in zip(best, places, strict=True):
        flat = flat[values > -torch.inf]
        values = values[values > -torch.inf]
        result.append((torch.stack([flat % width, flat // width], dim=1), values))
    return result


def sample(descriptors: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[D, h, w] at pixels [N, 2] of the input, the top-left one's centre at 0 -> unit [N, D]."""
    sides = 4 * torch.tensor([descriptors.shape[2], descriptors.shape[1]]).to(points)
    grid = (2 * points + 1) / sides - 1
    taken = F.grid_sample(descriptors[None], grid[None, :, None], align_corners=False)
    return F.normalize(taken[0, :, :, 0].T, dim=1)


def validate(
    extract: Extract, photos: list[NDArray[Any]], seed: int, pairs: int = 24
) -> dict[str, float]:
    """Match `pairs` pairs of each of `SETS`. Returns a number for each, and their mean, "score"."""
    result: dict[str, float] = {}
    for number, (name, difficulty) in enumerate(SETS.items()):
        values = []
        for index in range(pairs):
            rng = np.random.default_rng((seed, index, number))
            pair = render_pair(photos, SIZE, difficulty, rng)
            (xy0, d0), (xy1, d1) = (extract(view) for view in pair.views)
            indices, _ = mutual_nearest(d0, d1)
            points0, points1 = xy0[indices[:, 0]], xy1[indices[:, 1]]
            if name == "scene":
                values.append(_correct(pair, points0, points1) / KEYPOINTS)
            else:
                values.append(_error(pair, points0, points1))
        if name == "scene":
            result[name] = float(np.mean(values))
        else:
            result[name] = float(np.mean([area_under_curve(values, t) for t in THRESHOLDS]))
    result["score"] = float(np.mean(list(result.values())))
    return result


def _error(pair: Pair, points0: NDArray[np.float64], points1: NDArray[np.float64]) -> float:
    """The corner error in pixels of the homography found."""
    cells = pixel_grid(SIZE)[::CELL, ::CELL]
    if pair.visible.sum() < 16:
        return float("inf")
    truth, _ = cv2.findHomography(pair.points0[pair.visible], cells[pair.visible])
    size = (SIZE, SIZE)
    found = estimate_geometry(points0, points1, "homography", size0=size, size1=size)
    if found.matrix is None or truth is None:
        return float("inf")
    return corner_error(found.matrix, np.asarray(truth, np.float64), size)


def _correct(pair: Pair, points0: NDArray[np.float64], points1: NDArray[np.float64]) -> int:
    """How many matches lie where the cells around them say; none where one is hidden."""
    if not len(points1):
        return 0
    x, y = (points1 / CELL).astype(np.float32).T[:, :, None]
    truth = cv2.remap(pair.points0, x, y, cv2.INTER_LINEAR)[:, 0]
    seen = cv2.remap(pair.visible.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0]
    close = np.linalg.norm(truth - points0, axis=1) <= CORRECT_WITHIN
    return int((close & (seen > 0.999)).sum())
