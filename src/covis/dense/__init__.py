"""A descriptor at every place of an image. Needs no PyTorch."""

from covis.dense.features import DenseExtractor, DenseFeatures, enlarge
from covis.dense.keypoints import pck, transfer

__all__ = ["DenseExtractor", "DenseFeatures", "enlarge", "pck", "transfer"]
