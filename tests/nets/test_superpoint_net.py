"""SuperPoint's network: sizes and the order of a cell's pixels."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from covis.errors import BundleError  # noqa: E402
from covis.nets.superpoint import SuperPoint, load_official  # noqa: E402


def test_published_number_of_parameters():
    assert sum(p.numel() for p in SuperPoint().parameters()) == 1_300_865


@pytest.mark.parametrize("size", [(8, 8), (16, 40), (31, 17)])
def test_shapes(size):
    with torch.inference_mode():
        scores, descriptors = SuperPoint()(torch.rand(2, 1, *size))
    cells = size[0] // 8, size[1] // 8
    assert scores.shape == (2, 8 * cells[0], 8 * cells[1])
    assert descriptors.shape == (2, 256, *cells)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(2, *cells))
    shares = scores.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).sum(dim=(2, 4))
    assert (shares < 1).all()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (5, 2)])
def test_convention_cells_are_laid_out_row_by_row(row, column):
    """Channel 8 r + c is pixel (r, c) of the cell; the last is no keypoint."""
    net = SuperPoint()
    torch.nn.init.zeros_(net.convPb.weight)
    torch.nn.init.zeros_(net.convPb.bias)
    net.convPb.bias.data[8 * row + column] = 20
    with torch.inference_mode():
        scores, _ = net(torch.rand(1, 1, 16, 24))
    assert (scores[0, row::8, column::8] > 0.99).all()
    assert (scores > 0.99).sum() == 6
    net.convPb.bias.data[64] = 40
    with torch.inference_mode():
        assert net(torch.rand(1, 1, 16, 24))[0].max() < 1e-6


def test_exception_other_weights(random_net, tmp_path):
    torch.save(random_net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(BundleError, match=r"not the weights of SuperPoint; missing: conv1a"):
        load_official(tmp_path / "w.pth")
