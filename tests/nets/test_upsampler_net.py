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


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (2, 16), (2, 37)])
def test_is_the_mean_that_its_weights_say(stirred, shape):
    """Cell by cell, at edges and in rows of several tiles."""
    torch.manual_seed(1)
    rows, columns = shape
    image, features = torch.randn(1, 3, 8 * rows, 8 * columns), torch.randn(1, 4, *shape) + 2
    found = stirred(image, features)
    seen = stirred.look(image)
    for block in stirred.blocks:
        seen = seen + block(seen)
    query, key = stirred.query(seen)[0], torch.nn.functional.avg_pool2d(stirred.key(seen), 2)[0]
    unit = torch.nn.functional.normalize(features - features.mean((2, 3), keepdim=True))[0]
    for y, x in {(0, 0), (rows - 1, columns - 1), (2 * rows - 1, columns), (1, 2 * columns - 2)}:
        row, column, phase = y // 2, x // 2, 2 * (y % 2) + x % 2
        logits, near = [], []
        for down in range(-2, 3):
            for right in range(-2, 3):
                i, j = min(max(row + down, 0), rows - 1), min(max(column + right, 0), columns - 1)
                logit = query[:, y, x] @ key[:, i, j] / 32**0.5
                logit += stirred.place[phase, len(near)]
                logit += 8 * stirred.alike[phase, 0] * (unit[:, row, column] @ unit[:, i, j])
                logits.append(logit)
                near.append(features[0, :, i, j])
        wanted = torch.stack(logits).softmax(0) @ torch.stack(near)
        torch.testing.assert_close(found[0, :, y, x], wanted, rtol=1e-4, atol=1e-4)
