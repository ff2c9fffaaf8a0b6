"""How well a network matches pairs rendered from held-out photos: what picks the best weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from covis.evaluation.metrics.pose import area_under_curve, corner_error
from covis.export.xfeat import DetectGraph, fold_norms
from covis.features.xfeat import peaks, sample_descriptors
from covis.geometry import estimate_geometry
from covis.matching.nearest import mutual_nearest
from covis.nets.xfeat import XFeat
from covis.training.data.synthetic import CELL, Difficulty, Pair, pixel_grid, render_pair

SIZE = 480
KEYPOINTS = 1000
CORRECT_WITHIN = 3.0
"""Pixels between a match and the truth."""
THRESHOLDS = (3, 5, 7)
"""Pixels of corner error under which the area is taken, as in the paper's tables."""


@torch.no_grad()
def validate(
    net: XFeat, photos: list[NDArray[Any]], difficulty: Difficulty, seed: int, pairs: int = 24
) -> dict[str, float]:
    """Match `pairs` planes and as many scenes of several planes, by sparse extraction.

    Returns "homography", the area under the curve of the corner error, mean over 3, 5 and 7
    pixels; "correct", the share of the 1000 keypoints that find their right counterpart in the
    scenes; and "score", the mean of the two.
    """
    graph = DetectGraph(fold_norms(net)).to(next(net.parameters()).device)
    flat = replace(difficulty, planes_probability=0, bend_probability=0)
    deep = replace(difficulty, planes_probability=1)
    errors, correct = [], []
    for index in range(pairs):
        pair = render_pair(photos, SIZE, flat, np.random.default_rng((seed, index, 2)))
        points0, points1 = _match(graph, pair)
        # From the middle of pixels to OpenCV's and the renderer's corners: both shift alike.
        cells = pixel_grid(SIZE)[::CELL, ::CELL]
        truth, _ = cv2.findHomography(pair.points0[pair.visible], cells[pair.visible])
        size = (SIZE, SIZE)
        found = estimate_geometry(points0, points1, "homography", size0=size, size1=size)
        errors.append(
            float("inf")
            if found.matrix is None or truth is None
            else corner_error(found.matrix, np.asarray(truth, np.float64), size)
        )
        pair = render_pair(photos, SIZE, deep, np.random.default_rng((seed, index, 3)))
        correct.append(_correct(pair, *_match(graph, pair)) / KEYPOINTS)
    homography = float(np.mean([area_under_curve(errors, t) for t in THRESHOLDS]))
    share = float(np.mean(correct))
    return {"homography": homography, "correct": share, "score": (homography + share) / 2}


def _match(graph: DetectGraph, pair: Pair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mutual nearest neighbours: (N, 2) pixels of view 0 and view 1, a pixel's centre at 0."""
    images = torch.from_numpy(pair.views)[:, None].float() / 255
    device = next(graph.parameters()).device
    heat, maps, reliability, _ = (o.cpu().numpy() for o in graph(images.to(device)))
    found = []
    for view in range(2):
        xy, _ = peaks(heat[view], reliability[view], KEYPOINTS, 0.05)
        found.append((xy, sample_descriptors(maps[view], xy, (SIZE, SIZE))))
    indices, _ = mutual_nearest(found[0][1], found[1][1])
    return (
        found[0][0][indices[:, 0]].astype(np.float64),
        found[1][0][indices[:, 1]].astype(np.float64),
    )


def _correct(pair: Pair, points0: NDArray[np.float64], points1: NDArray[np.float64]) -> int:
    """How many matches lie where the cells around them say; none where one is hidden."""
    if not len(points1):
        return 0
    x, y = (points1 / CELL).astype(np.float32).T[:, :, None]
    truth = cv2.remap(pair.points0, x, y, cv2.INTER_LINEAR)[:, 0]
    seen = cv2.remap(pair.visible.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0]
    close = np.linalg.norm(truth - points0, axis=1) <= CORRECT_WITHIN
    return int((close & (seen > 0.999)).sum())
