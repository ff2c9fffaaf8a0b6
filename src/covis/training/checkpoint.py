"""Checkpoints that a kill at any moment cannot spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

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
