"""The upsampler: bilinear before it learns, an average after, whatever the channels are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from covis.nets.lift import enlarge  # noqa: E402
from covis.nets.upsampler import Upsampler  # noqa: E402


@pytest.fixture(scope="module")
def stirred():
    torch.manual_seed(3)
    net = Upsampler().eval()
    for values in net.parameters():
        torch.nn.init.normal_(values, std=0.3)
    return net


@torch.inference_mode()
def test_begins_as_bilinear():
    """A ramp and noise: within what the faint places weigh, and at edges as inside."""
    torch.manual_seed(0)
    ramp = torch.arange(7.0).view(1, 1, 1, 7).expand(1, 2, 5, 7)
    noise = torch.randn(1, 2, 5, 7)
    for features in (ramp, noise):
        found = Upsampler()(torch.rand(1, 3, 40, 56), features)
        assert found.shape == (1, 2, 10, 14)
        assert float((found - enlarge(features)).abs().mean()) < 0.05


@torch.inference_mode()
def test_never_leaves_what_the_neighbours_have(stirred):
    features = torch.rand(1, 5, 6, 4)
    found = stirred(torch.randn(1, 3, 48, 32), features)
    around = torch.nn.functional.max_pool2d
    most = around(features, 5, 1, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    least = -around(-features, 5, 1, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert bool(((found <= most + 1e-5) & (found >= least - 1e-5)).all())
    assert float((found - enlarge(features)).abs().max()) > 0.05


@torch.inference_mode()
def test_channels_mean_nothing(stirred):
    """Shuffled channels come out shuffled."""
    image, features = torch.randn(1, 3, 24, 40), torch.randn(1, 6, 3, 5)
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    torch.testing.assert_close(
        stirred(image, features[:, order]), stirred(image, features)[:, order]
    )
