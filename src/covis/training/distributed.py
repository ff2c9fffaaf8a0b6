"""The processes of one training run."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as parallel
from torch import Tensor, nn

from covis.errors import ArgumentError, TrainingError
from covis.training.reporting import Report

PATIENCE = timedelta(hours=6)
"""How long a process waits for another: the first one validates while the others wait."""


def own_device(name: str) -> torch.device:
    """The device of that name; for "cuda" the GPU that is this process' own under `torchrun`.

    Raises ArgumentError when PyTorch cannot use it, or all processes would share one GPU.
    """
    try:
        device = torch.device(name)
        if device.type == "cuda":
            if device.index is not None and _count() > 1:
                raise ArgumentError(
                    f"the device '{name}' is a single GPU, for {_count()} processes: give "
                    "--device cuda, and each takes its own."
                )
            own = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
            device = torch.device("cuda", own)
            torch.cuda.set_device(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"the device '{name}' cannot be used: {reason}") from None
    return device


def join(device: str) -> tuple[torch.device, Workers]:
    """This process' own device of that name, and the processes of the run; see `own_device`."""
    own = own_device(device)
    return own, Workers.join(own)


def _count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Workers:
    """The processes of `torchrun` and which one this is; one and 0 without it."""

    count: int = 1
    rank: int = 0

    @staticmethod
    def join(device: torch.device) -> Workers:
        """Meet the others that `torchrun` started."""
        count = _count()
        if count > 1 and not parallel.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            parallel.init_process_group(backend, timeout=PATIENCE)
            # Gloo's threads, where they still run at the process' end, abort it now and then.
            atexit.register(parallel.destroy_process_group)
        return Workers(count, parallel.get_rank()) if count > 1 else Workers()

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports, measures and writes."""
        return self.rank == 0

    def once(self, report: Report) -> Report:
        """`report` on the process that leads, and on the others what takes lines and drops them."""
        return report if self.leads else lambda line: None

    def check_shares(self, batch: int, things: str) -> None:
        """Raises TrainingError when `batch` things an update are not the same number for each."""
        if batch % self.count:
            raise TrainingError(
                f"{self.count} processes cannot share {batch} {things} an update evenly; start "
                "another number of them."
            )

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.count > 1:
            parallel.barrier()

    def any(self, mine: bool, device: torch.device) -> bool:
        """Whether it is True on any of the processes."""
        if self.count == 1:
            return mine
        flag = torch.tensor(int(mine), device=device)
        parallel.all_reduce(flag, parallel.ReduceOp.MAX)
        return bool(flag)

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

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes.

        A parameter that takes no part in one process' loss counts as 0 there; one that takes part
        in none keeps no gradient.
        """
        learnt = [p for p in parameters if p.requires_grad]
        if self.count == 1 or not learnt:
            return
        taken = torch.tensor([p.grad is not None for p in learnt], device=learnt[0].device).int()
        parallel.all_reduce(taken, parallel.ReduceOp.MAX)
        gradients = []
        for parameter, used in zip(learnt, taken.tolist(), strict=True):
            if used:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.average(gradients)

    def average_norms(self, net: nn.Module) -> None:
        """Let all processes have the same running statistics of the batch norms.

        What the norms saw differs between the processes; a resumed run knows the first's alone.
        """
        self.average([buffer for buffer in net.buffers() if buffer.is_floating_point()])
