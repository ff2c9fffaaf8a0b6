"""DELG's training run: its views, what it refuses, and that a kill costs nothing."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from safetensors.torch import load_file  # noqa: E402

from covis.errors import TrainingError  # noqa: E402
from covis.nets.delg import light_delg  # noqa: E402
from covis.training.checkpoint import load_checkpoint  # noqa: E402
from covis.training.data.image_labels import read_folders, read_unlabelled  # noqa: E402
from covis.training.data.views import CROP, HARD, SAME, render_view  # noqa: E402
from covis.training.recipes import delg as training  # noqa: E402

TINY = replace(
    training.LIGHT,
    steps=5,
    batch=4,
    sides=(64, 96),
    warmup=1,
    held_out=2,
    checkpoint_every=2,
    validate_every=2,
    start_views=6,
)

TINY_LABELLED = replace(TINY, views=(HARD,), loss="arcface", kept=())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten photos in two folders, one of which is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(10):
        noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3)).astype(np.uint8)
        (folder / str(seed % 2)).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / str(seed % 2) / f"{seed}.png"), cv2.resize(noise, (200, 150)))
    (folder / "0" / "damaged.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture
def tiny(monkeypatch):
    """Recipes of a few small views; the model is written elsewhere in these tests."""
    monkeypatch.setattr(training, "LIGHT", TINY)
    monkeypatch.setattr(training, "LIGHT_LABELLED", TINY_LABELLED)
    written = []
    monkeypatch.setattr(training, "_write_bundle", lambda delg, out, run: written.append(run.best))
    return written


def tiny_run(photos, net, workers=None, **changes):
    found = read_folders(photos) if changes.get("loss") == "arcface" else read_unlabelled(photos)
    torch.manual_seed(0)
    recipe = replace(TINY, **changes)
    return training.Run(found, recipe, light_delg(net), torch.device("cpu"), workers)


# Views.


@pytest.mark.parametrize("change", [SAME, HARD, CROP])
@pytest.mark.parametrize("grey", [True, False])
def test_views(texture, change, grey):
    other = np.full((40, 50, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    for size in ((64, 96), (160, 128)):
        view = render_view(texture, other, size, change, rng, grey=grey)
        assert view.dtype == np.uint8
        assert view.shape == (1 if grey else 3, *size)
        assert view.std() > 1


def test_unchanged_view_is_the_photo(texture):
    """Nothing changed, sizes that fit: the photo itself, in grey or in RGB."""
    nothing = replace(SAME, zoom=1, rotation=0, aspect=0, tilt=0, shift=0, light=0)
    rng = np.random.default_rng(0)
    grey = render_view(texture, texture, texture.shape[:2], nothing, rng)[0]
    assert np.abs(grey.astype(int) - texture.mean(axis=2)).max() <= 2
    colour = render_view(texture, texture, texture.shape[:2], nothing, rng, grey=False)
    assert np.abs(colour.transpose(1, 2, 0)[..., ::-1].astype(int) - texture).max() <= 2


def test_hard_views_show_less_of_the_photo_than_mild_ones(texture):
    def likeness(change):
        rng = np.random.default_rng(0)
        grey = texture.mean(axis=2).ravel()
        views = [render_view(texture, texture[::-1], (480, 640), change, rng) for _ in range(20)]
        return np.mean([np.corrcoef(view.ravel(), grey)[0, 1] for view in views])

    assert likeness(SAME) > likeness(HARD) + 0.2


def test_view_sizes():
    rng = np.random.default_rng(0)
    sizes = np.array([training.view_size((256, 576), rng) for _ in range(300)])
    assert (sizes % 32 == 0).all()
    assert sizes.max() <= 576
    assert sizes.max(axis=1).min() >= 224
    assert (sizes[:, 0] > sizes[:, 1]).any()
    assert (sizes[:, 0] < sizes[:, 1]).any()
    assert training.view_size(training.PUBLISHED.sides, rng) == (512, 512)


# Steps.


def test_whitening_equals_variances():
    torch.manual_seed(0)
    samples = torch.randn(500, 6) @ torch.randn(6, 6) + 3
    layer = torch.nn.Linear(6, 4)
    training.whiten(layer, samples, floor=0.0)
    with torch.inference_mode():
        found = layer(samples)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.T @ found / 500, torch.eye(4), rtol=0, atol=1e-3)


def test_rates_fall_to_zero():
    recipe = replace(training.LIGHT, steps=1000, warmup=10)
    rates = np.array([recipe.rate_at(step) for step in range(1000)])
    assert rates[0] == pytest.approx(recipe.rate / 10)
    assert rates.argmax() in (9, 10)
    assert (np.diff(rates[10:]) < 0).all()
    assert 0 < rates[-1] < 0.002 * recipe.rate


def test_batches_are_those_of_the_steps(photos, random_net):
    run = tiny_run(photos, random_net)
    whole = list(run.batches())
    assert len(whole) == 5
    run.step = 3
    for step, batch in zip((3, 4), run.batches(), strict=True):
        assert torch.equal(batch.views, whole[step].views)
        assert torch.equal(batch.labels, whole[step].labels)
    # Two views of each photo, no photo twice.
    for batch in whole:
        one, other = batch.labels.chunk(2)
        assert torch.equal(one, other)
        assert len(set(one.tolist())) == 4


@pytest.mark.parametrize("loss", ["contrast", "arcface"])
def test_workers_share_a_batch(photos, random_net, loss):
    whole = tiny_run(photos, random_net, loss=loss).batch(1)
    parts = [
        tiny_run(photos, random_net, training.Workers(2, rank), loss=loss).batch(1)
        for rank in range(2)
    ]
    for rank, part in enumerate(parts):
        for view, label in zip(part.views, part.labels, strict=True):
            same = [torch.equal(view, other) for other in whole.views]
            assert sum(same) == 1
            assert same.index(True) % 2 == rank
            assert whole.labels[same.index(True)] == label
    assert sum(len(part.views) for part in parts) == len(whole.views)


@pytest.mark.parametrize("loss", ["contrast", "arcface"])
def test_a_step_learns_the_head_and_only_the_head(photos, random_net, loss):
    run = tiny_run(photos, random_net, loss=loss, local=True, views=(SAME, HARD))
    if loss == "contrast":
        # Its classes are the photos.
        assert run.losses["attention"].classify.out_features == len(run.photos)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    losses = run.train_step(run.batch(0))
    assert losses.keys() == {"global", "reconstruction", "attention"}
    assert all(np.isfinite(value) for value in losses.values())
    for name, value in run.net.state_dict().items():
        frozen = name.startswith("backbone.net.")
        assert torch.equal(value, before[name]) == frozen, name


def test_kept_views(photos, random_net, tmp_path):
    """Made once, whoever asks; drawn by kind; and only the whitening layer learns from them."""
    run = tiny_run(photos, random_net)
    run.start_head()
    run.keep_views(tmp_path / "views.pt", report=lambda line: None)
    assert run.kept.shape == (9, 8, run.net.head.whiten.in_features)
    one = run._pooled(run.photos, 3, HARD, 0, 6, 5)[0]
    torch.testing.assert_close(run.kept[3, 5].float(), one, rtol=1e-2, atol=1e-3)
    drawn = run.batch(2)
    kinds = run.kept[:, :2].flatten(0, 1), run.kept[:, 2:].flatten(0, 1)
    for views, kind in zip(drawn.views.chunk(2), kinds, strict=True):
        assert all((kind == view).all(dim=1).any() for view in views)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    assert np.isfinite(run.train_step(drawn)["global"])
    for name, value in run.net.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("head.")), name

    # What was done before a kill is not done again, unless the directions are others.
    whole, again = run.kept, tiny_run(photos, random_net)
    again.net.load_state_dict(before)
    again._pooled = None
    again.keep_views(tmp_path / "views.pt")
    assert torch.equal(again.kept, whole)
    other = tiny_run(photos, random_net)
    other.keep_views(tmp_path / "views.pt", report=lambda line: None)
    assert not torch.equal(other.kept, whole)


def test_directions_hold_most_of_a_moment():
    torch.manual_seed(0)
    rows = torch.randn(500, 6) * torch.tensor([5.0, 0.1, 3, 0.1, 2, 0.1])
    layer = torch.nn.Conv2d(6, 3, 1, bias=False)
    training.start_directions(layer, rows.T @ rows)
    kept = layer.weight[:, :, 0, 0].detach()
    torch.testing.assert_close(kept @ kept.T, torch.eye(3), rtol=0, atol=1e-5)
    assert ((rows @ kept.T).square().sum() / rows.square().sum()).item() > 0.99


def test_validation_is_the_same_every_time(photos, random_net):
    run = tiny_run(photos, random_net)
    assert run.validate() == run.validate()
    assert all(0 <= value <= 1 for value in run.validate().values())


# Whole runs.


def assert_same_run(one, two):
    left, right = (load_checkpoint(out / "checkpoint.pt")["run"] for out in (one, two))
    assert left["step"] == right["step"] == 5
    for part in ("net", "losses"):
        for name, value in left[part].items():
            assert torch.equal(value, right[part][name]), name
    for index, state in left["optimiser"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, right["optimiser"]["state"][index][name]), name
    best = [load_file(out / "best.safetensors") for out in (one, two)]
    for name, value in best[0].items():
        assert torch.equal(value, best[1][name]), name
    assert (one / "curve.csv").read_text() == (two / "curve.csv").read_text()


class Killed(Exception):
    pass


@pytest.mark.parametrize("labels", [None, "folders"])
def test_killed_and_resumed_is_undisturbed(photos, tmp_path, tiny, monkeypatch, labels):
    said = []
    options = {"start": "random", "labels": labels, "report": said.append}
    training.train(photos, tmp_path / "whole", **options)
    assert said[0] == ("11 photos, 11 classes" if labels is None else "11 photos, 2 classes")

    step = training.Run.train_step

    def killed(run, batch):
        if run.step == 3:
            raise Killed
        return step(run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "train_step", killed)
        with pytest.raises(Killed):
            training.train(photos, tmp_path / "killed", **options)
    assert load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["run"]["step"] == 2
    training.train(photos, tmp_path / "killed", resume=True, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert len(tiny) == 2
    assert tiny[0] == tiny[1]


def test_exceptions_of_a_run(photos, tmp_path, tiny):
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: nothing to resume"):
        training.train(photos, tmp_path / "out", start="random", resume=True)
    with pytest.raises(TrainingError, match="'vgg' is no backbone; there are: xfeat, resnet50"):
        training.train(photos, tmp_path / "out", backbone="vgg")
    (tmp_path / "out").mkdir(exist_ok=True)
    state = {"run": {}, "steps": 5, "seed": 0, "began": "otherwise"}
    torch.save(state, tmp_path / "out" / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"holds a run already\. Add --resume"):
        training.train(photos, tmp_path / "out", start="random")
    with pytest.raises(TrainingError, match="this run began otherwise"):
        training.train(photos, tmp_path / "out", start="random", resume=True)


def test_few_photos_are_shared_out(photos, random_net):
    few = tiny_run(photos, random_net, held_out=48, start_views=1024)
    assert (len(few.held_out), few.start_views) == (3, 8 * 8)
    with pytest.raises(TrainingError, match="3 processes cannot share 4 photos"):
        tiny_run(photos, random_net, training.Workers(3, 0))


def test_resnet_learns_everything(photos, tmp_path):
    """The published recipe on a narrow ResNet: all three losses, the backbone and its norms."""
    transformers = pytest.importorskip("transformers", reason="ResNets need transformers")
    from covis.nets.delg import Delg, ResNetBackbone

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1]
    )
    delg = Delg(ResNetBackbone(transformers.ResNetModel(config)), 12, 5, 7)
    recipe = replace(training.PUBLISHED, steps=3, batch=3, sides=(64, 64), held_out=2)
    run = training.Run(read_folders(photos), recipe, delg, torch.device("cpu"))
    before = {k: v.clone() for k, v in delg.state_dict().items()}
    losses = run.train_step(run.batch(0))
    assert losses.keys() == {"global", "reconstruction", "attention"}
    changed = [k for k, v in delg.state_dict().items() if not torch.equal(v, before[k])]
    assert any(name.startswith("backbone.net.embedder") for name in changed)
    assert any(name.startswith("attention") for name in changed)


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from covis.training.recipes import delg
torch.set_num_threads(1)
delg.LIGHT_LABELLED = replace(
    delg.LIGHT_LABELLED, batch=4, sides=(64, 96), warmup=1, held_out=2, checkpoint_every=3,
    validate_every=3, start_views=6,
)
delg._write_bundle = lambda *arguments: None
photos, out = map(Path, sys.argv[1:])
delg.train(photos, out, start="random", labels="folders", steps=3, report=lambda line: None)
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(torchrun, photos, tmp_path):
    """Under torchrun: each has half of every batch, the mean of their gradients is the whole's."""
    for count in (1, 2):
        torchrun(count, SCRIPT, photos, tmp_path / str(count))
    one, two = (
        load_checkpoint(tmp_path / str(count) / "checkpoint.pt")["run"]["net"] for count in (1, 2)
    )
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(two[name], value, rtol=0, atol=2e-3)
