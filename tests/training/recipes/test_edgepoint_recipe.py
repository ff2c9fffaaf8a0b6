"""The run that trains EdgePoint2: what it refuses, that a kill costs nothing, that it learns."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from helpers.textures import soft_noise

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the comparison needs bundles: covis[train]")

from safetensors.torch import load_file  # noqa: E402

from covis.errors import TrainingError  # noqa: E402
from covis.nets.edgepoint import CONFIGURATIONS, EdgePoint, load_official  # noqa: E402
from covis.training import loop  # noqa: E402
from covis.training.checkpoint import save_checkpoint  # noqa: E402
from covis.training.data.photos import load_photos, photos_below  # noqa: E402
from covis.training.data.synthetic import Pair  # noqa: E402
from covis.training.distributed import Workers  # noqa: E402
from covis.training.recipes import edgepoint  # noqa: E402
from covis.training.recipes.edgepoint import edgepoint_features, sample, score_peaks  # noqa: E402
from covis.training.start import read_start  # noqa: E402
from covis.training.validation import KEYPOINTS, bundle_features, validate  # noqa: E402

STEPS = 6


def test_shares_are_the_whole():
    assert sum(stage.share for stage in edgepoint.STAGES) == pytest.approx(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        cv2.imwrite(str(folder / f"{seed}.png"), soft_noise(30, 40, (200, 150), seed))
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
    others = {"steps": None, "configuration": "S64", "seed": 9}
    run(photos, tmp_path / "killed", teacher, resume=True, **others)
    for name in ("best", "latest"):
        whole, killed_one = (
            load_file(tmp_path / which / f"{name}.safetensors") for which in ("whole", "killed")
        )
        assert whole.keys() == killed_one.keys()
        for key, value in whole.items():
            assert torch.equal(value, killed_one[key]), key
    for which in ("whole", "killed"):
        with (tmp_path / which / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["3", "6"]
        assert all(row["teacher score"] == row["xfeat score"] == "0.5" for row in rows)
    load_official(best)


def test_pairs_with_real_depth_are_among_those_learnt(photos, teacher, tiny):
    class Places:
        """Every pair of theirs is black."""

        def pair(self, size, light, turn, rng):
            cells = size // 8
            return Pair(
                np.zeros((2, size, size), np.uint8),
                np.zeros((cells, cells, 2), np.float32),
                np.zeros((cells, cells), bool),
            )

    pictures, net = load_photos(photos_below(photos)), load_official(teacher)
    learnt = {}
    for places in (None, Places()):
        run = edgepoint.Run(pictures, tiny("T32", STEPS), net, torch.device("cpu"), None, places)
        scenes = [pair for step in range(STEPS) for pair in run.batch(step).scenes]
        learnt[places is None] = [not pair.views.any() for pair in scenes]
    assert len(learnt[True]) == len(learnt[False]) > 1
    assert not any(learnt[True])
    assert any(learnt[False])


def test_every_process_draws_pairs_of_its_own(photos, teacher, tiny):
    pictures, net = load_photos(photos_below(photos)), load_official(teacher)
    first, second, alone = (
        edgepoint.Run(pictures, tiny("T32", STEPS), net, torch.device("cpu"), workers).batch(4)
        for workers in (Workers(2, 0), Workers(2, 1), None)
    )
    for parts in (lambda batch: batch.turned, lambda batch: batch.scenes):
        own, other, same = (parts(batch)[0].views for batch in (first, second, alone))
        np.testing.assert_array_equal(own, same)
        assert (own != other).any()


SCRIPT = """
import os, sys
from dataclasses import dataclass, replace
from pathlib import Path
import torch
from covis.training.recipes import edgepoint
torch.set_num_threads(1)
@dataclass(frozen=True)
class Tiny(edgepoint.Recipe):
    held_out: int = 2
    peaks: int = 48
    stages: tuple = tuple(replace(stage, size=96, turned=2) for stage in edgepoint.STAGES)
