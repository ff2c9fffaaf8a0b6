"""What the code around a network asks of a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class Graph(Protocol):
    """One step of a network, on some backend: `OnnxGraph`, or `TorchGraph`."""

    def __call__(self, outputs: Sequence[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Run with named inputs; returns the named outputs in their order."""
