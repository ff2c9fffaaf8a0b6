"""What EdgePoint2 learns from: each loss is least where it should be."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

import torch.nn.functional as F  # noqa: E402

from covis.training.losses.edgepoint import (  # noqa: E402
    FLOOR,
    TEMPERATURE,
    correspondence_loss,
    likeness_loss,
    relation_loss,
    score_loss,
)


def units(count, seed, dim=16):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator), dim=1)


def test_likeness():
    x = units(10, 0)
    assert likeness_loss(x, x) == pytest.approx(0, abs=1e-6)
    assert likeness_loss(x, -x) == pytest.approx(2, abs=1e-6)


def test_relation_is_least_for_the_teacher_itself():
    teacher, everywhere = units(10, 0), units(30, 1)
    assert relation_loss(teacher, teacher, everywhere) == pytest.approx(0, abs=1e-5)
    assert relation_loss(units(10, 2), teacher, everywhere) > 0.1


def test_relation_is_a_divergence():
    """Two points, by hand: the sum of p log(p / q)."""
    teacher, student = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    everywhere = TEMPERATURE * torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    p = torch.tensor([1.0, 0.0]).softmax(dim=0)
    expected = float((p * (p / 0.5).log()).sum())
    assert relation_loss(student, teacher, everywhere) == pytest.approx(expected, rel=1e-4)


def test_correspondence_of_orthogonal_pairs():
    x = torch.eye(4)
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    expected = math.log(1 + 3 * math.exp(-1 / TEMPERATURE))
    assert correspondence_loss(x, x, nothing) == pytest.approx(expected, abs=1e-6)
    assert correspondence_loss(x, x.roll(1, dims=0), nothing) == pytest.approx(20, rel=0.01)


def test_near_pairs_are_no_negatives():
    x = torch.stack([torch.tensor([1.0, 0.0])] * 2)
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert correspondence_loss(x, x, nothing) == pytest.approx(math.log(2), rel=1e-5)
    near = ~torch.eye(2, dtype=torch.bool)
    assert correspondence_loss(x, x, near) == pytest.approx(0, abs=1e-6)


def test_scores_under_the_floor_are_alike():
    teacher = torch.tensor([[FLOOR - 5, FLOOR - 1, 2.0]])
    student = torch.tensor([[FLOOR - 1, FLOOR - 9, 2.0]])
    assert score_loss(student, teacher) == 0
    assert score_loss(torch.tensor([[FLOOR + 2, FLOOR, 2.0]]), teacher) > 0


def test_keypoints_count_most():
    teacher = torch.tensor([[-8.0, 0.0]])
    on_keypoint = score_loss(torch.tensor([[-8.0, 1.0]]), teacher)
    beside = score_loss(torch.tensor([[-7.0, 0.0]]), teacher)
    assert on_keypoint == pytest.approx(5 * float(beside))
