"""Running graphs with ONNX Runtime, on the device that `runtime.devices` chose."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.errors import BundleError
from covis.options import RuntimeOptions, thread_count
from covis.runtime.bundle import INT8, Bundle
from covis.runtime.devices import DEVICES, PROBE, chosen, fast_int8, prepared, providers
from covis.runtime.graph import Graph

# After the devices, which see to it that it sends nothing.
import onnxruntime  # isort: skip

KEPT = 64
"""Graphs that stay opened in a process; LightGlue has 20."""


class DeviceArray:
    """Rows of numbers that stay on a device: what `OnnxGraph.on_device` gives and graphs take."""

    def __init__(self, value: Any, device: str) -> None:
        """value: ONNX Runtime's, (N, D). device: see `DEVICES`."""
        self.value, self._device = value, device

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> DeviceArray:
        """Some of the rows, in their order."""
        index = np.arange(self.value.shape()[0])[rows]
        (taken,) = _rows(self._device).on_device(["rows"], x=self, index=index)
        found: DeviceArray = taken
        return found

    def numpy(self) -> NDArray[Any]:
        """The same where NumPy can read it."""
        found: NDArray[Any] = self.value.numpy()
        return found


class OnnxGraph:
    """One graph, loaded and ready."""

    def __init__(self, path: Path, runtime: RuntimeOptions | None = None) -> None:
        """Load the graph at `path`. Raises BundleError when it cannot be."""
        runtime = runtime or RuntimeOptions()
        threads, self.device = thread_count(runtime.threads), chosen(runtime.device)
        options = prepared(onnxruntime.SessionOptions(), self.device)
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that spin between two graphs would take the processor from other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=providers(self.device, threads)
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base class.
            where = "" if self.device == "cpu" else f" for the device '{self.device}'"
            raise BundleError(f"{path}: ONNX Runtime cannot load it{where} ({error}).") from error
        row = DEVICES.get(self.device)
        self._memory = "cpu" if row is None else row.memory
        self._turn = nullcontext() if row is None or row.shared else threading.Lock()

    def __call__(
        self, outputs: Sequence[str], **inputs: NDArray[Any] | DeviceArray
    ) -> list[NDArray[Any]]:
        """Run with named inputs; returns the named outputs in their order."""
        if any(isinstance(each, DeviceArray) for each in inputs.values()):
            return [each.numpy() for each in self._bound(outputs, inputs, "cpu")]
        arrays: dict[str, Any] = inputs
        large = sum(array.nbytes for array in arrays.values()) > LARGE
        tidy = _tidy if large and self.device == "cpu" else None
        with self._turn:
            results: list[NDArray[Any]] = self._session.run(outputs, arrays, tidy)
        return results

    def on_device(self, outputs: Sequence[str], **inputs: Any) -> list[Any]:
        """The same; on a device other than the processor what comes out stays there."""
        if self.device == "cpu":
            return self(outputs, **inputs)
        found = self._bound(outputs, inputs, self._memory)
        return [DeviceArray(value, self.device) for value in found]

    def _bound(self, outputs: Sequence[str], inputs: dict[str, Any], memory: str) -> list[Any]:
        """ONNX Runtime's values of the outputs, in a memory."""
        binding = self._session.io_binding()
        for name, given in inputs.items():
            if isinstance(given, DeviceArray):
                binding.bind_ortvalue_input(name, given.value)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(given))
        for name in outputs:
            binding.bind_output(name, memory)
        with self._turn:
            self._session.run_with_iobinding(binding)
        found: list[Any] = binding.get_outputs()
        return found


def _rows(device: str) -> OnnxGraph:
    """What takes rows of a matrix where it lies."""
    return _opened(*_identity(PROBE), 1, device, os.getpid())


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
    One in 8-bit integers takes a graph's place on a processor that is faster so.
    """
    runtime = runtime or RuntimeOptions()
    device = chosen(runtime.device)
    how = thread_count(runtime.threads), device, os.getpid()
    found: dict[str, Graph] = {}
    for role in roles:
        whole = device == "cpu" and fast_int8() and f"{role}{INT8}" in bundle.graphs
        path = bundle.graph(f"{role}{INT8}" if whole else role)
        found[role] = _opened(*_identity(path), *how)
    return found


def _identity(path: Path) -> tuple[Path, tuple[int, int, int]]:
    """A file, and what tells whether it is the same one still."""
    try:
        found = path.stat()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}).") from error
    return path.absolute(), (found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _opened(
    path: Path, state: tuple[int, int, int], threads: int, device: Any, process: int
) -> OnnxGraph:
    """Opened once a process: the threads of a graph do not live on in a fork's child."""
    return OnnxGraph(path, RuntimeOptions(threads=threads, device=device))


def _forget() -> None:
    """In a fork's child: put away what the parent opened, without closing it, which would wait for
    threads that are not there."""
    global _opened
    _left_alone.append(_opened)
    _opened = lru_cache(maxsize=KEPT)(_opened.__wrapped__)


_left_alone: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
