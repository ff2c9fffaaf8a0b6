"""Where networks run: on the processor, or on what ONNX Runtime was built for beside it.

PyPI has a build of ONNX Runtime for each kind of device, all of which are imported as
`onnxruntime`; which one is installed is the user's choice.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

# Where this is not set ONNX Runtime writes events into the user's cache when it is imported, and
# tries to send them; its own function to stop that comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import cv2
import onnxruntime

from covis.errors import DeviceWarning
from covis.options import Device
from covis.quiet import quiet
from covis.runtime.builds import installed_builds


@dataclass(frozen=True, kw_only=True)
class Row:
    """A kind of device.

    provider: ONNX Runtime's name of what runs graphs there. package: the build that has it, as
        pip takes it. needs: what that needs of the machine. system: the only one that has it, as
        `sys.platform` says it; empty for any.
    memory: ONNX Runtime's name of where its numbers lie. options: of the provider.
    thread_option: the provider's own option for how many threads, where it has one.
    shared: whether threads may run one graph at the same time.
    """

    provider: str
    package: str
    needs: str
    system: str = ""
    memory: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)
    thread_option: str = ""
    shared: bool = True


CPU = "CPUExecutionProvider"
DEVICES: dict[str, Row] = {
    "cuda": Row(
        provider="CUDAExecutionProvider",
        package="'onnxruntime-gpu[cuda,cudnn]'",
        needs="an NVIDIA GPU and its driver",
        memory="cuda",
        # Rounded inputs would change the answers, and every new size of pictures would be tried
        # with all algorithms there are.
        options={"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    ),
    "directml": Row(
        provider="DmlExecutionProvider",
        package="onnxruntime-directml",
        needs="Windows and a GPU with DirectX 12",
        system="win32",
        memory="dml",
        shared=False,
    ),
    "openvino": Row(
        provider="OpenVINOExecutionProvider",
        package="onnxruntime-openvino",
        needs="a processor of x86-64",
        options={"device_type": "CPU"},
        thread_option="num_of_threads",
    ),
    "coreml": Row(
        provider="CoreMLExecutionProvider", package="onnxruntime", needs="macOS", system="darwin"
    ),
}
"""By the name that users give."""
AUTO: tuple[Device, ...] = ("cuda", "directml")
"""What "auto" takes before the processor, the first that works: GPUs whose build of ONNX Runtime
somebody chose to install. Every build for macOS has CoreML, and OpenVINO compiles anew for every
size of picture and number of keypoints."""

INT8_INSTRUCTIONS = ("AVX512VNNI", "AVX_VNNI")
"""OpenCV's names of the instructions that make products of 8-bit integers faster than float32."""
HARDWARE_FEATURES = 512
"""Numbers that OpenCV has for what a processor can do."""

PROBE = Path(__file__).parent / "rows.onnx"
"""A graph that any device can run."""


@cache
def chosen(device: Device) -> str:
    """Where networks run for what a user asked for: "cpu", or a name in `DEVICES`.

    "auto" takes the first of `AUTO` that works. A named device that does not work is told of in a
    DeviceWarning, one line, once in a process, and the processor takes its place.
    """
    if device == "auto":
        return next((name for name in AUTO if trouble(name) is None), "cpu")
    if device == "cpu" or (why := trouble(device)) is None:
        return device
    warnings.warn(f"device '{device}' {why} The processor is used.", DeviceWarning, stacklevel=2)
    return "cpu"


@cache
def trouble(device: str) -> str | None:
    """Why a device of `DEVICES` cannot be used and what to do, in words that follow its name; None
    where it can."""
    row = DEVICES[device]
    if row.system not in ("", sys.platform):
        return f"needs {row.needs}."
    install = f"python -m pip install {row.package}"
    if row.provider not in onnxruntime.get_available_providers():
        return (
            f"needs {row.needs}, and the build of ONNX Runtime for it: python -m pip uninstall "
            f"{' '.join(installed_builds()) or 'onnxruntime'}; {install}."
        )
    if not _starts(device):
        return (
            f"does not start, though this build of ONNX Runtime is for it; it needs {row.needs}, "
            f"and all that {install} brings."
        )
    return None


@cache
def fast_int8() -> bool:
    """Whether the processor is faster with 8-bit integers than with float32.

    ONNX Runtime does not tell. By what the processor is, not by a timing, which other work would
    change, and with it the answers.
    """
    return any(
        cv2.checkHardwareSupport(feature)
        for feature in range(HARDWARE_FEATURES)
        if cv2.getHardwareFeatureName(feature) in INT8_INSTRUCTIONS
    )


def usable() -> list[str]:
    """The devices that work here, the processor first."""
    return ["cpu", *(name for name in DEVICES if trouble(name) is None)]


def _starts(device: str) -> bool:
    """Whether a graph really runs there: ONNX Runtime takes the processor without a word where
    a provider's libraries are missing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    onnxruntime.set_default_logger_severity(4)
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # Those that pip installed.
        try:
            session = onnxruntime.InferenceSession(
                PROBE, prepared(options, device), providers=providers(device, 1)
            )
        except Exception:  # ONNX Runtime's own exceptions share no base class.
            return False
        finally:
            onnxruntime.set_default_logger_severity(2)  # What it is by default.
    return DEVICES[device].provider in session.get_providers()


def prepared(options: Any, device: str) -> Any:
    """A session's options, made fit for a device."""
    if device == "directml":
        options.enable_mem_pattern = False  # It refuses them.
    return options


def providers(device: str, threads: int) -> list[Any]:
    """What a session for a device is opened with: the processor takes what the device cannot."""
    if device == "cpu":
        return [CPU]
    row = DEVICES[device]
    options = dict(row.options)
    if row.thread_option:
        options[row.thread_option] = str(threads)
    return [(row.provider, options), CPU]
