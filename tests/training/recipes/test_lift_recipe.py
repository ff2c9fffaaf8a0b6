"""LiFT's training: its losses by hand, its views, and that a kill costs nothing."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.training import stopped_after, write_parts

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.dense import DenseExtractor  # noqa: E402
from covis.errors import TrainingError  # noqa: E402
from covis.nets.dense import XFeatMap  # noqa: E402
from covis.nets.lift import enlarge, load_lift  # noqa: E402
from covis.training.checkpoint import load_checkpoint  # noqa: E402
from covis.training.distributed import Workers  # noqa: E402
from covis.training.recipes import lift  # noqa: E402

RECIPE = lift.LIGHT.with_given(
    steps=4, size=128, batch=2, versions=2, held_out=1, checkpoint_every=2, validate_every=2
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(texture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_parts(folder, texture)
    cv2.imwrite(str(folder / "small.png"), texture[:90, :200])
    (folder / "damaged.jpg").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def backbone(random_net):
    return XFeatMap(random_net, "random")


@pytest.fixture
def run(photos, backbone):
    return lift.Run(photos, RECIPE, backbone, CPU)


def test_distances_by_hand():
    one = torch.tensor([[3.0, 0.0], [4.0, 2.0]]).view(1, 2, 1, 2)
    two = torch.tensor([[4.0, 0.0], [3.0, 1.0]]).view(1, 2, 1, 2)
    assert float(lift.distance(one, two, "cosine")) == pytest.approx(
        (1 - 24 / 25 + 0) / 2, abs=1e-6
    )
    assert float(lift.distance(one, two, "l1")) == pytest.approx(3 / 4)
    assert float(lift.distance(one, two, "l2")) == pytest.approx(3 / 4)


def test_halving():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert lift.halve(image, "stride").flatten().tolist() == [0, 2, 8, 10]
    assert lift.halve(image, "mean").flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_crops_are_parts_of_the_photo(texture):
    for seed in range(4):
        view = lift.crop(texture[:64, :200], 64, np.random.default_rng(seed))
        assert view.shape == (64, 64, 3)
        places = [
            left
            for left in range(137)
            for part in (texture[:64, left : left + 64, ::-1],)
            if np.array_equal(view, part) or np.array_equal(view, part[:, ::-1])
        ]
        assert len(places) == 1
    enlarged = lift.crop(texture[:52, :60], 64, np.random.default_rng(0))
    assert enlarged.shape == (64, 64, 3)


def test_colours_change_within_bounds(texture):
    grey = np.full((4, 4, 3), 100, np.uint8)
    for seed in range(5):
        found = lift.jittered(grey, 0.2, np.random.default_rng(seed))
        assert np.ptp(found) == 0
        assert 80 <= found[0, 0, 0] <= 120
    np.testing.assert_array_equal(lift.jittered(texture, 0.0, np.random.default_rng(0)), texture)
    assert (lift.jittered(texture, 0.2, np.random.default_rng(0)) != texture).any()


def test_averaged_takes_in_the_cells_around():
    maps = torch.arange(9.0).view(1, 1, 3, 3)
    assert torch.equal(lift.averaged(maps, 1), maps)
    # The last row and column go on beyond the edge: 4 zeros, 2 ones, 2 threes, 1 four.
    assert lift.averaged(maps, 3)[0, 0].diagonal().tolist() == pytest.approx([12 / 9, 4, 60 / 9])


@pytest.mark.parametrize(
    ("residual", "blend", "context"), [(False, 0.0, 3), (True, 0.25, 1), (True, 0.25, 3)]
)
def test_the_loss_is_the_papers(photos, backbone, residual, blend, context):
    """With blend 0; else a share of the target is what bilinear enlarging gives."""
    recipe = replace(RECIPE, residual=residual, blend=blend, context=context)
    run = lift.Run(photos, recipe, backbone, CPU)
    batch = next(run.batches())
    half = lift.halve(batch.images, "mean")
    quarter = lift.halve(half, "mean")
    for image, features in zip((batch.images, half, quarter), batch.features, strict=True):
        torch.testing.assert_close(run.backbone(image), features, rtol=0, atol=1e-3)
    unit = torch.nn.functional.normalize
    run.net.train()
    with torch.no_grad():
        fine, coarse = run.net(half, batch.features[1]), run.net(quarter, batch.features[2])

    def coarser(small):
        return lift.averaged(enlarge(small), context)

    expected = 2.0 - sum(
        float((found * unit((1 - blend) * target + blend * coarser(small))).sum(dim=1).mean())
        for found, target, small in (
            (fine, batch.features[0], batch.features[1]),
            (coarse, batch.features[1], batch.features[2]),
        )
    )
    run.restore(lift.Run.state(run))
    assert run.train_step(batch)["loss"] == pytest.approx(expected, abs=2e-3)
    assert run.step == 1


def test_batches_are_those_of_the_steps(run):
    """From whichever step on, kept features or not, and shared out between processes."""
    whole = [numbers for numbers, _ in map(run.batch, range(4))]
    for (numbers, views), batch in zip(map(run.batch, range(4)), run.batches(), strict=True):
        assert torch.equal(batch.images, run._normalised(views))
        assert torch.equal(batch.features[2], run.features(numbers, batch.images)[2])
    run.step = 3
    (last,) = run.batches()
    assert torch.equal(last.images, run._normalised(run.batch(3)[1]))
    shares = []
    for rank in range(2):
        run.workers = Workers(2, rank)
        shares.append([run.batch(step)[0] for step in range(4)])
    together = [[a, b] for (a,), (b,) in zip(*shares, strict=True)]
    assert together == whole


def test_kept_features_are_the_same(run, tmp_path):
    numbers, views = run.batch(0)
    images = run._normalised(views)
    fresh = run.features(numbers, images)
    run.cache = tmp_path
    kept = run.features(numbers, images)
    for one, two in zip(fresh, kept, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {f"{number}.npy" for number in numbers}
    header = 128
    sizes = [path.stat().st_size - header for path in tmp_path.iterdir()]
    views = len(run.photos) * RECIPE.versions
    assert run.bytes_to_keep() == views * sizes[0] == views * sizes[-1]
    (tmp_path / f"{numbers[0]}.npy").write_bytes(b"damaged")
    for _ in range(2):
        for one, two in zip(kept, run.features(numbers, images), strict=True):
            assert torch.equal(one, two)


def test_features_of_other_views_are_kept_apart(run, photos, backbone):
    same = lift.Run(photos, replace(RECIPE, steps=9, loss="l2"), backbone, CPU)
    assert same.views_id() == run.views_id()
    for change in ({"seed": 1}, {"halving": "stride"}, {"size": 256}, {"jitter": 0.1}):
        assert (
            lift.Run(photos, replace(RECIPE, **change), backbone, CPU).views_id() != run.views_id()
        )


def test_stopped_and_resumed_is_undisturbed(photos, backbone, tmp_path):
    """Stopped in update 4, after the checkpoint of update 2; the rest ends the same to the bit."""
    whole = lift.train(photos, tmp_path / "whole", backbone=backbone, recipe=RECIPE, report=str)

    with stopped_after(lift.Run, 3):
        lift.train(photos, tmp_path / "cut", backbone=backbone, recipe=RECIPE, report=str)
    assert load_checkpoint(tmp_path / "cut" / "checkpoint.pt")["run"]["step"] == 2
    other = replace(RECIPE, seed=1)
    with pytest.raises(TrainingError, match="began with other settings"):
        lift.train(
            photos, tmp_path / "cut", backbone=backbone, recipe=other, resume=True, report=str
        )
    with pytest.raises(TrainingError, match="holds a run already"):
        lift.train(photos, tmp_path / "cut", backbone=backbone, recipe=RECIPE, report=str)
    cut = lift.train(
        photos, tmp_path / "cut", backbone=backbone, recipe=RECIPE, resume=True, report=str
    )

    runs = [load_checkpoint(path.parent / "checkpoint.pt")["run"] for path in (whole, cut)]
    for name, value in runs[0]["net"].items():
        assert torch.equal(value, runs[1]["net"][name]), name
    for index, state in runs[0]["optimiser"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, runs[1]["optimiser"]["state"][index][name]), name
    assert runs[0]["curve"] == runs[1]["curve"]
    assert [row["step"] for row in runs[0]["curve"]] == [2, 4]
    assert whole.read_bytes() == cut.read_bytes()

    assert {path.name for path in whole.parent.iterdir()} == {
        "best.safetensors", "latest.safetensors", "checkpoint.pt", "curve.csv", "bundle"
    }  # fmt: skip
    assert load_lift(whole).kind == backbone.kind
    found = DenseExtractor(str(tmp_path / "whole" / "bundle"))(np.zeros((16, 16, 3), np.uint8))
    assert found.descriptors.shape == (4, 4, 64)


def test_exceptions(photos, backbone, tmp_path):
    assert len(lift.Run(photos, replace(RECIPE, held_out=48), backbone, CPU).held_out) == 2
    with pytest.raises(TrainingError, match="0 photos with sides of 307 pixels or more are too f"):
        lift.train(photos, tmp_path / "out", backbone=backbone, report=str)
    assert not (tmp_path / "out").exists()
    with pytest.raises(TrainingError, match="views of 100 pixels do not fit random: give a mult"):
        lift.Run(photos, replace(RECIPE, size=100), backbone, CPU)
    with pytest.raises(TrainingError, match="3 processes cannot share 2 views"):
        lift.Run(photos, RECIPE, backbone, CPU, workers=Workers(3, 0))


def test_starts_from_the_weights_in_the_package(photos):
    """A run that makes no update yet gives what the model gives."""
    backbone = lift.load_backbone("xfeat")
    run = lift.Run(photos, RECIPE, backbone, CPU, start="lift")
    picture = cv2.imread(str(photos / "0.png"))[:64, :96, ::-1].copy()
    image = backbone.normalise(lift.as_input(picture[None], CPU))
    with torch.inference_mode():
        lifted = run.net.eval().lift(image, backbone(image))[0].permute(1, 2, 0).numpy()
    found = DenseExtractor("lift-xfeat-covis")(picture)
    np.testing.assert_allclose(lifted, found.descriptors, atol=2e-3)


def test_backbones_by_name(home, random_bundle):
    found = lift.load_backbone("random")
    assert (found.kind.backbone, found.kind.facet, found.kind.patch) == ("random", "centred map", 8)
    assert lift.recipe_for(found) == lift.LIGHT
    with pytest.raises(TrainingError, match="random is no ViT"):
        lift.load_backbone("random", layer=2)


def test_dinov2_from_a_file_and_by_name(monkeypatch, tmp_path):
    """What is fetched by name is removed again."""
    from covis.nets.dinov2 import DINOv2, Sizes

    torch.manual_seed(0)
    for name in ("mine.pth", "fetched.pth"):
        torch.save(DINOv2(Sizes(64, 3, 1, positions=4)).state_dict(), tmp_path / name)
    found = lift.load_backbone(str(tmp_path / "mine.pth"), 1, "token")
    assert (found.kind.backbone, found.kind.layer, found.kind.facet) == ("mine", 1, "token")
    assert lift.recipe_for(found) == lift.PUBLISHED
    light = lift.recipe_for(found, light=True)
    assert (light.size, light.residual, light.blend) == (224, True, 0)
    assert lift.recipe_for(found, light=True).size % (4 * found.multiple) == 0
    monkeypatch.setattr(lift, "fetch_weights", lambda _: tmp_path / "fetched.pth")
    by_name = lift.load_backbone("dinov2-small", 2, "value")
    assert (by_name.kind.backbone, by_name.kind.layer) == ("dinov2-small", 2)
    assert not (tmp_path / "fetched.pth").exists()


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from covis.nets.dense import XFeatMap
from covis.nets.xfeat import XFeat
from covis.training.recipes.lift import LIGHT, Run
from covis.training.distributed import Workers
torch.manual_seed(0)
recipe = replace(LIGHT, steps=2, size=128, batch=4, versions=2, held_out=1)
cpu = torch.device("cpu")
workers = Workers.join(cpu)
run = Run(Path(sys.argv[1]), recipe, XFeatMap(XFeat(), "random"), cpu, workers=workers)
for batch in run.batches():
    assert len(batch.images) == 2
    run.train_step(batch)
torch.save(run.net.state_dict(), Path(sys.argv[2]) / f"{workers.rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_end_alike(torchrun, photos, tmp_path):
    torchrun(2, SCRIPT, photos, tmp_path)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
        assert torch.isfinite(value).all(), name
