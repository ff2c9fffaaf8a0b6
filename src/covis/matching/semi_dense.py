"""Refinement of semi-dense matches to sub-cell accuracy (XFeat*, section 3.3 of the paper)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covis.runtime.bundle import Bundle
from covis.runtime.onnx import OnnxGraph
from covis.types import BoolArray, Features, FloatArray


class Refiner:
    """The refinement head of an XFeat bundle."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self._refine = OnnxGraph(bundle.graph("refine"), threads)

    def __call__(
        self,
        features0: Features,
        features1: Features,
        indices: NDArray[np.int64],
        min_confidence: float,
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Move the points of image 0 to where those of image 1 say they lie.

        indices: (N, 2) matched semi-dense features. Returns points of image 0 (K, 2), the
        confidences (K,) and which of the N matches were kept, (N,) bool.
        """
        if features0.pixel_sizes is None:
            raise ValueError("semi-dense features are needed")
        rows, columns = indices.T
        pairs = np.concatenate(
            [features0.descriptors[rows], features1.descriptors[columns]], axis=1
        )
        offsets, confidence = self._refine(["offsets", "confidence"], pairs=pairs)
        keep = confidence > min_confidence
        moved = features0.keypoints[rows] + offsets * features0.pixel_sizes[rows]
        return moved[keep], confidence[keep], keep
