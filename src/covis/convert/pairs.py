"""What several of the conversions need of a pair of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.types import Features, Matches


def matches_of(
    indices: NDArray[Any], scores: NDArray[Any], features0: Features, features1: Features
) -> Matches:
    """Matches of indices (K, 2) into two sets of features and their scores (K,), best first.

    Scores are cut to 0..1. Raises ArgumentError for an index that there is not.
    """
    sizes = np.array([len(features0), len(features1)])
    indices = np.asarray(indices, np.int64).reshape(-1, 2)
    wrong = ((indices < 0) | (indices >= sizes)).any(axis=1)
    if wrong.any():
        raise ArgumentError(
            f"match {wrong.argmax()} is of features {indices[wrong.argmax()].tolist()}, and there "
            f"are only {sizes[0]:,} and {sizes[1]:,}; were these features matched?"
        )
    order = np.argsort(-np.asarray(scores), kind="stable")
    indices = indices[order]
    return Matches(
        points0=features0.keypoints[indices[:, 0]],
        points1=features1.keypoints[indices[:, 1]],
        scores=np.clip(np.asarray(scores)[order], 0, 1).astype(np.float32),
        indices=indices,
        model=features0.model,
    )
