"""The training run: rates, what it refuses, and that a kill costs nothing."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.training import check_processes, draw_photos

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")


from covis.errors import CovisError, TrainingError  # noqa: E402
from covis.nets.xfeat import load_official  # noqa: E402
from covis.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from covis.training.data.photos import load_photos, photos_below  # noqa: E402
from covis.training.data.synthetic import Difficulty  # noqa: E402
from covis.training.distributed import Workers  # noqa: E402
from covis.training.recipes import xfeat  # noqa: E402
from covis.training.recipes.xfeat import (  # noqa: E402
    FROM_START,
    WITH_TEACHER,
    WITHOUT_TEACHER,
    Recipe,
    train,
)
from covis.training.start import read_start  # noqa: E402
from covis.training.validation import validate  # noqa: E402

STAGES = [WITH_TEACHER, WITHOUT_TEACHER, FROM_START]


@pytest.mark.parametrize("stages", STAGES)
def test_shares_are_the_whole(stages):
    assert sum(stage.share for stage in stages) == pytest.approx(1)


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100, 1001, 16_000])
def test_recipe_covers_all_steps(stages, steps):
    recipe = Recipe(steps=steps, stages=stages)
    order = [stages.index(recipe.at(step)[0]) for step in range(steps)]
    assert order == sorted(order)
    # A handful of steps need not reach the last stage.
    if steps >= 100:
        assert order[-1] == len(stages) - 1
        for index, stage in enumerate(stages):
            assert order.count(index) == pytest.approx(stage.share * steps, abs=len(stages))
    with pytest.raises(ValueError, match="beyond"):
        recipe.at(steps)


@pytest.mark.parametrize("stages", STAGES)
def test_rates_are_continuous_and_positive(stages):
    recipe = Recipe(steps=4000, stages=stages, warmup=200)
    rates = np.array([recipe.at(step)[1] for step in range(4000)])
    assert (rates > 0).all()
    assert rates.max() <= max(stage.rate for stage in stages)
    assert np.abs(np.diff(rates)).max() < 0.03 * rates.max()
    assert rates[0] == pytest.approx(stages[0].rate / 200, rel=1e-6)
    assert rates[-1] == pytest.approx(stages[-1].final_rate, rel=0.1)
    for before, after in itertools.pairwise(stages):
        assert before.final_rate == after.rate


# Checkpoints.


def test_checkpoints_are_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1, "weights": torch.arange(3)}, path)
    assert load_checkpoint(path)["step"] == 1

    def fail(state, file):
        file.write(b"half of i")
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CovisError, match="the disk is full"):
        save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    save_checkpoint({"step": 3}, path)
    assert load_checkpoint(path)["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_exception_damaged_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1, "weights": torch.arange(300)}, path)
    whole = path.read_bytes()
    contents = [b"", b"no checkpoint", b"\x80\x02h\x05.", b"\x80\x02.", whole[:-1], whole[:50]]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="not a readable checkpoint"):
            load_checkpoint(path)
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


# What a run refuses.


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_photos(tmp_path_factory.mktemp("photos"), 6)


def test_exception_too_few_photos(tmp_path):
    """Said before anything else, as that the teacher is not there."""
    (tmp_path / "photos").mkdir()
    draw_photos(tmp_path / "photos", 2)
    with pytest.raises(TrainingError, match="2 photos with sides of 128 pixels or more are too fe"):
        train(tmp_path / "photos", tmp_path / "out", teacher=tmp_path / "none.pt")
    assert not (tmp_path / "out").exists()


def test_exception_out_holds_a_run(photos, tmp_path):
    save_checkpoint({"steps": 3, "seed": 0}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"holds a run already\. Add --resume"):
        train(photos, tmp_path)


def test_exception_nothing_to_resume(photos, tmp_path):
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: nothing to resume"):
        train(photos, tmp_path / "out", resume=True)


def test_exception_damaged_checkpoint_on_resume(photos, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        train(photos, tmp_path, resume=True)


@pytest.mark.parametrize("taught", [True, False])
def test_exception_resumed_otherwise(photos, tmp_path, taught):
    save_checkpoint({"steps": 3, "seed": 0, "taught": taught}, tmp_path / "checkpoint.pt")
    teacher = None if taught else tmp_path / "teacher.safetensors"
    with pytest.raises(TrainingError, match="this run began with"):
        train(photos, tmp_path, teacher=teacher, resume=True)


def test_exception_resumed_with_another_recipe(photos, tmp_path):
    state = {"steps": 3, "seed": 0, "taught": False, "recipe": "Recipe()"}
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="began with another recipe"):
        train(photos, tmp_path, resume=True)


# A tiny run.

SCRIPT = """
import sys
from dataclasses import dataclass, replace
from pathlib import Path
import torch
from covis.training import loop
from covis.training.recipes import xfeat
torch.set_num_threads(1)
@dataclass(frozen=True)
class Tiny(xfeat.Recipe):
    held_out: int = 2
    checkpoint_every: int = 2
    validate_every: int = 3
    warmup: int = 2
