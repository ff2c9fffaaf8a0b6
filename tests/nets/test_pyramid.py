"""The feature pyramid: which map makes which level, shapes, and that gradients reach it all."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from covis.errors import ArgumentError, BundleError  # noqa: E402
from covis.nets.dense import XFeatMap  # noqa: E402
from covis.nets.detector import Detector  # noqa: E402
from covis.nets.lift import FeatureKind, LiFT  # noqa: E402
from covis.nets.pyramid import (  # noqa: E402
    ChannelNorm,
    FeaturePyramid,
    feature_maps,
    pyramid_strides,
)

VITDET = (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ((16,), (16, 16, 16, 16)),
        ((16, 8), (8, 8, 16, 16)),
        ((16, 8, 4), (4, 8, 16, 16)),
        ((8, 4), (4, 8, 8, 8)),
    ],
)
def test_levels_come_from_the_nearest_map(given, sources):
    """The same as fine, else the next finer; the finest map where there is none."""
    pyramid = FeaturePyramid(12, given, VITDET, 6)
    assert pyramid.sources == sources
    maps = {stride: torch.randn(2, 12, 64 // stride, 96 // stride) for stride in given}
    levels = pyramid(maps)
    assert [level.shape for level in levels] == [(2, 6, 64 // t, 96 // t) for t in VITDET]
    sum(level.square().sum() for level in levels).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())


def test_a_level_sees_its_map_only():
    pyramid = FeaturePyramid(4, (16, 8), VITDET, 8).eval()
    maps = {16: torch.randn(1, 4, 4, 4), 8: torch.randn(1, 4, 8, 8)}
    before = pyramid(maps)
    after = pyramid(maps | {8: torch.randn(1, 4, 8, 8)})
    changed = [not torch.equal(one, two) for one, two in zip(before, after, strict=True)]
    assert changed == [True, True, False, False]


def test_strides_by_patch():
    assert pyramid_strides(8) == pyramid_strides(16) == VITDET
    assert pyramid_strides(14) == (3.5, 7, 14, 28)


def test_exception_strides():
    with pytest.raises(ArgumentError, match="stride 4 cannot be made from a map of 7"):
        FeaturePyramid(4, (14, 7), VITDET, 8)


def test_norm_is_over_channels():
    x = torch.randn(2, 5, 3, 4) * 7 + 2
    found = ChannelNorm(5)(x)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found.std(dim=1, unbiased=False), torch.ones(2, 3, 4), atol=1e-3, rtol=0
    )


def test_maps_of_a_backbone(random_net):
    backbone = XFeatMap(random_net, "random")
    torch.manual_seed(0)
    lift = LiFT(backbone.kind).eval()
    image = torch.rand(1, 3, 64, 96)
    maps = feature_maps(backbone, image, lift, times=2)
    assert {stride: tuple(each.shape[2:]) for stride, each in maps.items()} == {
        8: (8, 12),
        4: (16, 24),
        2: (32, 48),
    }
    seen = backbone.normalise(image)
    torch.testing.assert_close(maps[8], backbone(seen))
    torch.testing.assert_close(maps[4], lift.lift(seen, maps[8]))
    assert not any(each.requires_grad for each in maps.values())
    assert list(feature_maps(backbone, image)) == [8]
    with pytest.raises(BundleError, match="was trained on"):
        feature_maps(backbone, image, LiFT(FeatureKind("other", "x", 0, "map", 64, 8)))


def test_predictions_lie_in_the_middle_of_their_cells():
    net = Detector(4, (8,), (8, 16), classes=3, width=8, depth=1)
    found = net({8: torch.randn(2, 4, 2, 4)})
    assert found.classes.shape == (2, 8 + 2, 3)
    assert found.distances.shape == (2, 10, 4)
    assert found.centres.shape == (2, 10)
    assert found.places[:5].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [4, 12]]
    assert found.places[8:].tolist() == [[8, 8], [24, 8]]
    assert found.strides.tolist() == [8] * 8 + [16] * 2
    # Before anything is learnt: hardly an object anywhere, about a cell in size.
    assert found.classes.sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)
    assert found.distances[:, :8].mean().item() == pytest.approx(8, rel=0.2)
    assert found.distances[:, 8:].mean().item() == pytest.approx(16, rel=0.2)
