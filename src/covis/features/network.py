"""What the networks for local features share: the graphs of a bundle, and the way back to pixels
of the full image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.options import RuntimeOptions
from covis.runtime.bundle import Bundle
from covis.runtime.graph import Graph
from covis.runtime.onnx import LARGE, open_graphs
from covis.types import Features, FloatArray, Image

BATCH = 4
"""Images that go through a network at a time: more take memory and save nothing."""
BATCH_PIXELS = LARGE // np.dtype(np.float32).itemsize
"""Of these together, unless one has more: after more the graph gives its memory back, and to get it
again took a third of the time of pictures of 0.6 megapixels in fours."""


class Network:
    """The network of one bundle, on images; a subclass adds what `LocalFeatures` asks for.

    ROLES: of the graphs that it runs.
    """

    ROLES: tuple[str, ...] = ("detect",)

    def __init__(
        self,
        bundle: Bundle,
        runtime: RuntimeOptions | None = None,
        *,
        graphs: Mapping[str, Graph] | None = None,
    ) -> None:
        """graphs: what to run in place of the bundle's own, by role.

        Raises BundleError when a graph is missing or cannot be loaded, or the settings are wrong.
        """
        self.bundle = bundle
        self.configure(bundle.settings)
        self.graphs = graphs or open_graphs(bundle, self.ROLES, runtime)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Take from `Bundle.settings` what the network needs of them: by default nothing."""

    def features(
        self,
        image: Image,
        shape: Sequence[int],
        xy: NDArray[np.intp] | FloatArray,
        scores: FloatArray,
        descriptors: FloatArray,
        global_descriptor: FloatArray | None = None,
    ) -> Features:
        """The features of an image that the network saw at a shape (height, width).

        xy: (N, 2) pixels of it, (x, y), the centre of the top-left one at (0, 0).
        """
        factor = np.array([image.width / shape[1], image.height / shape[0]], np.float32)
        return Features(
            keypoints=(xy.astype(np.float32) + np.float32(0.5)) * factor,
            scores=scores,
            descriptors=descriptors,
            width=image.width,
            height=image.height,
            model=self.bundle.name,
            global_descriptor=global_descriptor,
        )


def batches(inputs: Sequence[FloatArray]) -> Iterator[tuple[list[int], FloatArray]]:
    """A network's inputs (H, W), those of one size a few together.

    Gives their places in `inputs`, and the batch (B, 1, H, W).
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, each in enumerate(inputs):
        by_shape.setdefault(each.shape, []).append(index)
    for members in by_shape.values():
        pixels = inputs[members[0]].size
        step = max(1, min(BATCH, BATCH_PIXELS // max(pixels, 1)))
        for begin in range(0, len(members), step):
            part = members[begin : begin + step]
            if len(part) == 1:
                yield part, inputs[part[0]][None, None]
            else:
                yield part, np.stack([inputs[index] for index in part])[:, None]
