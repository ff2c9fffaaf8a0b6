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
from covis.files.atomic import replacing

CHECKPOINT = "checkpoint.pt"


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


def to_resume(out: Path, resume: bool) -> dict[str, Any] | None:
    """The checkpoint in a run's folder, None where the run is to start.

    Raises TrainingError when there is one and `resume` is not given, or none and it is.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{out}: holds a run already. Add --resume, or give another --out.")
    if resume and not checkpoint.exists():
        raise TrainingError(f"{checkpoint}: nothing to resume. Leave --resume out to start.")
    return load_checkpoint(checkpoint) if resume else None


def save_weights(net: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write the weights with the official key names, whole or not at all."""
    state = {k: v.contiguous().cpu() for k, v in net.state_dict().items()}
    with replacing(path) as file:
        file.write(save(state, metadata))


def write_curve(curve: list[dict[str, float]], path: Path) -> None:
    """Write the validation results, a line each."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, curve[0].keys())
        writer.writeheader()
        writer.writerows(curve)
        text.detach()
