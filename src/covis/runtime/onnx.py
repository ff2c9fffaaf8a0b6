"""Running a graph with ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from covis.errors import BundleError
from covis.options import RuntimeOptions, thread_count
from covis.runtime.bundle import Bundle
from covis.runtime.graph import Graph

# Where this is not set ONNX Runtime writes events into the user's cache when it is imported, and
# tries to send them; its own function to stop that comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime


class OnnxGraph:
    """One graph, loaded and ready."""

    def __init__(self, path: Path, runtime: RuntimeOptions | None = None) -> None:
        """Load the graph at `path`. Raises BundleError when it cannot be."""
        runtime = runtime or RuntimeOptions()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count(runtime.threads)
        options.log_severity_level = 3
        # Threads that spin between two graphs would take the processor from other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base class.
            raise BundleError(f"{path}: ONNX Runtime cannot load it ({error}).") from error

    def __call__(self, outputs: Sequence[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Run with named inputs; returns the named outputs in their order."""
        large = sum(array.nbytes for array in inputs.values()) > LARGE
        results: list[NDArray[Any]] = self._session.run(outputs, inputs, _tidy if large else None)
        return results


def _giving_back() -> onnxruntime.RunOptions:
    """For a run after which the graph gives the memory it worked in back to the system."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


_tidy = _giving_back()
LARGE = 8 * 2**20
"""Bytes of input above which a graph keeps nothing: else one picture at full size would hold
hundreds of megabytes for as long as the graph is open."""


def open_graphs(
    bundle: Bundle, roles: Iterable[str], runtime: RuntimeOptions | None = None
) -> dict[str, Graph]:
    """Graphs of a bundle by role. Raises BundleError when one is missing or cannot be loaded."""
    return {role: OnnxGraph(bundle.graph(role), runtime) for role in roles}
