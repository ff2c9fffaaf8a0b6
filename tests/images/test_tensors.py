"""Tensors of PyTorch as pictures."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="its tensors are what is read")

from covis.errors import ImageError  # noqa: E402
from covis.images.decode import load_image  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1).float().div(255).requires_grad_(),
        torch.from_numpy(PIXELS).permute(2, 0, 1).double().div(255),
    ],
    ids=["channels last", "channels first", "float", "double"],
)
def test_a_tensor_is_a_picture(tensor):
    np.testing.assert_array_equal(load_image(tensor).pixels, PIXELS)


def test_a_grey_tensor_is_a_picture():
    grey = torch.from_numpy(PIXELS[:, :, 0].copy())
    for tensor in (grey, grey[None]):
        np.testing.assert_array_equal(load_image(tensor).pixels[:, :, 2], PIXELS[:, :, 0])
    assert load_image(grey, max_size=4).pixels.shape == (3, 4, 3)


def test_exception_for_a_batch():
    with pytest.raises(ImageError, match=r"has shape \(2, 6, 8, 3\)"):
        load_image(torch.zeros(2, 6, 8, 3))
