"""A vector for a whole image from its local descriptors, where the model gives none itself.

Second-moment pooling: the descriptors' outer products, weighted by score, are averaged; the
matrix square root of the mean lets frequent directions count less; its upper triangle is
projected to fewer numbers by a fixed random matrix, which nearly keeps inner products. Nothing
in it is learnt.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from covis.types import Features, FloatArray

POOLED_DIMENSION = 512


def global_vector(features: Features) -> FloatArray:
    """(G,) float32 of unit length; zeros for an image without features."""
    if features.global_descriptor is not None:
        return features.global_descriptor
    return pool(features.descriptors, features.scores)


def pool(descriptors: FloatArray, scores: FloatArray) -> FloatArray:
    """(N, D) descriptors of unit length, (N,) scores -> (512,) float32, unit length or zeros."""
    weights = np.maximum(scores, 0)
    if not weights.any():
        return np.zeros(POOLED_DIMENSION, np.float32)
    # The root of what float32 rounds to nearly nothing would be noise.
    exact = descriptors.astype(np.float64)
    values, vectors = np.linalg.eigh((exact * (weights / weights.sum())[:, None]).T @ exact)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    rows, columns = np.triu_indices(len(root))
    # What stands off the diagonal stands there twice.
    flat = root[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))
    pooled = flat.astype(np.float32) @ _projection(len(flat))
    return np.asarray(pooled / np.linalg.norm(pooled), np.float32)


@cache
def _projection(size: int) -> FloatArray:
    # RandomState's numbers are the same for ever; those of newer generators are not promised to be.
    drawn = np.random.RandomState(0).standard_normal((size, POOLED_DIMENSION))
    return drawn.astype(np.float32)
