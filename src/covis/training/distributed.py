"""The processes of one training run."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as parallel
from torch import Tensor


def own_device(name: str) -> torch.device:
    """The device of that name; for "cuda" the GPU that is this process' own under `torchrun`."""
    if name != "cuda":
        return torch.device(name)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@dataclass(frozen=True)
class Workers:
    """The processes of `torchrun` and which one this is; one and 0 without it."""

    count: int = 1
    rank: int = 0

    @staticmethod
    def join(device: torch.device) -> Workers:
        """Meet the others that `torchrun` started."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count > 1 and not parallel.is_initialized():
            parallel.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return Workers(count, parallel.get_rank()) if count > 1 else Workers()

    @torch.no_grad()
    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        parallel.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
