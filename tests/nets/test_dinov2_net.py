"""DINOv2: what transformers gives for the same weights, and the files that these come in."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from helpers.networks import dinov2_as_exported

from covis.errors import BundleError

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
onnx = pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
from safetensors.torch import save_file  # noqa: E402

from covis.nets.dinov2 import DINOv2, Sizes, load_official  # noqa: E402

SIZES = Sizes(128, 2, 2, positions=4)


def waves(name, shape):
    """Values that need no generator of random numbers: the same under every release."""
    count = math.prod(shape)
    seed = sum(map(ord, name)) % 97
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + seed).float().view(shape)


@pytest.fixture(scope="module")
def net():
    made = DINOv2(SIZES).eval()
    state = {name: 0.3 * waves(name, value.shape) for name, value in made.state_dict().items()}
    made.load_state_dict(state)
    return made


@pytest.fixture(scope="module")
def image():
    return waves("image", (2, 3, 42, 70))


GIVEN = [
    [-0.0057431, -0.1533194, 0.1774411],
    [-0.0853392, -0.2169304, 0.0997030],
    [-0.0933403, -0.2132225, 0.1147314],
    [0.0502195, -0.1070446, 0.1984899],
]
"""Of the class token and three patches, of channels 0, 50 and 127."""


def test_what_transformers_gives(net, image):
    """Pinned from transformers 5.24's Dinov2Model, in one image of three by five patches."""
    with torch.inference_mode():
        found = net.layernorm(net(image))
    assert found.shape == (2, 16, 128)
    np.testing.assert_allclose(found[1, [0, 1, 7, 15]][:, [0, 50, 127]], GIVEN, rtol=0, atol=1e-5)


def test_with_transformers(net, image):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    theirs = transformers.Dinov2Model(config).eval()
    mask = torch.zeros(1, 128)
    theirs.load_state_dict(_renamed(net.state_dict() | {"embeddings.mask_token": mask}, theirs))
    with torch.inference_mode():
        torch.testing.assert_close(
            net.layernorm(net(image)), theirs(image).last_hidden_state, rtol=1e-5, atol=1e-5
        )


def _renamed(state, theirs):
    """As the release at hand calls them."""
    if state.keys() == theirs.state_dict().keys():
        return state
    for old, new in (
        (r"attention\.attention\.query", "attention.q_proj"),
        (r"attention\.attention\.key", "attention.k_proj"),
        (r"attention\.attention\.value", "attention.v_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
    ):
        state = {re.sub(old, new, name): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "pth"])
def test_files(net, image, kind, tmp_path):
    path = tmp_path / f"w.{kind}"
    state = net.state_dict()
    if kind == "onnx":
        dinov2_as_exported(state, path)
    elif kind == "pth":
        torch.save({f"dinov2.{name}": value for name, value in state.items()}, path)
    else:
        save_file(state | {"embeddings.mask_token": torch.ones(1, 128)}, path)
    loaded = load_official(path)
    assert loaded.config == SIZES
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), net(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("gone", "more", "says"),
    [
        ("embeddings.position_embeddings", {}, "not the weights of a DINOv2 that covis knows"),
        ("layernorm.bias", {}, r"not the weights of DINOv2; missing: layernorm\.bias"),
        ("", {"embeddings.register_tokens": torch.ones(1)}, "unknown: embeddings.register_tokens"),
    ],
)
def test_exception_other_networks(net, gone, more, says, tmp_path):
    state = {name: value for name, value in net.state_dict().items() if name != gone}
    save_file(state | more, tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match=says):
        load_official(tmp_path / "w.safetensors")


def test_exception_no_onnx_file(tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(BundleError, match=r"w\.onnx: not a readable weights file"):
        load_official(tmp_path / "w.onnx")
