"""XFeat's network: sizes, shapes, and what it must not depend on."""

from __future__ import annotations

import pytest
from helpers.networks import assert_alike, assert_apart

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from covis.nets.xfeat import XFeat  # noqa: E402


def test_published_number_of_parameters():
    assert sum(p.numel() for p in XFeat().parameters()) == 1_544_758


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(random_net, size, channels):
    with torch.inference_mode():
        output = random_net(torch.rand(2, channels, *size))
    cells = (size[0] // 8, size[1] // 8)
    assert output.features.shape == (2, 64, *cells)
    assert output.keypoint_logits.shape == (2, 65, *cells)
    assert output.reliability.shape == (2, 1, *cells)
    assert ((output.reliability >= 0) & (output.reliability <= 1)).all()


def test_normalise_is_instance_norm_of_the_mean(random_net):
    image = torch.rand(2, 3, 32, 64)
    expected = torch.nn.InstanceNorm2d(1)(image.mean(dim=1, keepdim=True))
    torch.testing.assert_close(random_net.normalise(image), expected, rtol=0, atol=1e-5)
    assert (random_net.normalise(torch.full((1, 1, 32, 32), 0.3)).abs() < 1e-3).all()


def test_brightness_and_contrast_do_not_matter(random_net):
    image = torch.rand(1, 1, 64, 64)
    assert_alike(random_net, image, 200 * image + 30, 1e-2)


def test_images_of_a_batch_do_not_meet(random_net):
    assert_apart(random_net, torch.rand(3, 1, 64, 64))


def test_cells_are_laid_out_row_by_row(random_net):
    """Channel 8 r + c of the keypoint head's input is pixel (r, c) of the cell."""
    seen = []
    handle = random_net.keypoint_head.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    grey = torch.arange(32 * 64, dtype=torch.float32).view(1, 1, 32, 64)
    with torch.inference_mode():
        random_net.heads(grey, torch.zeros(1, 64, 4, 8))
    handle.remove()
    assert seen[0].shape == (1, 64, 4, 8)
    for row, column, y, x in ((0, 0, 0, 0), (1, 2, 3, 5), (3, 7, 7, 7)):
        assert seen[0][0, 8 * y + x, row, column] == grey[0, 0, 8 * row + y, 8 * column + x]
