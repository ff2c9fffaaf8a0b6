"""ALIKED's network: its deformable parts against plain references, and what is never built."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

import torch.nn.functional as F  # noqa: E402

from covis.errors import BundleError  # noqa: E402
from covis.nets.aliked import ALIKED, DeformableConv, load_official  # noqa: E402

T16 = ((8, 16, 32, 64), 64)


@pytest.mark.parametrize(
    ("net", "published"),
    [(ALIKED(*T16), 0.192), (ALIKED(), 0.677), (ALIKED(positions=32), 0.980)],
    ids=["T(16)", "N(16)", "N(32)"],
)
def test_published_number_of_parameters(net, published):
    """As the paper has them, in millions."""
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 3) == published


def value_at(plane, row, column):
    """A pixel, 0 beyond the border, between pixels bilinear."""
    total = 0.0
    for y, line in enumerate(plane):
        for x, value in enumerate(line):
            total += max(1 - abs(row - y), 0) * max(1 - abs(column - x), 0) * value
    return total


@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 6)])
def test_deformable_convolution(size):
    torch.manual_seed(0)
    conv = DeformableConv(2, 3)
    conv.offset_conv.weight.data *= 3
    x = torch.randn(1, 2, *size)
    with torch.inference_mode():
        found = conv(x)[0]
        limit = max(size) / 4
        offsets = conv.offset_conv(x)[0].clamp(-limit, limit)
    assert offsets.abs().max() == limit
    weight, planes = conv.regular_conv.weight.detach(), x[0].tolist()
    for row in range(size[0]):
        for column in range(size[1]):
            expected = torch.zeros(3)
            for tap in range(9):
                down, right = offsets[2 * tap : 2 * tap + 2, row, column]
                place = row + tap // 3 - 1 + float(down), column + tap % 3 - 1 + float(right)
                for channel in range(2):
                    value = value_at(planes[channel], *place)
                    expected += weight[:, channel, tap // 3, tap % 3] * value
            torch.testing.assert_close(found[:, row, column], expected, rtol=0, atol=1e-4)


def test_deformable_convolution_without_offsets_is_a_convolution():
    conv = DeformableConv(3, 4)
    torch.nn.init.zeros_(conv.offset_conv.weight)
    torch.nn.init.zeros_(conv.offset_conv.bias)
    x = torch.randn(2, 3, 7, 9)
    with torch.inference_mode():
        torch.testing.assert_close(conv(x), conv.regular_conv(x), rtol=0, atol=1e-5)


def whole_map(maps):
    """The paper's feature map: every level at full size, joined."""
    size = maps[0].shape[-2:]
    up = [F.interpolate(x, size, mode="bilinear", align_corners=True) for x in maps]
    return torch.cat(up, dim=1)


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_scores_are_the_head_on_the_whole_map(random_aliked, size):
    with torch.inference_mode():
        maps = random_aliked.maps(torch.rand(2, 3, *size))
        found = random_aliked.scores(maps)
        expected = random_aliked.score_head(whole_map(maps)).sigmoid()[:, 0]
    assert found.shape == (2, *size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("box", [(0, 0, 96, 64), (5, 3, 80, 57)])
def test_descriptors_are_sampled_from_the_whole_map(random_aliked, box):
    """The published order: normalise, cut the padding off, patches, offsets, sample, mix."""
    left, top, width, height = box
    rng = torch.Generator().manual_seed(0)
    keypoints = torch.rand(40, 2, generator=rng) * torch.tensor([width - 1.0, height - 1.0])
    keypoints[:2] = torch.tensor([[0.0, 0.0], [width - 1.0, height - 1.0]])
    head = random_aliked.desc_head
    with torch.inference_mode():
        maps = random_aliked.maps(torch.rand(1, 3, 64, 96, generator=rng))
        features = F.normalize(whole_map(maps), dim=1)
        features = features[:, :, top : top + height, left : left + width]
        x, y = keypoints.long().T - 1
        x, y = x.clamp(0, width - 4), y.clamp(0, height - 4)
        patches = torch.stack(
            [features[0, :, b : b + 3, a : a + 3] for a, b in zip(x, y, strict=True)]
        )
        offsets = head.offset_conv(patches)[:, :, 0, 0].clamp(-width / 4, width / 4)
        places = keypoints[:, None] + torch.stack(offsets.chunk(2, dim=1), dim=2)
        assert (places < 0).any()
        assert (places > height).any()
        grid = 2 * places / torch.tensor([width - 1, height - 1]) - 1
        taken = F.grid_sample(features, grid[None], align_corners=True)
        mixed = F.selu(head.sf_conv(taken))[0]
        expected = F.normalize(torch.einsum("cnp,pcd->nd", mixed, head.agg_weights), dim=1)
        found = random_aliked.describe(
            [level[0].permute(1, 2, 0) for level in maps], keypoints, torch.tensor(box)
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_images_of_a_batch_do_not_meet(random_aliked):
    images = torch.rand(3, 3, 32, 64)
    with torch.inference_mode():
        together, alone = random_aliked.maps(images), random_aliked.maps(images[1:2])
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left[1:2], right, rtol=0, atol=1e-4)


def test_sizes_come_from_the_weights(random_aliked, tmp_path):
    torch.save(random_aliked.state_dict(), tmp_path / "w.pth")
    net = load_official(tmp_path / "w.pth")
    assert not net.training
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        one, two = net.maps(image), random_aliked.maps(image)
    for left, right in zip(one, two, strict=True):
        assert torch.equal(left, right)


def test_exception_other_weights(random_net, tmp_path):
    torch.save(random_net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(BundleError, match="not the weights of ALIKED"):
        load_official(tmp_path / "w.pth")
