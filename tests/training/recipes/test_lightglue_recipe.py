"""LightGlue's losses against sums by hand, its start, and that a kill costs nothing."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.training import check_processes, stopped_after

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("h5py", reason="scenes need h5py: covis[train]")

from safetensors.torch import load_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from covis.cli import app  # noqa: E402
from covis.errors import BundleError, TrainingError  # noqa: E402
from covis.features import Extractor  # noqa: E402
from covis.matching import Matcher  # noqa: E402
from covis.matching.nearest import mutual_nearest  # noqa: E402
from covis.nets.aliked import ALIKED  # noqa: E402
from covis.nets.lightglue import LightGlue, load_official  # noqa: E402
from covis.training.data.labelled_pairs import (  # noqa: E402
    NO_PARTNER,
    UNKNOWN,
    LabelledPair,
    positions,
)
from covis.training.data.photos import load_photos, photos_below  # noqa: E402
from covis.training.data.synthetic import Difficulty  # noqa: E402
from covis.training.losses.lightglue import (  # noqa: E402
    assignment_loss,
    best_partners,
    confidence_loss,
    imitation_loss,
    state_loss,
    trace,
)
from covis.training.recipes import lightglue  # noqa: E402

PAIRS, POINTS, DIM = 2, 7, 8


def network(seed=0, **sizes):
    torch.manual_seed(seed)
    return LightGlue(5, **({"dim": DIM, "layers": 2, "heads": 2} | sizes))


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2 * PAIRS, POINTS, 5, generator=generator),
        torch.rand(2 * PAIRS, POINTS, 2, generator=generator),
    )


@pytest.fixture
def labels():
    """Points 0-2 of the images belong together, crosswise; 3 and 4 to none."""
    partners = torch.full((2 * PAIRS, POINTS), UNKNOWN)
    partners[:PAIRS, :3] = torch.tensor([2, 0, 1])
    partners[PAIRS:, :3] = torch.tensor([1, 2, 0])
    partners[:, 3:5] = NO_PARTNER
    return partners


def halves(x):
    return x[:PAIRS], x[PAIRS:]


# The forward pass.


def test_trace_is_the_forward_pass(inputs):
    net = network()
    states = trace(net, *inputs).states
    assert len(states) == 1 + 2 * net.layers
    (d0, d1), (p0, p1) = map(halves, inputs)
    torch.testing.assert_close(
        net.assignment(1)(*halves(states[-1])), net(d0, p0, d1, p1), atol=1e-5, rtol=1e-5
    )


def test_fed_attentions_take_the_teachers_states(inputs):
    net, teacher = network(0), network(1)
    shown = trace(teacher, *inputs)
    fed = trace(net, *inputs, fed=shown.states)
    attention, _ = net.attentions(1)
    rotation = net.posenc(inputs[1])
    torch.testing.assert_close(fed.states[3], attention(shown.states[2], rotation))
    assert not torch.allclose(fed.states[3], trace(net, *inputs).states[3])


def test_of_a_lesser_share_the_rest_is_their_own(inputs):
    net, teacher = network(0), network(1)
    shown, own = trace(teacher, *inputs).states, trace(net, *inputs).states
    rotation = net.posenc(inputs[1])
    mixed = trace(net, *inputs, fed=shown, share=0.25).states
    _, cross = net.attentions(0)
    first = mixed[1]
    torch.testing.assert_close(first, own[1])
    seen = 0.75 * first + 0.25 * shown[1]
    torch.testing.assert_close(mixed[2], torch.cat(cross(*halves(seen))))
    # Each attention answers for what it adds, and for nothing before it.
    mixed[3].square().sum().backward()
    learning, _ = net.attentions(1)
    assert all(p.grad is not None for p in learning.parameters())
    assert all(p.grad is None for each in net.attentions(0) for p in each.parameters())
    assert rotation.cos.shape[1] == POINTS


def test_states_are_compared_by_what_changes():
    before, after = torch.zeros(2, 3, 1), torch.tensor([-1.0, 0, 1]).repeat(2, 1)[..., None]
    assert state_loss([before, after], [before, after]) == 0
    # The variance of what the attention adds is 2/3; half of it is missing everywhere.
    half = state_loss([before, after / 2], [before, after])
    assert half.item() == pytest.approx(np.log1p((0.25 * 2 / 3) / (2 / 3)) / 2)


def test_kept_layers_get_no_gradient_and_change_nothing(inputs):
    net = network()
    kept = trace(net, *inputs, kept=1).states[-1]
    torch.testing.assert_close(kept, trace(net, *inputs).states[-1])
    kept.square().sum().backward()
    for index, learns in ((0, False), (1, True)):
        for attention in net.attentions(index):
            assert all((p.grad is not None) == learns for p in attention.parameters())
    assert all(p.grad is None for p in net.input_proj.parameters())


def test_recomputing_changes_no_gradient(inputs):
    gradients = []
    for recompute in (False, True):
        net = network()
        trace(net, *inputs, recompute=recompute).states[-1].square().sum().backward()
        gradients.append([p.grad for p in net.transformers.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


# The losses.


def test_assignment_loss_by_hand(inputs, labels):
    net = network()
    head = net.assignment(0)
    x = trace(net, *inputs).states[2]
    log_p = head(*halves(x))
    dustbin = torch.nn.functional.logsigmoid(-head.matchability_logits(x))
    positive = [log_p[b, i, j] for b in range(PAIRS) for i, j in ((0, 2), (1, 0), (2, 1))]
    negative = [dustbin[b, i] for b in range(2 * PAIRS) for i in (3, 4)]
    expected = -0.5 * sum(positive) / len(positive) - 0.5 * sum(negative) / len(negative)
    torch.testing.assert_close(assignment_loss(head, x, labels), expected)


def test_assignment_loss_without_any_label_is_nothing(inputs):
    net = network()
    x = trace(net, *inputs).states[-1]
    loss = assignment_loss(net.assignment(1), x, torch.full((2 * PAIRS, POINTS), UNKNOWN))
    assert loss == 0


def test_best_partners_by_hand(inputs):
    net = network()
    head = net.assignment(1)
    x = trace(net, *inputs).states[-1]
    best, log_p = best_partners(head, x)
    table = head(*halves(x))
    alone = torch.nn.functional.logsigmoid(-head.matchability_logits(x))
    for b, i in itertools.product(range(PAIRS), range(POINTS)):
        for image, row in ((0, table[b, i]), (1, table[b, :, i])):
            k = b + image * PAIRS
            assert log_p[k, i] == row.max()
            assert best[k, i] == (row.argmax() if row.max() > alone[k, i] else NO_PARTNER)


def test_confidence_loss_by_hand_and_it_moves_no_point(inputs):
    net = network()
    x = trace(net, *inputs).states[2]
    here = torch.randint(-1, 3, (2 * PAIRS, POINTS), generator=torch.Generator().manual_seed(2))
    final = torch.randint(-1, 3, (2 * PAIRS, POINTS), generator=torch.Generator().manual_seed(3))
    token = net.confidence(0)
    sure = token(x)
    agree = here == final
    expected = -torch.where(agree, sure.log(), (1 - sure).log()).mean()
    loss = confidence_loss(token, x, here, final)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is None for p in net.transformers.parameters())
    assert all(p.grad is not None for p in token.parameters())


def test_imitation_is_perfect_only_for_the_same_network(inputs):
    student, teacher = network(0), network(1)
    own, shown = trace(student, *inputs), trace(teacher, *inputs)
    for loss in imitation_loss(teacher, teacher, shown, shown).values():
        assert loss < 1e-8
    for loss in imitation_loss(student, teacher, own, shown).values():
        assert loss > 1e-2


# The start without a teacher.


def test_start_matches_like_nearest_neighbours():
    rng = np.random.default_rng(0)
    unit = rng.standard_normal((2, 40, 5)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=2, keepdims=True)
    net = network(layers=3)
    lightglue.as_nearest_neighbour(net)
    with torch.no_grad():
        states = trace(net, torch.from_numpy(unit), torch.rand(2, 40, 2)).states
    expected, _ = mutual_nearest(*unit, threads=1)
    for index in range(net.layers):
        log_p = net.assignment(index)(*(s[None] for s in states[2 * index + 2]))[0]
        # The dual softmax ranks rows and columns as the similarities do where both agree.
        similar = log_p.detach().numpy()
        rows = similar.argmax(axis=1)
        mutual = similar.argmax(axis=0)[rows] == np.arange(40)
        found = set(zip(np.flatnonzero(mutual), rows[mutual], strict=True))
        assert {tuple(pair) for pair in expected} <= found


# Runs.

TINY = tuple(
    replace(stage, share=share, size=96, keypoints=24, pairs=4, difficulty=Difficulty(), kept=kept)
    for stage, share, kept in zip(
        (lightglue.WITH_TEACHER[0], *lightglue.WITH_TEACHER[3:]),
        (0.4, 0.3, 0.3),
        (0, 1, 0),
        strict=True,
    )
)
TINY_RECIPE = lightglue.Recipe(
    steps=6,
    dim=8,
    layers=2,
    held_out=2,
    validation_pairs=2,
    checkpoint_every=3,
    validate_every=3,
    stages=TINY,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, texture):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), np.roll(texture, 60 * i, axis=1)[:256, :256])
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    from covis.training.checkpoint import save_weights

    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    torch.manual_seed(4)
    save_weights(LightGlue(64, dim=8, layers=2, heads=1), path)
    return path


def test_starts_from_the_weights_in_the_package(photos):
    """Which match as the model does; other sizes are refused."""
    pictures = load_photos(photos_below(photos))
    recipe = lightglue.Recipe(steps=2, held_out=2, stages=lightglue.FROM_START)
    device = torch.device("cpu")
    run = lightglue.Run(pictures, recipe, "xfeat", None, device, start="lightglue")
    extract = Extractor(max_keypoints=200, max_size=0)
    features0, features1 = extract(photos / "0.png"), extract(photos / "1.png")
    inputs = [
        torch.from_numpy(values)[None]
        for each in (features0, features1)
        for values in (each.descriptors, positions(each))
    ]
    with torch.no_grad():
        log_p = run.net.eval()(*inputs)[0].exp().numpy()
    found = Matcher("lightglue", full_depth=True)(features0, features1)
    assert len(found) > 10
    for (row, column), score in zip(found.indices, found.scores, strict=True):
        assert log_p[row, column] == pytest.approx(score, abs=1e-3)
    with pytest.raises(BundleError, match="lightglue: not the weights of LightGlue; "):
        lightglue.Run(pictures, replace(recipe, dim=8), "xfeat", None, device, start="lightglue")


@pytest.mark.parametrize(
    "stages",
    [
        lightglue.WITH_TEACHER,
        lightglue.WITH_KEYPOINT_TEACHER,
        lightglue.WITHOUT_TEACHER,
        lightglue.FROM_START,
    ],
)
def test_shares_are_the_whole(stages):
    assert sum(stage.share for stage in stages) == pytest.approx(1)


def test_resumed_run_ends_with_the_same_weights(tmp_path, photos, teacher):
    def go(out, recipe, **options):
        return lightglue.train(
            photos, out, teacher=teacher, recipe=recipe, report=lines.append, **options
        )

    lines: list[str] = []
    whole = go(tmp_path / "whole", TINY_RECIPE)

    class KilledError(Exception):
        pass

    def kill(line):
        if line.startswith("step 3:"):
            raise KilledError

    # Killed after the validation at step 3, before that step's checkpoint: from the start.
    with pytest.raises(KilledError):
        lightglue.train(photos, tmp_path / "cut", teacher=teacher, recipe=TINY_RECIPE, report=kill)
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()

    with stopped_after(lightglue.Run, 5):
        go(tmp_path / "cut", TINY_RECIPE)
    resumed = go(tmp_path / "cut", TINY_RECIPE, resume=True)
    states = [torch.load(p.parent / "checkpoint.pt") for p in (whole, resumed)]
    for a, b in zip(*(s["run"]["net"].values() for s in states), strict=True):
        assert torch.equal(a, b)
    assert (whole.parent / "curve.csv").read_text() == (resumed.parent / "curve.csv").read_text()
    assert "nearest_score" in (whole.parent / "curve.csv").read_text()
    loaded = load_official(whole)
    assert (loaded.dim, loaded.layers, loaded.adaptive) == (8, 2, True)


SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[1], str(Path(sys.argv[1]).parents[1])
from test_lightglue_recipe import TINY_RECIPE
from covis.training.recipes import lightglue
torch.set_num_threads(1)
teacher, photos, out = map(Path, sys.argv[2:])
fit = lightglue.fit
def keeping(run, *arguments, **options):
    fit(run, *arguments, **options)
    torch.save(run.average.state_dict(), out / f"{run.workers.rank}.pt")
lightglue.fit = keeping
lightglue.train(photos, out, teacher=teacher, recipe=TINY_RECIPE)
"""


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """An ALIKED and a LightGlue for it, the one wider and deeper than the student."""
    folder = tmp_path_factory.mktemp("wider")
    torch.manual_seed(5)
    torch.save(ALIKED((4, 4, 8, 8), 16, positions=4).state_dict(), folder / "aliked.pth")
    torch.save(LightGlue(16, dim=32, layers=3, heads=2).state_dict(), folder / "lightglue.pth")
    return {"teacher": folder / "lightglue.pth", "teacher_features": folder / "aliked.pth"}


