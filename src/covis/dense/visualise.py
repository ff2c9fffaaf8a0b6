"""Dense features made visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covis.dense.features import DenseFeatures
from covis.types import FloatArray

SAMPLED = 10_000
"""Descriptors of each map that the principal components are taken from."""


def pca_colours(maps: Sequence[DenseFeatures]) -> list[NDArray[np.uint8]]:
    """Each map's first three principal components as red, green and blue: (h, w, 3) uint8.

    The components are those of all maps together, so that a colour means the same in each; of a
    component, the middle 98 % of the values span the colour.
    """
    sampled = []
    for features in maps:
        cells = features.descriptors.reshape(-1, features.descriptors.shape[2])
        sampled.append(cells[:: -(-len(cells) // SAMPLED)])
    together = np.concatenate(sampled)
    mean = together.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((together - mean).T, bias=True))
    axes = vectors[:, :-4:-1].astype(np.float32)
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    low, high = np.percentile((together - mean) @ axes, (1, 99), axis=0).astype(np.float32)
    return [
        np.rint(
            255 * np.clip(((features.descriptors - mean) @ axes - low) / (high - low + 1e-12), 0, 1)
        ).astype(np.uint8)
        for features in maps
    ]


def likeness(
    features: DenseFeatures, point: FloatArray, source: DenseFeatures | None = None
) -> FloatArray:
    """The cosine of every cell with a place (x, y) in full-size pixels: (h, w).

    source: the picture that the place lies in, another one of the same model's; itself by default.
    """
    (descriptor,) = (source or features).at(np.reshape(point, (1, 2)))
    alike: FloatArray = features.descriptors @ descriptor
    return alike
