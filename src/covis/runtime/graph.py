"""What the code around a network asks of a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Graph(Protocol):
    """One step of a network, on some backend: `OnnxGraph`, or `TorchGraph`."""

    def __call__(self, outputs: Sequence[str], **inputs: Any) -> list[NDArray[Any]]:
        """Run with named inputs, arrays or what `on_device` gave; returns the named outputs in
        their order, where NumPy can read them."""

    def on_device(self, outputs: Sequence[str], **inputs: Any) -> list[Any]:
        """The same, but the outputs stay where the graph runs: arrays, or what gives rows of
        itself as these do, by a slice or by booleans, and has `numpy()`."""


def on_host(values: Any) -> NDArray[Any]:
    """What `Graph.on_device` gave, where NumPy can read it."""
    return values if isinstance(values, np.ndarray) else values.numpy()
