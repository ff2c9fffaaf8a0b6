"""The run that trains EdgePoint2: what it refuses, that a kill costs nothing, that it learns."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the comparison needs bundles: covis[train]")

from covis.errors import BundleError, TrainingError  # noqa: E402
from covis.nets.edgepoint import CONFIGURATIONS, EdgePoint, load_official  # noqa: E402
from covis.training import loop  # noqa: E402
from covis.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from covis.training.edgepoint_matching import edgepoint_features, sample, score_peaks  # noqa: E402
from covis.training.recipes import edgepoint  # noqa: E402

STEPS = 6


def test_shares_are_the_whole():
    assert sum(stage.share for stage in edgepoint.STAGES) == pytest.approx(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.resize(noise, (200, 150)))
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    net = EdgePoint(CONFIGURATIONS["T32"]).eval()
    with torch.no_grad():
        net.score_head[4].weight.mul_(30)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def tiny(monkeypatch):
    """A recipe of six small steps; what validation measures costs seconds and is left out."""

    @dataclass(frozen=True)
    class Tiny(edgepoint.Recipe):
        held_out: int = 2
        checkpoint_every: int = 2
        validate_every: int = 3
        warmup: int = 2
        peaks: int = 48
        stages: tuple[edgepoint.Stage, ...] = tuple(
            replace(stage, share=1 / 4, size=96, turned=2) for stage in edgepoint.STAGES
        )

    monkeypatch.setattr(edgepoint, "Recipe", Tiny)
    monkeypatch.setattr(edgepoint, "validate", lambda *_: {"score": 0.5})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Tiny
    torch.set_num_threads(threads)


def run(photos, out, teacher, **options):
    settings = {"configuration": "T32", "steps": STEPS, "report": lambda line: None}
    return edgepoint.train(photos, out, teacher, **settings | options)


@pytest.mark.usefixtures("tiny")
def test_a_killed_run_ends_as_one_that_was_not(photos, teacher, tmp_path, monkeypatch):
    best = run(photos, tmp_path / "whole", teacher)
    assert best == tmp_path / "whole" / "best.safetensors"

    save = loop.save_checkpoint

    def killed(state, path):
        save(state, path)
        if state["run"]["step"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "killed", teacher)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    run(photos, tmp_path / "killed", teacher, resume=True, configuration="S64", seed=5)
    whole, killed_one = (
        load_checkpoint(tmp_path / which / "checkpoint.pt")["run"] for which in ("whole", "killed")
    )
    assert whole["step"] == killed_one["step"] == STEPS
    for name in ("net", "average"):
        for key, value in whole[name].items():
            assert torch.equal(value, killed_one[name][key]), key
    for which in ("whole", "killed"):
        with (tmp_path / which / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["0", "3", "6"]
        assert all(row["teacher score"] == row["xfeat score"] == "0.5" for row in rows)
    load_official(best)


def test_exception_too_few_photos(photos, teacher, tmp_path):
    with pytest.raises(TrainingError, match="5 photos are too few: 48 are kept for validation"):
        run(photos, tmp_path / "out", teacher)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny")
def test_a_run_begins_with_the_weights_it_is_given(photos, teacher, tmp_path):
    best = run(photos, tmp_path / "out", teacher, steps=1, start=teacher)
    begun, given = load_official(best), load_official(teacher)
    for one, two in zip(begun.parameters(), given.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(BundleError, match="other shape"):
        other = EdgePoint(CONFIGURATIONS["S32"])
        torch.save(other.state_dict(), tmp_path / "other.pth")
        run(photos, tmp_path / "second", teacher, start=tmp_path / "other.pth")


@pytest.mark.usefixtures("tiny")
def test_exception_descriptors_of_another_length(photos, teacher, tmp_path):
    with pytest.raises(TrainingError, match="describes with 32 numbers and 64 are to be learnt"):
        run(photos, tmp_path / "out", teacher, configuration="E64")
    assert not (tmp_path / "out").exists()


def test_exception_resumed_with_another_recipe(photos, teacher, tmp_path):
    state = {"configuration": "T32", "steps": 3, "seed": 0, "began_with": "Recipe()"}
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="began with other settings"):
        run(photos, tmp_path, teacher, resume=True)


@pytest.mark.slow
def test_imitation_learns(photos, teacher, tiny):
    """A few steps on the same views bring descriptors and scores nearer to the teacher's."""
    images = [cv2.imread(str(path)) for path in sorted(photos.iterdir())]
    stages = (replace(tiny().stages[0], share=1.0, final_rate=3e-3),)
    recipe = tiny(configuration="T32", steps=40, stages=stages)
    device = torch.device("cpu")
    training = edgepoint.Run(images, recipe, load_official(teacher), None, device)
    batch = training.batch(0)
    losses = [training.train_step(batch) for _ in range(40)]
    for name in ("scores", "likeness", "relation", "truth"):
        assert losses[-1][name] < 0.8 * losses[0][name], name


def test_peaks_are_the_largest_of_their_neighbourhood():
    scores = torch.full((2, 40, 40), -9.0)
    scores[0, 10, [10, 12, 15, 30]] = torch.tensor([3.0, 2.0, 1.0, 4.0])
    scores[0, 2, 20] = 9.0
    (places, values), (none, _) = score_peaks(scores, 5, -5.0)
    assert places.tolist() == [[30, 10], [10, 10], [15, 10]]
    assert values.tolist() == [4, 3, 1]
    assert len(none) == 0


def test_convention_training_samples_where_the_runtime_does(random_edgepoint):
    from covis.features.edgepoint import sample_descriptors

    cells = torch.randn(16, 12, 18)
    points = np.random.default_rng(0).integers(4, 44, (30, 2))
    expected = sample_descriptors(np.ascontiguousarray(cells.permute(1, 2, 0)), points)
    np.testing.assert_allclose(sample(cells, torch.tensor(points).float()), expected, atol=1e-5)
    xy, found = edgepoint_features(random_edgepoint)(
        np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    )
    assert xy.shape[1] == 2
    assert found.shape == (len(xy), 32)