@pytest.fixture
def one_thread():
    """Sums of several threads may differ in their last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_taught_at_its_own_keypoints_a_resumed_run_ends_alike(tmp_path, photos, wider, monkeypatch):
    stages = tuple(
        replace(stage, share=share, size=96, keypoints=24, pairs=4, difficulty=Difficulty())
        for stage, share in zip(
            (*lightglue.WITH_KEYPOINT_TEACHER[:3], lightglue.WITH_KEYPOINT_TEACHER[4]),
            (0.4, 0.2, 0.2, 0.2),
            strict=True,
        )
    )
    monkeypatch.setattr(lightglue, "WITH_KEYPOINT_TEACHER", stages)
    monkeypatch.setattr(lightglue, "FIRST_PAIRS", 3)
    recipe = replace(TINY_RECIPE, heads=2, dim=16)
    lines: list[str] = []

    def go(out, **options):
        return lightglue.train(photos, out, recipe=recipe, report=lines.append, **wider, **options)

    whole = go(tmp_path / "whole")
    with stopped_after(lightglue.Run, 4):
        go(tmp_path / "cut")
    resumed = go(tmp_path / "cut", resume=True)
    for a, b in zip(*(load_file(path).values() for path in (whole, resumed)), strict=True):
        assert torch.equal(a, b)
    with (whole.parent / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        for who in ("", "nearest_", "teacher_"):
            assert 0 <= float(row[f"{who}score"]) <= 1
            assert row[f"{who}score"] == row[f"{who}photos_score"]
    assert any(line.startswith("step 1/6") and "states" in line for line in lines)


def test_exception_a_teacher_that_is_not_wider(tmp_path, photos, wider):
    for name, value, said in (
        ("dim", 64, "dim is 32, less than the matcher's 64"),
        ("layers", 4, "layers is 3, less than the matcher's 4"),
        ("heads", 1, "has 2 heads, the matcher 1"),
    ):
        recipe = replace(TINY_RECIPE, **({"heads": 2} | {name: value}))
        with pytest.raises(TrainingError, match=said):
            lightglue.train(photos, tmp_path / "run", recipe=recipe, **wider)


@pytest.mark.slow
def test_two_processes_end_alike(torchrun, tmp_path, photos, teacher):
    """And other than one alone, which sees half as much."""
    said = {
        count: torchrun(
            count, SCRIPT, Path(__file__).parent, teacher, photos, tmp_path / str(count)
        )
        for count in (1, 2)
    }
    check_processes(tmp_path, said, "step 6/6 ")
    rows = (tmp_path / "2" / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "3", "6"]


def test_only_confidences_change_in_the_last_stage(photos):
    recipe = replace(TINY_RECIPE, stages=TINY[-1:])
    pictures = [cv2.imread(str(p)) for p in sorted(photos.iterdir())]
    run = lightglue.Run(pictures, recipe, "xfeat", None, torch.device("cpu"))
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    run.train_step(next(iter(run.batches())))
    changed = {k for k, v in run.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith("token_confidence") for name in changed)


def test_batch_cuts_pairs_to_the_smallest():
    def pair(count):
        zeros = np.zeros((2, count, 2), np.float32)
        return LabelledPair(zeros, zeros, zeros, np.full((2, count), count - 1))

    batch = lightglue.Batch.of([pair(3), pair(5)], torch.device("cpu"))
    assert batch.partners.tolist() == [[2] * 3, [NO_PARTNER] * 3, [2] * 3, [NO_PARTNER] * 3]
    assert batch.descriptors.shape == (4, 3, 2)


def test_exception_teacher_of_other_sizes(tmp_path, photos, teacher):
    recipe = replace(TINY_RECIPE, layers=3)
    with pytest.raises(TrainingError, match="teacher's layers is 2, the matcher's 3"):
        lightglue.train(photos, tmp_path / "run", teacher=teacher, recipe=recipe)


def test_exception_runs_are_not_mixed_up(tmp_path, photos):
    recipe = replace(TINY_RECIPE, steps=1)
    with pytest.raises(TrainingError, match="nothing to resume"):
        lightglue.train(photos, tmp_path / "run", recipe=recipe, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightglue, "WITHOUT_TEACHER", TINY[-1:])
        lightglue.train(photos, tmp_path / "run", recipe=recipe, report=lambda line: None)
    with pytest.raises(TrainingError, match="holds a run already"):
        lightglue.train(photos, tmp_path / "run", recipe=recipe)
    with pytest.raises(TrainingError, match="other settings"):
        lightglue.train(photos, tmp_path / "run", recipe=replace(recipe, seed=1), resume=True)


def test_command_says_what_is_wrong(tmp_path, photos):
    result = CliRunner().invoke(
        app,
        ["train", "lightglue", "--photos", str(photos), "--out", str(tmp_path), "--heads", "5"],
    )
    assert result.exit_code == 2
    assert "--dim 96 is no multiple of twice --heads 5" in result.output
