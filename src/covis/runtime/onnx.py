"""Running a graph with ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
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

KEPT = 64
"""Graphs that stay opened in a process; LightGlue has 20."""


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
    """Graphs of a bundle by role. Raises BundleError when one is missing or cannot be loaded.

    Those that were opened last in this process are kept: each call of `covis.match` asks for them.
    """
    threads = thread_count((runtime or RuntimeOptions()).threads)
    return {role: _opened(*_identity(bundle.graph(role)), threads, os.getpid()) for role in roles}


def _identity(path: Path) -> tuple[Path, tuple[int, int, int]]:
    """A file, and what tells whether it is the same one still."""
    try:
        found = path.stat()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}).") from error
    return path.absolute(), (found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _opened(path: Path, state: tuple[int, int, int], threads: int, process: int) -> OnnxGraph:
    """Opened once a process: the threads of a graph do not live on in a fork's child."""
    return OnnxGraph(path, RuntimeOptions(threads=threads))


def _forget() -> None:
    """In a fork's child: put away what the parent opened, without closing it, which would wait for
    threads that are not there."""
    global _opened
    _left_alone.append(_opened)
    _opened = lru_cache(maxsize=KEPT)(_opened.__wrapped__)


_left_alone: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
