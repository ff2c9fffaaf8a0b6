"""The detector's training: targets and losses by hand, coloured shapes, and kills."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import PIL.Image
import pytest
from helpers.training import stopped_after

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from covis.errors import BundleError, TrainingError  # noqa: E402
from covis.nets.dense import XFeatMap  # noqa: E402
from covis.nets.detector import Predictions  # noqa: E402
from covis.nets.lift import LiFT  # noqa: E402
from covis.training.checkpoint import load_checkpoint  # noqa: E402
from covis.training.recipes.detector import (  # noqa: E402
    Recipe,
    Run,
    Stage,
    assign,
    detections,
    fitted,
    focal_loss,
    giou,
    load_detector,
    loss_of,
    train,
)

CPU = torch.device("cpu")
RECIPE = Recipe(
    steps=4,
    size=64,
    batch=2,
    width=8,
    depth=1,
    warmup=0,
    held_out=2,
    checkpoint_every=2,
    validate_every=2,
)


def draw(folder, count, seed=0):
    """Pictures of 64 x 48 pixels with one bright square (class 3) or dark disc (class 5)."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i in range(count):
        picture = rng.integers(110, 140, (48, 64, 3)).astype(np.uint8)
        side, disc = int(rng.integers(16, 32)), i % 2
        x, y = int(rng.integers(0, 64 - side)), int(rng.integers(0, 48 - side))
        if disc:
            cv2.circle(picture, (x + side // 2, y + side // 2), side // 2, (0, 0, 60), -1)
        else:
            picture[y : y + side, x : x + side] = (255, 255, 180)
        cv2.imwrite(str(folder / "images" / f"{i:02}.png"), picture)
        shares = (x + side / 2) / 64, (y + side / 2) / 48, side / 64, side / 48
        line = " ".join(map(str, (5 if disc else 3, *shares)))
        (folder / "labels" / f"{i:02}.txt").write_text(line)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    draw(folder / "set", 8)
    return folder / "set"


@pytest.fixture(scope="module")
def backbone(random_net):
    return XFeatMap(random_net, "random")


@pytest.fixture(scope="module")
def lift(backbone):
    torch.manual_seed(0)
    return LiFT(backbone.kind).eval()


def test_giou_by_hand():
    one = torch.tensor([[1.0, 1, 1, 1]])
    assert giou(one, one).item() == pytest.approx(1)
    # 2 x 2 in 4 x 4 around the same place: 4/16; the hull is the larger.
    assert giou(one, 2 * one).item() == pytest.approx(4 / 16)
    # 1 x 2 to the left of the place, 1 x 2 to its right: apart, hull 2 x 2, all of it covered.
    left, right = torch.tensor([[1.0, 1, 0, 1]]), torch.tensor([[0.0, 1, 1, 1]])
    assert giou(left, right).item() == pytest.approx(0)
    # 1 x 1 above left and 1 x 1 below right: half of the hull is empty.
    assert giou(torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[0.0, 0, 1, 1]])).item() == (
        pytest.approx(-2 / 4)
    )


def test_focal_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    # Sure of nothing: log 2, times 1/4 for a half missed, squared; 1/4 of it where right.
    unit = np.log(2) / 4
    assert focal_loss(logits, torch.tensor([-1, -1])).item() == pytest.approx(4 * 0.75 * unit)
    assert focal_loss(logits, torch.tensor([1, -1])).item() == pytest.approx(
        (0.25 + 3 * 0.75) * unit
    )
    assert focal_loss(torch.tensor([[9.0, -9.0]]), torch.tensor([0])).item() < 1e-6


def test_places_go_to_the_object_around_them():
    places = torch.tensor([[4.0, 4], [12, 4], [20, 4], [28, 4], [16, 16]])
    strides = torch.tensor([8.0, 8, 8, 8, 16])
    # Wide, of label 1; small, inside it, of label 0.
    boxes = torch.tensor([[0.0, 0, 32, 8], [16, 0, 24, 8]])
    found = assign(places, strides, boxes, torch.tensor([1, 0]))
    # (4, 4) is 12 pixels from the wide one's centre: no nearer than 1.5 cells. At (20, 4) both
    # are near: the smaller has it. (28, 4) is as far from the centre as (4, 4).
    assert found.labels.tolist() == [-1, 1, 0, -1, -1]
    assert found.distances[1].tolist() == [12, 4, 20, 4]
    assert found.distances[2].tolist() == [4, 4, 4, 4]
    assert found.centres[1].item() == pytest.approx(np.sqrt(12 / 20))
    assert found.centres[2].item() == 1


