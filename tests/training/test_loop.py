"""The loop of all recipes on a line through points: stops, resumes, several processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from safetensors.torch import load_file  # noqa: E402

from covis.errors import ArgumentError, TrainingError  # noqa: E402
from covis.training.checkpoint import (  # noqa: E402
    began_with,
    load_checkpoint,
    planned_steps,
    to_resume,
)
from covis.training.data.held_out import hold_out  # noqa: E402
from covis.training.distributed import Workers, own_device  # noqa: E402
from covis.training.loop import (  # noqa: E402
    Candidate,
    Run,
    fit,
    in_words,
    rendered,
    stop_signals,
)
from covis.training.reporting import paced  # noqa: E402

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Recipe:
    steps: int = 6
    checkpoint_every: int = 4
    validate_every: int = 3


class Line(Run[torch.Tensor]):
    """Learns y = 3 x."""

    metric = "error"
    lower_is_better = True

    def __init__(self, recipe=Recipe(), at=None):
        super().__init__(CPU)
        self.recipe = recipe
        self.at = at or {}
        torch.manual_seed(0)
        self.net = torch.nn.Linear(1, 1, bias=False)
        self.optimiser = torch.optim.SGD(self.net.parameters(), 0.1)

    def state(self):
        return super().state() | {"net": self.net.state_dict()}

    def restore(self, state):
        super().restore(state)
        self.net.load_state_dict(state["net"])

    def batches(self) -> Iterator[torch.Tensor]:
        return rendered(lambda step: torch.tensor([[1.0 + step % 3]]), self.left())

    @property
    def latest(self):
        return self.net

    def left(self):
        return range(self.step, self.recipe.steps)

    def train_step(self, batch):
        loss = (self.net(batch) - 3 * batch).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        self.at.get(self.step, lambda: None)()
        return {"loss": float(loss.detach())}

    def candidates(self):
        error = abs(self.net.weight.item() - 3)
        yield Candidate(self.net, {"error": error, "given_up": 0.0})


def train(out, recipe=Recipe(), *, resume=False, at=None):
    said = []
    saved = to_resume(out, resume)
    notes = began_with(out, saved, recipe, "a line")
    run = Line(recipe, at)
    try:
        fit(run, out, saved=saved, notes=notes, report=said.append)
    except KeyboardInterrupt:
        said.append("interrupted")
    return run, said


def checkpoint(out):
    return load_checkpoint(out / "checkpoint.pt")["run"]


def assert_same(one, two):
    left, right = checkpoint(one), checkpoint(two)
    assert left["step"] == right["step"]
    assert torch.equal(left["net"]["weight"], right["net"]["weight"])
    for name in ("curve.csv", "best.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_run_and_what_it_leaves(tmp_path):
    run, said = train(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "best.safetensors",
        "checkpoint.pt",
        "curve.csv",
        "latest.safetensors",
    ]
    assert run.step == 6
    assert run.best == min(row["error"] for row in run.curve)
    assert [row["step"] for row in run.curve] == [3, 6]
    # A first line at once, then at the end; metrics in words.
    assert [line.split(" (")[0] for line in said if "/s)" in line] == ["step 1/6", "step 6/6"]
    results = [line for line in said if line.startswith("step 3: error")]
    assert len(results) == 1
    assert "error 0." in results[0]
    assert results[0].endswith(", given up 0")
    assert not any("{" in line for line in said)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_last_step(tmp_path, which):
    """Step 5 is no step of a checkpoint; after the signal it is one, and the rest ends the same."""
    train(tmp_path / "whole")
    before = signal.getsignal(which)
    run, said = train(tmp_path / "cut", at={5: lambda: signal.raise_signal(which)})
    assert run.step == checkpoint(tmp_path / "cut")["step"] == 5
    latest = tmp_path / "cut" / "latest.safetensors"
    assert said[-2:] == [
        f"stopped after step 5 of 6; its weights are in {latest}; add --resume to the same command "
        "to go on, and --steps 5 to end there",
        "interrupted",
    ]
    assert torch.equal(load_file(latest)["weight"], run.net.weight)
    assert signal.getsignal(which) is before
    _, said = train(tmp_path / "cut", resume=True)
    assert said[0] == "going on after step 5 of 6"
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_signal_in_the_last_step_stops_nothing(tmp_path):
    _, said = train(tmp_path / "out", at={6: lambda: signal.raise_signal(signal.SIGINT)})
    assert "interrupted" not in said
    assert checkpoint(tmp_path / "out")["step"] == 6


@pytest.fixture
def interruptible():
    """A shell's background jobs begin with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_stops_at_once(tmp_path, interruptible):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    _, said = train(tmp_path / "out", at={2: twice})
    assert said[-1] == "interrupted"
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_stopping_says_so_outside_the_main_thread():
    from concurrent.futures import ThreadPoolExecutor

    def watch():
        with stop_signals() as stopped:
            return stopped()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(watch).result() is False


