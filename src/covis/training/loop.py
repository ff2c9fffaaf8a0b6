"""The loop that every recipe trains in: log, validate, keep the best, checkpoint, stop, resume.

To write a recipe:
1. Write a frozen dataclass with what the run depends on, of `covis.training.schedule.Recipe` or
   `StagedRecipe`, and a subclass of `NetRun` that sets `net` and `optimiser` in `__init__`.
2. Give it `batch`, `train_step` (from `learn`; end it with `self.step += 1`), `candidates`, and the
   class attribute `metric`; `state` and `restore` (with `super`'s) where more changes than the
   network and its optimiser.
3. Draw data from generators seeded by (seed, step, rank): then a resumed run sees the same data,
   and several GPUs work. A `Run` that is no `NetRun` calls `self.workers.average_gradients` after
   `backward`.
4. Write `train`: `join` the processes, `to_resume`, `began_with`, the `Run`, then `fit`, as
   `covis.training.recipes.detector` does.
5. Add the command to `covis.cli.train`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import cv2
import torch
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.training.checkpoint import (
    BEST,
    CHECKPOINT,
    CURVE,
    LATEST,
    save_checkpoint,
    save_weights,
    write_curve,
)
from covis.training.distributed import Workers
from covis.training.reporting import Report

LOG_EVERY = 50
"""Updates between two lines; the first update of a process has a line of its own."""
QUIET = 20.0
"""Seconds without a line at most, where updates are slow."""

B = TypeVar("B")


class Schedule(Protocol):
    """What the loop needs to know of a recipe."""

    @property
    def steps(self) -> int: ...

    @property
    def checkpoint_every(self) -> int: ...

    @property
    def validate_every(self) -> int: ...


class Candidate(NamedTuple):
    """A network that may be the best so far, and what it measures on held-out data."""

    net: nn.Module
    metrics: dict[str, float]
    name: str = ""
    """What tells it from other candidates of the same step."""


class Run(ABC, Generic[B]):
    """One training run: its network and optimiser, in the subclass, and where it stands.

    B is what one update learns from. Every method is called on every process, except
    `candidates` and `save`, which only the first process calls.
    """

    metric: ClassVar[str]
    """The one of a candidate's metrics that tells which is the best."""
    lower_is_better: ClassVar[bool] = False
    keeps_start: bool = False
    """Whether the state before the first update is checkpointed and measured."""

    recipe: Schedule

    def __init__(self, device: torch.device, workers: Workers | None = None) -> None:
        self.device = device
        self.workers = workers or Workers()
        self.step = 0
        """Updates made."""
        self.best = float("inf" if self.lower_is_better else "-inf")
        self.curve: list[dict[str, float]] = []

    @abstractmethod
    def batches(self) -> Iterator[B]:
        """This process' batches from the present step to the recipe's last."""

    @abstractmethod
    def train_step(self, batch: B) -> dict[str, float]:
        """One update. Returns the losses by name."""

    @abstractmethod
    def candidates(self) -> Iterator[Candidate]:
        """The networks to measure at the present step, usually one."""

    def state(self) -> dict[str, Any]:
        """Everything that changes during the run; tensors and plain values by name."""
        return {"step": self.step, "best": self.best, "curve": self.curve}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` gave."""
        self.step, self.best, self.curve = state["step"], state["best"], state["curve"]

    def begin(self, report: Report) -> None:
        """Called once, where the run starts anew and not from a checkpoint."""

    def prepare(self, out: Path, report: Report) -> None:
        """Called each time the run starts or goes on. Files go to the folder `out`."""

    @property
    def latest(self) -> nn.Module | None:
        """What `save` is to keep with each checkpoint, measured or not; None for nothing."""
        return None

    def save(self, net: nn.Module, path: Path) -> None:
        """Write the weights of a candidate."""
        save_weights(net, path)

    def better(self, metrics: Mapping[str, float]) -> bool:
        """Whether a candidate's metrics are better than `best`."""
        value = metrics[self.metric]
        return value < self.best if self.lower_is_better else value > self.best


class NetRun(Run[B]):
    """A run in which one optimiser trains one network on batches made ahead."""

    net: nn.Module
    optimiser: torch.optim.Optimizer

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])

    @abstractmethod
    def batch(self, step: int) -> Any:
        """This process' batch of a step: a function of the seed, the step and its rank alone.

        Called in threads. What is to be done to it outside of them, `batches` does.
        """

    def batches(self) -> Iterator[B]:
        return rendered(self.batch, range(self.step, self.recipe.steps))

    @property
    def latest(self) -> nn.Module:
        return self.net

    @property
    def learnt(self) -> list[nn.Parameter]:
        """What the optimiser changes."""
        return list(self.net.parameters())

    def learn(
        self, losses: Mapping[str, Tensor], rate: float, clip: float | None = None
    ) -> dict[str, float]:
        """Update the network at a learning rate, by the sum of losses. Returns them as numbers.

        Parameters whose group says "faster" have so many times the rate.

        clip: the largest norm of the gradients.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("faster", 1.0)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.workers.average_gradients(self.learnt)
        if clip is not None:
            nn.utils.clip_grad_norm_(self.learnt, clip)
        self.optimiser.step()
        self.workers.average_norms(self.net)
        return {name: float(loss.detach()) for name, loss in losses.items()}


def fit(
    run: Run[B],
    out: Path,
    *,
    saved: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    report: Report = print,
) -> None:
    """Train `run` to its recipe's last step.

    out: a folder that takes `checkpoint.pt`, `best.safetensors`, the weights that measured best,
    `latest.safetensors`, those of the checkpoint, and `curve.csv`. saved: the
    checkpoint to go on from, see `to_resume`. notes: what checkpoints hold besides the run's state,
    for `train` to check when it is resumed. report: takes lines of text.

    Of several processes the first one alone measures, writes and reports. On SIGINT or SIGTERM a
    checkpoint is written after the present update, and KeyboardInterrupt is raised; a second
    signal ends the process as it would without this.

    Raises TrainingError when the checkpoint is of a later step than the recipe's last.
    """
    cv2.setNumThreads(1)
    leads = run.workers.leads
    keeper = _Keeper(run, out, notes or {}, run.workers.once(report))
    if saved is not None:
        run.restore(saved["run"])
        _check_steps(run, out)
        if run.step < run.recipe.steps:
            keeper.report(f"going on after step {run.step} of {run.recipe.steps}")
    run.workers.wait()  # Until all have seen whether there was a checkpoint, none is written.
    out.mkdir(parents=True, exist_ok=True)
    if saved is None:
        run.begin(keeper.report)
        if run.keeps_start and leads:
            keeper.checkpoint()
    run.prepare(out, keeper.report)
    if run.keeps_start and leads and run.step == 0:
        keeper.measure()
    if leads:
        keeper.end()
    with stop_signals() as stopped:
        log = _Log(run, keeper.report)
        for batch in run.batches():
            log.add(run.train_step(batch))
            last = run.step == run.recipe.steps
            stops = run.workers.any(stopped(), run.device) and not last
            if not leads:
                if stops:
                    raise KeyboardInterrupt
                continue
            log.tell(last or stops)
            if last or run.step % run.recipe.validate_every == 0:
                keeper.measure()
                log.restart()
            if stops:
                keeper.stop()
                raise KeyboardInterrupt
            if last or run.step % run.recipe.checkpoint_every == 0:
                keeper.checkpoint()


def _check_steps(run: Run[Any], out: Path) -> None:
    if run.step > run.recipe.steps:
        raise TrainingError(
            f"{out}: this run has made {run.step} steps, more than {run.recipe.steps}. Give "
            "--steps a larger number."
        )


class _Keeper:
    """What a run leaves in its folder."""

    def __init__(self, run: Run[Any], out: Path, notes: Mapping[str, Any], report: Report) -> None:
        self.run, self.out, self.notes, self.report = run, out, notes, report

    def checkpoint(self) -> None:
        if self.run.latest is not None:
            self.run.save(self.run.latest, self.out / LATEST)
        save_checkpoint({"run": self.run.state(), **self.notes}, self.out / CHECKPOINT)

    def stop(self) -> None:
        """Checkpoint, and say how to go on."""
        self.checkpoint()
        step, kept = self.run.step, ""
        if self.run.latest is not None:
            kept = f"; its weights are in {self.out / LATEST}"
        self.report(
            f"stopped after step {step} of {self.run.recipe.steps}{kept}; add --resume to the "
            f"same command to go on, and --steps {step} to end there"
        )

    def end(self) -> None:
        """Measure and checkpoint the last step, where a run is told to end where it stands."""
        run = self.run
        if run.step == run.recipe.steps and (not run.curve or run.curve[-1]["step"] != run.step):
            self.measure()
            self.checkpoint()

    def measure(self) -> None:
        """Validate, and keep the weights that are better than all before."""
        run = self.run
        self.report(f"step {run.step}: measuring with what is held out")
        for net, metrics, name in run.candidates():
            told = f"step {run.step}{f', {name}' if name else ''}"
            self.report(f"{told}: {in_words(metrics)}")
            run.curve.append({"step": run.step, **metrics})
            if run.better(metrics):
                run.best = metrics[run.metric]
                run.save(net, self.out / BEST)
        write_curve(run.curve, self.out / CURVE)


class _Log:
    """The mean of the losses since the last line, and the speed."""

    def __init__(self, run: Run[Any], report: Report) -> None:
        self.run, self.report = run, report
        self.first = True
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, float] = {}
        self.counted, self.began = 0, time.monotonic()

    def add(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.counted += 1

    def tell(self, due: bool) -> None:
        """A line where one is due, or is so at the run's present step."""
        step, steps = self.run.step, self.run.recipe.steps
        took = time.monotonic() - self.began
        if not (due or self.first or step % LOG_EVERY == 0 or took >= QUIET):
            return
        speed = self.counted / max(took, 1e-9)
        text = " ".join(f"{name} {value / self.counted:.4f}" for name, value in self.sums.items())
        self.report(f"step {step}/{steps} ({speed:.2f}/s) {text}")
        self.first = False
        self.restart()


def in_words(metrics: Mapping[str, float]) -> str:
    """Metrics as a person reads them: "ap 50 0.31, recall@1 0.9"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


def rendered(make: Callable[[int], B], steps: range, ahead: int = 3) -> Iterator[B]:
    """`make(step)` for each of the steps, in their order, made ahead in threads."""
    left = iter(steps)
    pool = ThreadPoolExecutor(2)
    try:
        queue = deque(pool.submit(make, step) for step in islice(left, ahead))
        while queue:
            batch = queue.popleft().result()
            queue.extend(pool.submit(make, step) for step in islice(left, 1))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Meanwhile SIGINT and SIGTERM do not end the process, but the function that is given then
    says True. The second signal does what it did before. Threads but the main one see none."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for which, handler in before.items():
            signal.signal(which, handler)

    def stop(which: int, frame: object) -> None:
        received.set()
        restore()
        # Python's own streams may be in the middle of a line.
        os.write(2, b"covis: stopping once this step is kept; again to stop at once\n")

    for which in before:
        signal.signal(which, stop)
    try:
        yield received.is_set
    finally:
        restore()
