"""The average of a network: how fast it follows, and what it copies."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from covis.training.moving_average import follow  # noqa: E402


@pytest.mark.parametrize(("step", "kept"), [(0, 0.1), (8, 0.5), (10_000, 0.9)])
def test_shares(step, kept):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = copy.deepcopy(net)
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            value.add_(10)
    before = copy.deepcopy(average.state_dict())
    follow(average, net, step, 0.9)
    for name, value in average.state_dict().items():
        moved = value - before[name]
        if name.endswith("num_batches_tracked"):
            assert int(moved) == 10
        else:
            torch.testing.assert_close(moved, torch.full_like(moved, 10 * (1 - kept)))
