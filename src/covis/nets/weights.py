"""Reading published weights: the formats they come in and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from covis.errors import BundleError
from covis.runtime.architectures import ARCHITECTURES

LICENCE = "licence"
"""The key of a .safetensors file's metadata that says the terms of its weights."""
YOURS = "yours"
"""The terms of what the user trained."""


def licence_in(path: str | Path) -> str:
    """The terms that a file states of its weights; "" where it states none."""
    if Path(path).suffix != ".safetensors":
        return ""
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
    except (OSError, SafetensorError):
        return ""
    # What else 'covis train' says of weights, it says in place of this.
    trained = any(key.startswith("covis.") for key in said)
    return str(said.get(LICENCE, YOURS if trained else ""))


def architectures_in(path: str | Path) -> list[str]:
    """Which networks a file has the weights of, by their names; a pipeline's file has several.

    Raises BundleError when the file is missing, unreadable or holds none that covis knows.
    """
    state = read_state_dict(path)
    found = [name for name in _told if _prefix(name, state) is not None]
    if not found:
        raise BundleError(f"{path}: holds the weights of none of these: {', '.join(_told)}.")
    return found


def read_network(path: str | Path, architecture: str) -> dict[str, Tensor]:
    """The state dict of one network in a file, without what stands before its names.

    A file in which nothing tells the network is given whole. Raises as `read_state_dict` does.
    """
    state = read_state_dict(path)
    prefix = _prefix(architecture, state) or ""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


_told = {name: row.telling for name, row in ARCHITECTURES.items() if row.telling}


def _prefix(architecture: str, state: Mapping[str, Tensor]) -> str | None:
    """What stands before the names of a network; None where it is not there."""
    telling = _told[architecture]
    for name in sorted(state, key=len):
        if name == telling or name.endswith(f".{telling}"):
            return name.removesuffix(telling)
    return None


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt, .pth or .onnx file, by name. Runs no code from the file.

    Those of dictionaries in dictionaries are named as "outer.inner"; those of ONNX files as
    `_onnx_weights` says.

    Raises BundleError when the file is missing or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        elif path.suffix == ".onnx":
            state = _onnx_weights(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can raise anything.
        raise BundleError(f"{path}: not a readable weights file.") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    tensors = dict(_flat(state)) if isinstance(state, dict) else {}
    if not all(isinstance(value, Tensor) for value in tensors.values()) or not tensors:
        raise BundleError(f"{path}: holds no state dict (tensors by name).")
    return tensors


def _onnx_weights(path: Path) -> dict[str, Tensor]:
    """Of a file that PyTorch's exporter wrote, by their names in the module.

    It turns the weights of linear layers and stores them, and what it computes beforehand, under
    numbers. Here the first are turned back, and both are named after the node that they go into.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name: value for name, value in stored.items() if not name.startswith(_NUMBERED)}
    for node in graph.node:
        place = node.name.strip("/").replace("/", ".")
        for name in node.input:
            if name not in stored or name in named:
                continue
            if node.op_type == "MatMul":
                named[f"{place.removesuffix('.MatMul')}.weight"] = stored[name].T
            else:
                named[place] = stored[name]
    return {name: torch.from_numpy(np.array(value)) for name, value in named.items()}


_NUMBERED = "onnx::"


def _flat(state: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def load_strictly(net: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Put a state dict into `net`. Raises BundleError naming the first keys that do not fit."""
    expected = net.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    shapes = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    for what, keys in (("missing", missing), ("unknown", unknown), ("other shape", shapes)):
        if keys:
            raise BundleError(
                f"{path}: not the weights of {type(net).__name__}; "
                f"{what}: {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}."
            )
    net.load_state_dict(state)
