"""What a run leaves on the disk; a kill at any moment cannot spoil it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from covis.errors import TrainingError
from covis.files import replacing


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` whole or not at all."""
    with replacing(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote. Raises TrainingError when it is not readable."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle can raise anything.
        raise TrainingError(
            f"{path}: not a readable checkpoint ({error}). Start again with another --out."
        ) from error
    return state


def save_weights(net: nn.Module, path: Path) -> None:
    """Write the weights with the official key names, whole or not at all."""
    with replacing(path) as file:
        file.write(save({k: v.contiguous().cpu() for k, v in net.state_dict().items()}))


def write_curve(curve: list[dict[str, float]], path: Path) -> None:
    """Write the validation results, a line each."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, curve[0].keys())
        writer.writeheader()
        writer.writerows(curve)
        text.detach()