def test_more_steps_after_the_end_go_on(tmp_path):
    out = tmp_path / "out"
    train(out)
    assert planned_steps(out, None, resume=True) == 6
    run, said = train(out, replace(Recipe(), steps=9), resume=True)
    assert said[0] == "going on after step 6 of 9"
    assert run.step == checkpoint(out)["step"] == 9
    assert [row["step"] for row in run.curve] == [3, 6, 9]
    assert planned_steps(out, None, resume=True) == 9
    # And again, from checkpoints that say so.
    run, _ = train(out, replace(Recipe(), steps=10), resume=True)
    assert run.step == 10
    with pytest.raises(TrainingError, match=r"has made 10 steps, more than 8\. Give --steps"):
        train(out, replace(Recipe(), steps=8), resume=True)
    with pytest.raises(TrainingError, match="began with other settings"):
        train(out, Recipe(checkpoint_every=2), resume=True)


def test_planned_steps(tmp_path):
    assert planned_steps(tmp_path, 7, resume=True) == 7
    assert planned_steps(tmp_path, None, resume=False) is None
    with pytest.raises(TrainingError, match="nothing to resume"):
        planned_steps(tmp_path, None, resume=True)


def test_rendered_in_order_and_no_further_than_asked():
    made = []
    steps = rendered(lambda step: made.append(step) or step, range(2, 100), ahead=3)
    assert [next(steps) for _ in range(4)] == [2, 3, 4, 5]
    steps.close()
    assert max(made) <= 8
    assert list(rendered(str, range(5, 5))) == []


def test_a_stopped_run_ends_where_it_stands(tmp_path):
    """Without another update: what there is, is measured and kept."""
    stopped, _ = train(
        tmp_path, replace(Recipe(), validate_every=9), at={2: lambda: signal.raise_signal(2)}
    )
    assert not (tmp_path / "best.safetensors").exists()
    run, said = train(tmp_path, Recipe(steps=2, validate_every=9), resume=True)
    assert run.step == 2
    assert torch.equal(run.net.weight, stopped.net.weight)
    assert torch.equal(load_file(tmp_path / "best.safetensors")["weight"], run.net.weight)
    assert [line for line in said if line.startswith("step 2: error")]


def test_slow_work_says_how_far_it_is():
    said = []
    tell = paced(said.append, seconds=0.0)
    tell("at once")
    paced(said.append, seconds=60.0)("too soon")
    assert said == ["at once"]


def test_metrics_in_words():
    assert in_words({"once_bilinear": 0.123456, "recall@1": 1.0}) == (
        "once bilinear 0.1235, recall@1 1"
    )


