"""What the tests of several recipes do: photos, a stop in the middle, runs of several processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest


def draw_photos(folder: Path, count: int) -> Path:
    """Writes so many photos of coarse noise, 200 x 150 pixels, into an existing folder."""
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.resize(noise, (200, 150)))
    return folder


def write_parts(folder: Path, texture: np.ndarray) -> None:
    """Writes four parts of a texture, 240 x 200 pixels, into an existing folder."""
    for place in range(4):
        part = texture[40 * place : 40 * place + 200, 60 * place : 60 * place + 240]
        cv2.imwrite(str(folder / f"{place}.png"), part)


class Stopped(Exception):
    pass


@contextmanager
def stopped_after(run: type, updates: int) -> Iterator[None]:
    """Meanwhile runs of that class break off, as they must, in the update after so many."""
    step = run.train_step  # type: ignore[attr-defined]

    def stopping(self, batch):
        if self.step == updates:
            raise Stopped
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(run, "train_step", stopping)
        yield


def check_processes(folder: Path, said: dict[int, list[str]], end: str) -> None:
    """Two processes end alike, and other than one alone, which sees half as much.

    folder: holds the weights of each process of a run, as `<processes>/<rank>.pt`. said: what
    each run printed, by its processes. end: how the one line begins that tells of the last step.
    """
    import torch

    first, second = (torch.load(folder / "2" / f"{rank}.pt") for rank in range(2))
    alone = torch.load(folder / "1" / "0.pt")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert any(not torch.equal(value, alone[name]) for name, value in first.items())
    for lines in said.values():
        assert sum(line.startswith(end) for line in lines) == 1
