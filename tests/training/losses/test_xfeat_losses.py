"""The losses on cases small enough to work out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from covis.nets.xfeat import XFeatOutput  # noqa: E402
from covis.training.losses.xfeat import (  # noqa: E402
    descriptor_loss,
    imitation_loss,
    keypoint_loss,
    offset_loss,
    reliability_loss,
)


def test_descriptor_loss_of_two():
    """Similarities 0.2 * [[10, 0], [5, 5]] = [[2, 0], [1, 1]]."""
    x = torch.tensor([[10.0, 0.0], [5.0, 5.0]])
    y = torch.eye(2)
    loss, confidence = descriptor_loss(x, y)
    row0 = math.log(math.e**2 / (math.e**2 + 1))
    column0 = math.log(math.e**2 / (math.e**2 + math.e))
    column1 = math.log(math.e / (1 + math.e))
    expected = -((row0 + math.log(0.5)) / 2 + (column0 + column1) / 2)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    # Largest of row i times largest of column i, wherever those lie.
    assert confidence.tolist() == pytest.approx(
        [math.exp(row0 + column0), 0.5 * math.exp(column1)], abs=1e-6
    )


def test_descriptor_loss_of_one_and_of_strangers():
    loss, confidence = descriptor_loss(torch.ones(1, 64), torch.ones(1, 64))
    assert float(loss) == 0
    assert confidence.tolist() == [1]
    loss, confidence = descriptor_loss(torch.zeros(8, 64), torch.zeros(8, 64))
    assert float(loss) == pytest.approx(2 * math.log(8), abs=1e-6)
    assert confidence.tolist() == pytest.approx([1 / 64] * 8)


def test_descriptor_loss_is_symmetric_and_its_confidence_has_no_gradient():
    x, y = (torch.randn(5, 64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    x.requires_grad_(True)
    loss, confidence = descriptor_loss(x, y)
    assert not confidence.requires_grad
    assert loss.item() == pytest.approx(descriptor_loss(y, x.detach())[0].item(), abs=1e-5)
    loss.backward()
    assert x.grad.abs().sum() > 0


def test_reliability_loss():
    r0, r1 = torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.2])
    assert float(reliability_loss(r0, r1, torch.tensor([0.3, 0.6]))) == pytest.approx(
        (0.2 + 0.4) / 2 + (0.3 + 0.4) / 2
    )


@pytest.mark.parametrize(
    ("offset", "column", "row"),
    [
        ((0.0, 0.0), 4, 4),
        ((-4.0, 3.0), 0, 7),
        ((3.0, -4.0), 7, 0),
        ((1.4, -1.6), 5, 2),
        ((3.99, 3.6), 7, 7),
        ((-0.4, 0.4), 4, 4),
    ],
)
def test_offset_bins(offset, column, row):
    """Bin 8 (y + 4) + (x + 4); what would round to 4 counts as 3."""
    logits = torch.zeros(1, 64)
    logits[0, 8 * row + column] = 30
    loss, close = offset_loss(logits, torch.tensor([offset]), torch.ones(1))
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert float(close) == 1


def test_offset_loss_is_weighted_by_confidence():
    logits = torch.zeros(2, 64)
    logits[0, 36] = 30
    offsets = torch.zeros(2, 2)
    loss, _ = offset_loss(logits, offsets, torch.tensor([0.25, 0.75]))
    assert float(loss) == pytest.approx(0.75 * math.log(64), abs=1e-4)
    assert float(offset_loss(logits, offsets, torch.zeros(2))[0]) == 0


def test_offset_share_within_one_bin():
    logits = torch.zeros(3, 64)
    for index, at in enumerate((36, 36 + 8 + 1, 36 + 2)):
        logits[index, at] = 30
    _, close = offset_loss(logits, torch.zeros(3, 2), torch.ones(3))
    assert float(close) == pytest.approx(2 / 3)


def test_keypoint_loss_counts_keypoints_and_a_few_empty_cells():
    logits = torch.zeros(1, 65, 2, 2)
    logits[0, 5, 0, 0] = 30  # right
    logits[0, 7, 0, 1] = 30  # wrong: the keypoint is elsewhere
    labels = torch.tensor([[[5, 9], [64, 64]]])
    loss = keypoint_loss(logits, labels, torch.Generator().manual_seed(0))
    # Two cells with a keypoint and one of the two empty ones, which are alike.
    assert float(loss) == pytest.approx((0 + 30 + math.log(65)) / 3, abs=1e-4)


def test_keypoint_loss_pixels_of_a_cell():
    """The label of cell (row, column) belongs to the logits of that very cell."""
    labels = torch.arange(64).view(1, 8, 8)
    logits = torch.zeros(1, 65, 8, 8)
    for row in range(8):
        for column in range(8):
            logits[0, 8 * row + column, row, column] = 30
    assert float(keypoint_loss(logits, labels, torch.Generator())) == pytest.approx(0, abs=1e-6)
    transposed = logits.transpose(2, 3)
    assert float(keypoint_loss(transposed, labels, torch.Generator())) > 10


@pytest.mark.parametrize("label", [0, 64])
def test_keypoint_loss_of_cells_all_alike(label):
    """No cell without a keypoint, or none with one, is no reason for NaN."""
    labels = torch.full((1, 4, 4), label)
    loss = keypoint_loss(torch.zeros(1, 65, 4, 4), labels, torch.Generator())
    assert float(loss) == pytest.approx(math.log(65), abs=1e-5)


def outputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return (
        XFeatOutput(
            torch.randn(2, 64, 4, 4, generator=generator),
            torch.randn(2, 65, 4, 4, generator=generator),
            torch.rand(2, 1, 4, 4, generator=generator),
        ),
        tuple(torch.rand(2, 64, size, size, generator=generator) for size in (4, 2, 1)),
    )


def test_imitation_of_itself_costs_nothing():
    output, pyramid = outputs(0)
    for name, loss in imitation_loss(output, output, pyramid, pyramid).items():
        assert float(loss) == pytest.approx(0, abs=1e-5), name


def test_imitation_of_another_costs_in_every_part():
    (one, pyramid), (two, other) = outputs(0), outputs(1)
    losses = imitation_loss(one, two, pyramid, other)
    assert losses.keys() == {"cosine", "norm", "keypoints", "reliability", "hints"}
    for name, loss in losses.items():
        assert float(loss) > 0.01, name


def test_imitation_by_hand():
    output, pyramid = outputs(0)
    opposite = output._replace(features=-2 * output.features, reliability=output.reliability + 0.25)
    larger = tuple(level * 3 for level in pyramid)
    losses = imitation_loss(opposite, output, larger, pyramid)
    assert float(losses["cosine"]) == pytest.approx(2, abs=1e-5)
    assert float(losses["norm"]) == pytest.approx(math.log(2), abs=1e-5)
    assert float(losses["reliability"]) == pytest.approx(0.25, abs=1e-5)
    assert float(losses["hints"]) == pytest.approx(4, abs=1e-4)
    assert float(losses["keypoints"]) == pytest.approx(0, abs=1e-5)