def test_objects_go_to_levels_by_size():
    """Strides 4, 8 and 16 are for farthest sides up to 32, up to 64 and beyond."""
    strides = torch.tensor([4.0, 8, 16])
    for side, level in ((8, 0), (60, 0), (70, 1), (127, 1), (140, 2), (900, 2)):
        half = side / 2
        places = torch.full((3, 2), 500.0)
        box = torch.tensor([[500 - half, 500 - half, 500 + half, 500 + half]])
        found = assign(places, strides, box, torch.tensor([7]))
        assert found.labels.tolist() == [7 if i == level else -1 for i in range(3)], side


def predictions(boxes, labels, sure=9.0):
    """One place in the middle of each box, that predicts it exactly; and one that is empty."""
    boxes = torch.tensor(boxes)
    places = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, torch.tensor([[900.0, 900]])])
    classes = torch.full((1, len(places), 3), -sure)
    for i, label in enumerate(labels):
        classes[0, i, label] = sure
    corners = torch.cat([boxes, torch.tensor([[890.0, 890, 910, 910]])])
    distances = torch.cat([places - corners[:, :2], corners[:, 2:] - places], dim=1)[None]
    centres = torch.full((1, len(places)), sure)
    return Predictions(classes, distances, centres, places, torch.full((len(places),), 8.0))


def test_loss_of_right_and_wrong():
    boxes = [[10.0, 10, 30, 30], [50, 20, 90, 40]]
    truth = [torch.tensor(boxes)], [torch.tensor([0, 2])]
    right = loss_of(predictions(boxes, [0, 2]), *truth).item()
    assert right < 1e-3
    assert loss_of(predictions(boxes, [1, 2]), *truth).item() > 1
    moved = [[10.0, 10, 30, 30], [45, 20, 95, 40]]
    # The sides of one of two, both in their centres: 1 - IoU of 40 x 20 in 50 x 20.
    assert loss_of(predictions(moved, [0, 2]), *truth).item() == pytest.approx(
        right + (1 - 40 / 50) / 2, abs=1e-3
    )
    nothing = [torch.empty(0, 4)], [torch.empty(0, dtype=torch.long)]
    assert loss_of(predictions(boxes, [0, 2]), *nothing).item() > 1


def test_detections_that_overlap_are_one():
    boxes = [[10.0, 10, 30, 30], [10, 11, 30, 31], [50, 20, 90, 40], [10, 10, 30, 30]]
    found = predictions(boxes, [0, 0, 2, 1])
    found.classes[0, 1, 0] = 3.0
    found.classes[0, 2, 2] = 1.0
    kept = detections(found, 0)
    assert kept.labels.tolist() in ([0, 1, 2], [1, 0, 2])
    order = np.argsort(kept.labels)
    np.testing.assert_allclose(kept.boxes[order], [boxes[0], boxes[3], boxes[2]])
    assert (np.diff(kept.scores) <= 0).all()
    sure = 1 / (1 + np.exp(-1.0)) / (1 + np.exp(-9.0))
    assert kept.scores[-1] == pytest.approx(np.sqrt(sure))
    empty = detections(predictions(boxes, [], sure=9.0), 0)
    assert len(empty.boxes) == len(empty.scores) == 0


def test_pictures_fit_in_squares():
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[-1] = 200
    square, scale = fitted(picture, 64)
    assert square.shape == (64, 64, 3)
    assert scale == (0.64, 0.64)
    assert (square[32:] == square[31]).all()
    assert square[31].max() > 0