def test_held_out():
    kept, rest = hold_out(list("abcdef"), 2, seed=0)
    assert len(kept) == 2
    assert sorted(kept + rest) == list("abcdef")
    assert hold_out(list("abcdef"), 2, seed=0) == (kept, rest)
    few, rest = hold_out(list("abcdefgh"), 48, seed=0)
    assert (len(few), len(rest)) == (2, 6)
    with pytest.raises(TrainingError, match=r"^here: 2 pictures are too few: training takes 3 or"):
        hold_out("ab", 2, 0, things="pictures", folder="here")


def test_exceptions_of_devices(monkeypatch):
    assert own_device("cpu") == CPU
    with pytest.raises(ArgumentError, match="the device 'toaster' cannot be used"):
        own_device("toaster")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match=r"a single GPU, for 2 processes: give --device cuda"):
        own_device("cuda:1")


def test_a_lone_process_averages_nothing():
    layer = torch.nn.Linear(2, 2)
    Workers().average_gradients(layer.parameters())
    assert layer.weight.grad is None
    assert Workers().any(True, CPU)
    assert not Workers().any(False, CPU)


# Several processes.

SCRIPT = """
import signal, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from test_loop import Line, Recipe
from covis.training.checkpoint import to_resume
from covis.training.distributed import join
from covis.training.loop import Candidate, fit
torch.set_num_threads(1)
_, workers = join("cpu")
rank = workers.rank
out, resume = Path(sys.argv[2]), sys.argv[3] == "resume"

class Shared(Line):
    def __init__(self):
        super().__init__(Recipe(validate_every=3))
        self.workers = workers
        names = ("used", "second", "unused")
        self.net = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in names})
        self.optimiser = torch.optim.SGD(self.net.parameters(), 0.01, weight_decay=0.1)

    def train_step(self, batch):
        # Data of its own; the second process alone uses a layer, and neither the last one.
        batch = batch + rank
        loss = (self.net["used"](batch) - 3 * batch).square().mean()
        if rank == 1:
            loss = loss + self.net["second"](batch).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        workers.average_gradients(self.net.parameters())
        assert self.net["unused"].weight.grad is None
        self.optimiser.step()
        self.step += 1
        if self.step == 5 and rank == 1 and not resume:
            signal.raise_signal(signal.SIGTERM)
        return {"loss": float(loss.detach())}

    def candidates(self):
        yield Candidate(self.net, {"error": abs(self.net["used"].weight.item() - 3)})

run = Shared()
try:
    fit(run, out, saved=to_resume(out, resume), report=lambda line: print(rank, line, flush=True))
except KeyboardInterrupt:
    pass
torch.save(run.net.state_dict(), out / f"{rank}-{run.step}.pt")
"""


def test_a_process_leaves_the_others_before_it_ends(monkeypatch):
    """Else it is aborted now and then, and a run that is done counts as failed."""
    left = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("atexit.register", left.append)
    assert Workers.join(torch.device("cpu")) == Workers(2, 1)
    assert left == [torch.distributed.destroy_process_group]


@pytest.mark.slow
def test_two_processes_stop_and_go_on_together(torchrun, tmp_path):
    """A signal to one of them stops both after the same step."""
    here, out = Path(__file__).parent, tmp_path / "two"
    said = torchrun(2, SCRIPT, here, out, "start") + torchrun(2, SCRIPT, here, out, "resume")
    torchrun(1, SCRIPT, here, tmp_path / "one", "start")
    assert all(line.startswith("0 ") for line in said)
    assert sum("stopped after step 5 of 6" in line for line in said) == 1
    assert sum("going on after step 5 of 6" in line for line in said) == 1
    alone = torch.load(tmp_path / "one" / "0-6.pt")
    for step in (5, 6):
        first, second = (torch.load(out / f"{rank}-{step}.pt") for rank in range(2))
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
    assert not torch.equal(first["used.weight"], alone["used.weight"])
    assert not torch.equal(first["second.weight"], alone["second.weight"])
    assert torch.equal(first["unused.weight"], alone["unused.weight"])
    rows = (out / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "3", "6"]
