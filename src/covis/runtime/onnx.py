"""Running a graph with ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import threading
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
        self._session = _kept.session(path, thread_count((runtime or RuntimeOptions()).threads))

    def __call__(self, outputs: Sequence[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Run with named inputs; returns the named outputs in their order."""
        results: list[NDArray[Any]] = self._session.run(outputs, inputs)
        return results


KEPT_BYTES = 64_000_000
"""Of graphs' files: so many stay loaded, those used last; `covis.match` opens its own each time."""


class _Kept:
    """Sessions by file and threads. They serve several threads, but no forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[Any, tuple[int, onnxruntime.InferenceSession]] = {}

    def session(self, path: Path, threads: int) -> onnxruntime.InferenceSession:
        """Raises BundleError where the file cannot be loaded."""
        try:
            status = os.stat(path)
        except OSError as error:
            why = error.strerror
            raise BundleError(f"{path}: ONNX Runtime cannot load it ({why}).") from error
        file = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
        key = os.getpid(), os.fspath(path), file, threads
        with self._lock:
            size, session = self._sessions.pop(key, (status.st_size, None))
            session = session or _loaded(path, threads)
            self._sessions[key] = size, session
            while sum(size for size, _ in self._sessions.values()) > KEPT_BYTES:
                del self._sessions[next(iter(self._sessions))]
        return session


_kept = _Kept()


def _loaded(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between two graphs would take the processor from other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class.
        raise BundleError(f"{path}: ONNX Runtime cannot load it ({error}).") from error


def open_graphs(
    bundle: Bundle, roles: Iterable[str], runtime: RuntimeOptions | None = None
) -> dict[str, Graph]:
    """Graphs of a bundle by role. Raises BundleError when one is missing or cannot be loaded."""
    return {role: OnnxGraph(bundle.graph(role), runtime) for role in roles}