edgepoint.Recipe = Tiny
edgepoint.validate = lambda *_: {"score": 0.5}
fit = edgepoint.fit
def keeping(run, out, **options):
    fit(run, out, **options)
    torch.save(run.average.state_dict(), out / f"{os.environ['RANK']}.pt")
edgepoint.fit = keeping
photos, teacher, out = map(Path, sys.argv[1:])
edgepoint.train(photos, out, teacher, configuration="T32", steps=3)
"""


@pytest.mark.slow
def test_two_processes_end_alike(torchrun, photos, teacher, tmp_path):
    """And other than one alone, which sees half as much."""
    lines = {
        count: torchrun(count, SCRIPT, photos, teacher, tmp_path / str(count)) for count in (1, 2)
    }
    first, second = (torch.load(tmp_path / "2" / f"{rank}.pt") for rank in range(2))
    alone = torch.load(tmp_path / "1" / "0.pt")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert any(not torch.equal(value, alone[name]) for name, value in first.items())
    for said in lines.values():
        assert sum(line.startswith("step 3/3 ") for line in said) == 1


def test_starts_from_the_weights_in_the_package(photos, teacher, tiny):
    """Though their norms are folded, what a batch of training gives is near what they give."""
    settings = tiny("E64", STEPS)
    torch.manual_seed(0)
    other = EdgePoint(CONFIGURATIONS["E64"]).eval()
    run = edgepoint.Run(load_photos(photos_below(photos)), settings, other, torch.device("cpu"))
    run.begin_with("edgepoint")
    shipped = EdgePoint(CONFIGURATIONS["E64"]).eval()
    shipped.load_state_dict(read_start("edgepoint-covis", "edgepoint"))
    images = run._images(np.concatenate([pair.views for pair in run.batch(0).turned]))
    with torch.no_grad():
        wanted = shipped(images).descriptors
        for net, least in ((run.average, 0.9999), (run.net.train(), 0.9)):
            alike = torch.nn.functional.cosine_similarity(net(images).descriptors, wanted)
            assert alike.mean() > least


def test_exception_too_few_photos(photos, tmp_path):
    (tmp_path / "few").mkdir()
    for path in sorted(photos.iterdir())[:2]:
        (tmp_path / "few" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(TrainingError, match=r"2 photos .* are too few: training takes 3 or more"):
        run(tmp_path / "few", tmp_path / "out", tmp_path / "no teacher.pth")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny")
def test_exception_descriptors_of_another_length(photos, teacher, tmp_path):
    with pytest.raises(TrainingError, match="describes with 32 numbers and 64 are to be learnt"):
        run(photos, tmp_path / "out", teacher, configuration="E64")
    assert not (tmp_path / "out").exists()


def test_exception_resumed_with_another_recipe(photos, teacher, tmp_path):
    state = {"configuration": "T32", "steps": 3, "seed": 0, "began_with": "(Recipe(),)"}
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="began with other settings"):
        run(photos, tmp_path, teacher, resume=True)


@pytest.mark.slow
def test_imitation_learns(photos, teacher, tiny):
    """A few steps on the same views bring descriptors and scores nearer to the teacher's."""
    images = [cv2.imread(str(path)) for path in sorted(photos.iterdir())]
    stages = (replace(tiny().stages[0], share=1.0, final_rate=3e-3),)
    recipe = tiny(configuration="T32", steps=40, stages=stages)
    training = edgepoint.Run(images, recipe, load_official(teacher), torch.device("cpu"))
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


@pytest.mark.slow
def test_validation_tells_good_features_from_bad(photos, random_edgepoint):
    from covis import Extractor

    sets = {
        name: replace(each, difficulty=replace(each.difficulty, zoom=1.2, tilt=10, light=0.3))
        for name, each in edgepoint.SETS.items()
        if name != "turned"
    }
    good, bad = (
        validate(extract, load_photos(photos_below(photos)), sets, 0, pairs=2)
        for extract in (
            bundle_features(Extractor(max_keypoints=KEYPOINTS)),
            edgepoint_features(random_edgepoint),
        )
    )
    assert good.keys() == bad.keys() == {"plane", "scene", "score"}
    assert good["score"] > bad["score"] + 0.1
