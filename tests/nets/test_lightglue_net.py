"""LightGlue's network: its arithmetic by hand, and official weights in every spelling."""

from __future__ import annotations

import re

import pytest

from covis.errors import BundleError

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
from safetensors.torch import save_file  # noqa: E402

from covis.nets.lightglue import Attention, LightGlue, SelfAttention, load_official, steps  # noqa: E402


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


def small(input_dim=12, **sizes):
    return LightGlue(input_dim, **{"dim": 16, "layers": 3, "heads": 2} | sizes).eval()


def inputs(net, count0=5, count1=7):
    width = 4 if net.scale_orientation else 2
    return [
        array
        for count in (count0, count1)
        for array in (torch.randn(1, count, net.input_dim), torch.rand(1, count, width))
    ]


def saved(state, path):
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


@torch.no_grad()
def test_convention_self_attention():
    """The published channel order: (head, channel, q k v), neighbouring channels turned."""
    net = SelfAttention(16, 2)
    x, angles = torch.randn(1, 5, 16), torch.randn(1, 5, 4)
    q, k, v = net.Wqkv(x)[0].view(5, 2, 8, 3).permute(3, 1, 0, 2)

    def turned(t):
        pairs = torch.view_as_complex(t.reshape(2, 5, 4, 2).contiguous())
        turn = torch.polar(torch.ones(5, 4), angles[0])
        return torch.view_as_real(pairs * turn).reshape(2, 5, 8)

    weights = (turned(q) @ turned(k).mT / 8**0.5).softmax(dim=-1)
    message = net.out_proj((weights @ v).transpose(0, 1).reshape(5, 16))
    expected = x[0] + net.ffn(torch.cat([x[0], message], dim=-1))
    found = net(x, (angles.cos(), angles.sin()))[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_cross_attention_is_one_similarity_both_ways():
    net = small().transformers[0].cross_attn
    x0, x1 = torch.randn(5, 16), torch.randn(7, 16)

    def heads(x):
        return x.view(len(x), 2, 8).transpose(0, 1)

    similarity = heads(net.to_qk(x0)) @ heads(net.to_qk(x1)).mT / 8**0.5
    messages = (
        similarity.softmax(dim=2) @ heads(net.to_v(x1)),
        similarity.softmax(dim=1).mT @ heads(net.to_v(x0)),
    )
    found = net(x0[None], x1[None])
    for x, message, result in zip((x0, x1), messages, found, strict=True):
        joined = net.to_out(message.transpose(0, 1).flatten(1))
        expected = x + net.ffn(torch.cat([x, joined], dim=-1))
        torch.testing.assert_close(result[0], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_in_half_precision_is_as_in_full():
    torch.manual_seed(0)
    attend = Attention(2)
    q, k, v = torch.randn(3, 2, 9, 8)
    full = attend(q, k, v)
    half = attend(q, k.bfloat16(), v.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.03, rtol=0)


def test_assignment():
    net = small()
    head = net.assignment(1)
    x0, x1 = torch.randn(1, 5, 16), torch.randn(1, 7, 16)
    similarity = head.final_proj(x0)[0] @ head.final_proj(x1)[0].T / 16**0.5
    certain = head.matchability(x0)[0].sigmoid() * head.matchability(x1)[0].sigmoid().T
    expected = similarity.softmax(dim=0) * similarity.softmax(dim=1) * certain
    torch.testing.assert_close(head(x0, x1)[0].exp(), expected)


@torch.no_grad()
def test_convention_the_origin_of_positions_does_not_matter():
    """Half a pixel more or less, as the official XFeat has it, changes nothing."""
    net = small()
    descriptors0, positions0, descriptors1, positions1 = inputs(net)
    found = net(descriptors0, positions0, descriptors1, positions1)
    moved = net(descriptors0, positions0 + 0.3, descriptors1, positions1 - 0.1)
    stretched = net(descriptors0, positions0 * 1.5, descriptors1, positions1)
    torch.testing.assert_close(moved, found, rtol=1e-4, atol=1e-4)
    assert (stretched - found).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("scale_orientation", [False, True])
def test_pairs_in_a_batch(scale_orientation):
    net = small(scale_orientation=scale_orientation)
    one, two = inputs(net), inputs(net)
    both = net(*(torch.cat(pair) for pair in zip(one, two, strict=True)))
    assert both.shape == (2, 5, 7)
    for row, alone in zip(both, (net(*one), net(*two)), strict=True):
        torch.testing.assert_close(row, alone[0], rtol=1e-5, atol=1e-5)


def test_confidence_sends_no_gradient_to_the_points():
    x = torch.randn(1, 5, 16, requires_grad=True)
    net = small()
    net.token_confidence["0"](x).sum().backward()
    assert x.grad is None
    assert net.token_confidence["0"].token[0].weight.grad is not None


def test_published_size():
    parameters = sum(p.numel() for p in LightGlue(256).parameters())
    assert round(parameters / 1e6, 1) == 11.9


SIZES = [
    {"input_dim": 256, "dim": 256, "layers": 2, "heads": 4},
    {"input_dim": 128, "dim": 256, "layers": 2, "heads": 4},
    {"input_dim": 128, "dim": 256, "layers": 2, "heads": 4, "scale_orientation": True},
    {"input_dim": 64, "dim": 96, "layers": 6, "heads": 1},
]


@pytest.mark.parametrize("spelling", ["new", "old", "matcher"])
@pytest.mark.parametrize("sizes", SIZES, ids=["superpoint", "aliked", "sift", "xfeat"])
def test_load_official(sizes, spelling, tmp_path):
    net = LightGlue(**sizes).eval()
    state = net.state_dict() | {"confidence_thresholds": torch.rand(sizes["layers"])}
    # The published file for DISK has such numbers, which nothing reads.
    state |= {f"log_assignment.{index}.r": torch.ones(1) for index in range(sizes["layers"])}
    if spelling != "new":
        pattern = r"transformers\.(\d+)\.(self|cross)_attn"
        state = {re.sub(pattern, r"\2_attn.\1", k): v for k, v in state.items()}
    if spelling == "matcher":
        state = {f"matcher.{k}": v for k, v in state.items()} | {"extractor.x": torch.zeros(1)}
    loaded = load_official(saved(state, tmp_path / "w.safetensors"))
    assert not loaded.training
    assert loaded.adaptive
    for name in ("input_dim", "dim", "layers", "heads"):
        assert getattr(loaded, name) == sizes[name]
    assert loaded.scale_orientation == sizes.get("scale_orientation", False)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("gone", ["log_assignment.0.", "token_confidence."])
def test_without_inner_heads_only_full_depth(gone, tmp_path):
    net = small()
    state = {k: v.half() for k, v in net.state_dict().items() if not k.startswith(gone)}
    loaded = load_official(saved(state, tmp_path / "w.safetensors"))
    assert not loaded.adaptive
    assert {name.rstrip("012") for name in steps(loaded)} == {
        "encode", "layer", "assign", "normalise", "best",
    }  # fmt: skip
    assert "assign2" in steps(loaded)
    assert "assign0" not in steps(loaded)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("transformers.0.self_attn.Wqkv", "not the weights of LightGlue"),
        ("posenc", "not the weights of LightGlue"),
        ("transformers.1.cross_attn.to_v", "missing: transformers.1.cross_attn.to_v"),
        ("log_assignment.2.", "missing: log_assignment.2"),
    ],
)
def test_exception_incomplete(gone, says, tmp_path):
    state = {k: v for k, v in small().state_dict().items() if not k.startswith(gone)}
    with pytest.raises(BundleError, match=says):
        load_official(saved(state, tmp_path / "w.safetensors"))


def test_exception_more_than_lightglue(tmp_path):
    state = small().state_dict() | {"extra.weight": torch.zeros(2)}
    with pytest.raises(BundleError, match=r"unknown: extra\.weight"):
        load_official(saved(state, tmp_path / "w.safetensors"))
