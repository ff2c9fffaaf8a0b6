"""DELG's losses against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from covis.training.losses.delg import (  # noqa: E402
    MARGIN,
    ArcFace,
    AttentionClassifier,
    contrast_loss,
    reconstruction_loss,
    with_margin,
)


def unit(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape), dim=1)


@pytest.mark.parametrize("angle", [0.01, 0.5, 1.5, 3.0, math.pi - MARGIN - 1e-3])
def test_margin_is_added_to_the_true_angle(angle):
    cosines = torch.tensor([[math.cos(angle), 0.3, -0.2]])
    moved = with_margin(cosines, torch.tensor([0]))
    assert moved[0, 0].item() == pytest.approx(math.cos(angle + MARGIN), abs=1e-4)
    assert moved[0, 1:].tolist() == cosines[0, 1:].tolist()


@pytest.mark.parametrize("angle", [math.pi - MARGIN + 1e-3, math.pi - 0.01, math.pi])
def test_margin_stops_at_pi(angle):
    """Beyond, the cosine would grow again and reward being wrong."""
    cosines = torch.tensor([[0.3, math.cos(angle)]])
    assert torch.equal(with_margin(cosines, torch.tensor([1])), cosines)


def test_margin_never_helps():
    cosines = torch.linspace(-1, 1, 401)[:, None]
    moved = with_margin(cosines, torch.zeros(401, dtype=torch.long))
    assert (moved <= cosines + 1e-6).all()


@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_gradients_at_the_ends_are_finite(cosine):
    cosines = torch.tensor([[cosine, 0.0]], requires_grad=True)
    with_margin(cosines, torch.tensor([0])).sum().backward()
    assert torch.isfinite(cosines.grad).all()


def test_arcface_is_its_formula():
    torch.manual_seed(0)
    loss, descriptors, labels = ArcFace(8, 5), unit(4, 8), torch.tensor([0, 4, 2, 2])
    assert loss.scale.item() == pytest.approx(math.sqrt(8))
    weight = loss.weight.detach().double()
    weight = (weight / weight.norm(dim=1, keepdim=True)).numpy()
    expected = []
    for row, label in zip(descriptors.double().numpy(), labels.tolist(), strict=True):
        cosines = weight @ row
        angle = math.acos(cosines[label])
        cosines[label] = math.cos(angle + MARGIN) if angle + MARGIN < math.pi else cosines[label]
        logits = math.sqrt(8) * cosines
        expected.append(math.log(np.exp(logits).sum()) - logits[label])
    assert loss(descriptors, labels).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_arcface_learns_its_scale():
    loss = ArcFace(8, 5)
    loss(unit(4, 8), torch.tensor([0, 1, 2, 3])).backward()
    assert loss.scale.grad.item() != 0


def test_reconstruction_is_a_mean_of_squares():
    one, other = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    expected = ((one.double() - other.double()) ** 2).sum() / 120
    assert reconstruction_loss(one, other).item() == pytest.approx(expected.item(), rel=1e-5)


def test_attention_pools_unit_features():
    """By hand; and places that attention leaves out do not count."""
    torch.manual_seed(0)
    loss, features = AttentionClassifier(3, 4), torch.rand(1, 3, 2, 2)
    attention = torch.tensor([[[[0.0, 2.0], [0.5, 0.0]]]])
    labels = torch.tensor([3])
    places = features[0].flatten(1).T
    places = places / places.norm(dim=1, keepdim=True)
    pooled = (2 * places[1] + 0.5 * places[2]) / 4
    logits = loss.classify.weight @ pooled + loss.classify.bias
    expected = torch.logsumexp(logits, 0) - logits[3]
    assert loss(attention, features, labels).item() == pytest.approx(expected.item(), rel=1e-5)
    features[0, :, 0, 0] = 9
    assert loss(attention, features, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_contrast_tells_views_of_one_thing_from_the_rest():
    torch.manual_seed(0)
    one, scale = unit(6, 16), torch.tensor(20.0)
    right = contrast_loss(one, one, scale)
    wrong = contrast_loss(one, one.roll(1, dims=0), scale)
    assert right < 0.1
    assert wrong > 5
    # Both ways: which of the two is called the first does not matter.
    other = unit(6, 16)
    torch.testing.assert_close(contrast_loss(one, other, scale), contrast_loss(other, one, scale))
