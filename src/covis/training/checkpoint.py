"""What a run leaves on the disk; a kill at any moment cannot spoil it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from covis.errors import TrainingError
from covis.files.atomic import replacing
from covis.nets.weights import LICENCE, YOURS

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
LATEST = "latest.safetensors"
CURVE = "curve.csv"


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
            f"{path}: not a readable checkpoint ({error}). Start again with another --output."
        ) from error
    return state


def to_resume(out: Path, resume: bool) -> dict[str, Any] | None:
    """The checkpoint in a run's folder, None where the run is to start.

    Raises TrainingError when there is one and `resume` is not given, or none and it is.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{out}: holds a run already. Add --resume, or give another --output.")
    if resume and not checkpoint.exists():
        raise TrainingError(f"{checkpoint}: nothing to resume. Leave --resume out to start.")
    return load_checkpoint(checkpoint) if resume else None


def planned_steps(out: Path, steps: int | None, resume: bool) -> int | None:
    """How many steps a run is to make in all: `steps`, or what it began with where it is resumed;
    None where neither says.

    Raises TrainingError as `to_resume` does.
    """
    if steps is not None or not resume:
        return steps
    saved = to_resume(out, resume)
    return None if saved is None else saved.get("steps")


def began_with(
    out: Path, saved: Mapping[str, Any] | None, recipe: Any, *settings: object
) -> dict[str, Any]:
    """What a run's checkpoints hold of its recipe and its other settings, for `fit`'s notes.

    recipe: a dataclass. Raises TrainingError when `saved`, the checkpoint that the run goes on
    from, holds others; another number of steps is no other setting.
    """
    if saved is not None:
        begun = replace(recipe, steps=saved.get("steps", recipe.steps))
        if saved.get("began_with") != repr((begun, *settings)):
            raise TrainingError(
                f"{out}: this run began with other settings. Give the same options, pictures and "
                "covis that it began with, or start again with another --output."
            )
    return {"began_with": repr((recipe, *settings)), "steps": recipe.steps}


def save_weights(net: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write the weights with the official key names, whole or not at all, as the user's own.

    metadata: one entry at most, as several come in any order; see `licence_in`.
    """
    metadata = metadata or {LICENCE: YOURS}
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