def test_boxes_follow_mirrored_pictures(shapes, backbone):
    """Inside a box there is the shape, outside is none."""
    run = Run(shapes / "images", shapes / "labels", RECIPE, backbone, None, CPU)
    for step in range(6):
        images, boxes, labels = run.batch(step)
        for image, (box,), (label,) in zip(images, boxes, labels, strict=True):
            left, top, right, bottom = box.round().int().tolist()
            centre = image[:, (top + bottom) // 2, (left + right) // 2]
            assert (centre.mean() > 0.8) if label == 0 else (centre.mean() < 0.2)
            odd = (image.mean(dim=0) - 0.49).abs() > 0.15
            rows, columns = odd.nonzero().T
            assert abs(columns.min() - left) <= 2
            assert abs(columns.max() + 1 - right) <= 2
            assert abs(rows.min() - top) <= 2


@pytest.mark.slow
def test_it_learns_shapes(backbone, lift, tmp_path):
    """The loss falls, and AP on pictures it has not seen rises from nothing."""
    draw(tmp_path / "many", 32, seed=1)
    recipe = replace(
        RECIPE,
        steps=80,
        batch=8,
        width=32,
        held_out=8,
        validate_every=80,
        stages=(Stage(1.0, 3e-3, 3e-4),),
    )
    images, labels = tmp_path / "many" / "images", tmp_path / "many" / "labels"
    run = Run(images, labels, recipe, backbone, lift, CPU)
    assert run.validate()["ap50"] < 0.05
    losses = [run.train_step(run.batch(step))["loss"] for step in range(recipe.steps)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert run.validate()["ap50"] > 0.5


def test_stopped_and_resumed_is_undisturbed(shapes, backbone, lift, tmp_path):
    """Stopped in update 4, after the checkpoint of update 2; the rest ends the same to the bit."""
    data = shapes / "images", shapes / "labels"
    options = {"backbone": backbone, "lift": lift, "report": str}
    whole = train(*data, tmp_path / "whole", recipe=RECIPE, **options)

    with stopped_after(Run, 3):
        train(*data, tmp_path / "cut", recipe=RECIPE, **options)
    assert load_checkpoint(tmp_path / "cut" / "checkpoint.pt")["run"]["step"] == 2
    for other in ({"recipe": replace(RECIPE, seed=1)}, {"recipe": RECIPE, "lift": None}):
        with pytest.raises(TrainingError, match="began with other settings"):
            train(*data, tmp_path / "cut", resume=True, **options | other)
    with pytest.raises(TrainingError, match="holds a run already"):
        train(*data, tmp_path / "cut", recipe=RECIPE, **options)
    cut = train(*data, tmp_path / "cut", recipe=RECIPE, resume=True, **options)
    runs = [load_checkpoint(path.parent / "checkpoint.pt")["run"] for path in (whole, cut)]
    for name, value in runs[0]["net"].items():
        assert torch.equal(value, runs[1]["net"][name]), name
    assert runs[0]["curve"] == runs[1]["curve"]
    assert [row["step"] for row in runs[0]["curve"]] == [2, 4]
    assert whole.read_bytes() == cut.read_bytes()


def test_loaded_detectors(shapes, backbone, lift, tmp_path):
    data = shapes / "images", shapes / "labels"
    best = train(*data, tmp_path, backbone=backbone, lift=lift, recipe=RECIPE, report=str)
    run = Run(*data, RECIPE, backbone, lift, CPU)
    run.net.load_state_dict(torch.load(tmp_path / "checkpoint.pt")["run"]["net"])
    detect = load_detector(best, backbone, lift)
    picture = PIL.Image.open(run.held_out[0].path)
    found = detect(picture)
    assert found.boxes.shape == (len(found.scores), 4)
    assert set(found.labels.tolist()) <= {3, 5}
    with pytest.raises(BundleError, match=r"was trained on random .*, lifted; give that"):
        load_detector(best, backbone)
    with pytest.raises(BundleError, match="no detector of 'covis train detector'"):
        load_detector(shapes / "images" / "00.png", backbone)


def test_exceptions(shapes, backbone, tmp_path):
    data = shapes / "images", shapes / "labels"
    assert len(Run(*data, replace(RECIPE, held_out=8), backbone, None, CPU).held_out) == 2
    with pytest.raises(TrainingError, match="pictures of 100 pixels do not fit random"):
        Run(*data, replace(RECIPE, size=100), backbone, None, CPU)
    (tmp_path / "labels").mkdir()
    with pytest.raises(TrainingError, match="no object in the 2 pictures kept for validation"):
        Run(data[0], tmp_path / "labels", RECIPE, backbone, None, CPU)