xfeat.Recipe = Tiny
xfeat.WITHOUT_TEACHER = tuple(
    replace(stage, size=64, pairs=2) for stage in xfeat.WITHOUT_TEACHER
)
# What validation measures costs seconds; the step itself tells the runs apart as well.
xfeat.Run.validate = lambda run, net: {"score": run.step / 100}
def report(line):
    print(line, flush=True)
photos, out, steps, resume = sys.argv[1:]
save = loop.save_checkpoint
def save_checkpoint(state, path):
    save(state, path)
    print("saved", state["run"]["step"], flush=True)
loop.save_checkpoint = save_checkpoint
print(xfeat.train(
    Path(photos), Path(out), steps=int(steps) or None, resume=resume == "resume", report=report
))
"""


def start(photos, out, steps, resume="start"):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(photos), str(out), str(steps), resume],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def assert_same_run(one: Path, two: Path):
    left, right = (load_checkpoint(out / "checkpoint.pt") for out in (one, two))
    assert left["run"]["step"] == right["run"]["step"] == 7
    for part in ("net", "average"):
        for name, value in left["run"][part].items():
            assert torch.equal(value, right["run"][part][name]), name
    for index, state in left["run"]["optimiser"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, right["run"]["optimiser"]["state"][index][name]), name
    weights = [load_official(out / "best.safetensors").state_dict() for out in (one, two)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
        assert torch.isfinite(value).all(), name
    assert (one / "curve.csv").read_text() == (two / "curve.csv").read_text()


def test_killed_and_resumed_is_undisturbed(photos, tmp_path):
    """kill -9 after the checkpoint of step 4; the rest needs no flags and ends the same."""
    finish(start(photos, tmp_path / "whole", 7))

    process = start(photos, tmp_path / "killed", 7)
    saved = 0
    for line in process.stdout:
        if line.startswith("saved"):
            saved = int(line.split()[1])
        if saved >= 4:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert saved == 4
    begun = load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["run"]["step"]
    assert begun in (4, 6, 7)
    finish(start(photos, tmp_path / "killed", 0, "resume"))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")

    # A run that is complete stays as it is.
    before = (tmp_path / "whole" / "checkpoint.pt").read_bytes()
    output = finish(start(photos, tmp_path / "whole", 0, "resume"))
    assert "best.safetensors" in output
    assert (tmp_path / "whole" / "checkpoint.pt").read_bytes() == before


def test_resumed_to_more_steps_goes_on(photos, tmp_path):
    finish(start(photos, tmp_path / "out", 2))
    output = finish(start(photos, tmp_path / "out", 5, "resume"))
    assert "going on after step 2 of 5" in output
    assert "step 5/5" in output
    assert load_checkpoint(tmp_path / "out" / "checkpoint.pt")["run"]["step"] == 5


def test_starts_from_the_weights_in_the_package(photos):
    """And stays near them: they are their own teacher."""
    stages = tuple(replace(stage, size=64, pairs=2) for stage in FROM_START)
    recipe = Recipe(steps=4, held_out=2, stages=stages, warmup=1)
    pictures = load_photos(photos_below(photos))
    run = xfeat.Run(pictures, recipe, None, torch.device("cpu"), start="xfeat")
    shipped = read_start("xfeat-covis", "xfeat")
    for name, value in run.average.state_dict().items():
        assert torch.equal(value, shipped[name]), name
    assert run.keeps_start
    losses = run.train_step(run.batch(0))
    assert losses["keypoints"] < 0.01
    for name, value in run.net.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, shipped[name], rtol=0, atol=5e-4)
    with pytest.raises(TrainingError, match="a model of lightglue; this run needs one of xfeat"):
        xfeat.Run(pictures, recipe, None, torch.device("cpu"), start="lightglue-xfeat-covis")


def test_every_process_draws_pairs_of_its_own(photos):
    stages = tuple(replace(stage, size=64, pairs=1) for stage in WITHOUT_TEACHER)
    recipe = Recipe(steps=6, held_out=2, stages=stages)
    first, second, alone = (
        xfeat.Run(
            load_photos(photos_below(photos)), recipe, None, torch.device("cpu"), workers
        ).batch(3)
        for workers in (Workers(2, 0), Workers(2, 1), None)
    )
    np.testing.assert_array_equal(first[0].views, alone[0].views)
    assert (first[0].views != second[0].views).any()


TOGETHER = """
import os
fit = xfeat.fit
def keeping(run, *arguments, **options):
    fit(run, *arguments, **options)
    torch.save(run.average.state_dict(), Path(sys.argv[2]) / f"{os.environ['RANK']}.pt")
