"""Reading published weights: the formats they come in and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from covis.errors import BundleError

Architecture = Literal["xfeat", "edgepoint", "aliked", "superpoint", "lightglue", "lift"]

TELLING: dict[Architecture, str] = {
    "xfeat": "block_fusion.0.layer.0.weight",
    "edgepoint": "desc_head.1.layer.0.weight",
    "aliked": "desc_head.agg_weights",
    "superpoint": "convPa.weight",
    "lightglue": "posenc.Wr.weight",
    "lift": "image_convs_1.0.weight",
}
"""A name that only this network's published state dicts have, perhaps behind a prefix."""


def architecture_of(path: str | Path) -> Architecture:
    """Which network the weights in a file belong to, by their names.

    Raises BundleError when the file is missing, unreadable or holds none that covis knows.
    """
    state = read_state_dict(path)
    for architecture, telling in TELLING.items():
        if any(name == telling or name.endswith(f".{telling}") for name in state):
            return architecture
    raise BundleError(f"{path}: holds the weights of none of these: {', '.join(TELLING)}.")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file, by name. Runs no code from the file.

    Raises BundleError when the file is missing or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can raise anything.
        raise BundleError(f"{path}: not a readable weights file.") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BundleError(f"{path}: holds no state dict (tensors by name).")
    return dict(state)


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