xfeat.fit = keeping
"""


@pytest.mark.slow
def test_two_processes_end_alike(torchrun, photos, tmp_path):
    """And other than one alone, which sees half as much."""
    script = SCRIPT.replace("def report", f"{TOGETHER}def report")
    said = {
        count: torchrun(count, script, photos, tmp_path / str(count), 3, "start")
        for count in (1, 2)
    }
    check_processes(tmp_path, said, "step 3/3 ")
    for lines in said.values():
        assert [line for line in lines if line.startswith("saved")] == ["saved 2", "saved 3"]


def test_blends_lie_between_the_end_of_imitation_and_the_last_weights(photos):
    recipe = Recipe(steps=1, held_out=2, stages=WITHOUT_TEACHER, blends=(0.0, 0.25))
    run = xfeat.Run(load_photos(photos_below(photos)), recipe, None, torch.device("cpu"))
    assert not list(run.blends())
    name = "block3.0.layer.0.weight"
    run.anchor = {k: v.clone() for k, v in run.average.state_dict().items()}
    run.average.state_dict()[name].add_(1)
    (_, first), (_, second) = run.blends()
    torch.testing.assert_close(first.state_dict()[name], run.anchor[name])
    torch.testing.assert_close(second.state_dict()[name], run.anchor[name] + 0.25)


def test_validation_tells_good_networks_from_bad(photos, shared):
    good = load_official(shared / "weights" / "xfeat" / "xfeat.safetensors")
    held_out = load_photos(photos_below(photos))
    torch.manual_seed(0)
    sets = xfeat.pair_sets(Difficulty(rotation=10, zoom=1.2, tilt=10, light=0.3))
    results = [
        validate(xfeat.xfeat_features(net), held_out, sets, 0, pairs=2)
        for net in (good, xfeat.XFeat().eval())
    ]
    assert results[0]["score"] > results[1]["score"] + 0.1
    assert all(0 <= value <= 1 for result in results for value in result.values())


def test_batches_are_those_of_the_steps(photos):
    """Rendered ahead or not, and from whichever step on."""
    stages = tuple(replace(stage, size=64, pairs=1) for stage in WITHOUT_TEACHER)
    recipe = Recipe(steps=6, held_out=2, stages=stages)
    run = xfeat.Run(load_photos(photos_below(photos)), recipe, None, torch.device("cpu"))
    assert len(run.held_out) == 2
    assert len(run.photos) == 4
    whole = [pairs[0].views for pairs in run.batches()]
    assert len(whole) == 6
    for step, views in enumerate(whole):
        np.testing.assert_array_equal(views, run.batch(step)[0].views)
    for begin in (0, 2, 5, 6):
        run.step = begin
        rest = [pairs[0].views for pairs in run.batches()]
        assert len(rest) == 6 - begin
        for left, right in zip(rest, whole[begin:], strict=True):
            np.testing.assert_array_equal(left, right)


def test_average_follows_the_network(photos):
    stages = tuple(replace(stage, size=64, pairs=2) for stage in WITHOUT_TEACHER)
    recipe = Recipe(steps=4, held_out=2, stages=stages, warmup=1)
    run = xfeat.Run(load_photos(photos_below(photos)), recipe, None, torch.device("cpu"))
    before = {k: v.clone() for k, v in run.average.state_dict().items()}
    losses = run.train_step(run.batch(0))
    assert run.step == 1
    assert {"descriptors", "confidence", "offsets", "keypoints"} <= losses.keys()
    assert all(np.isfinite(value) for value in losses.values())
    moved = 0
    for name, value in run.average.state_dict().items():
        now = run.net.state_dict()[name]
        if value.is_floating_point():
            expected = before[name] + (now - before[name]) * 0.9
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)
            moved += int(not torch.equal(value, before[name]))
        else:
            assert torch.equal(value, now)
    assert moved > 20
