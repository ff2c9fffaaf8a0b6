"""LightGlue: local feature matching (Lindenberger et al., ICCV 2023, arXiv 2306.13643).

Module names are the official ones, so published state dicts load unchanged. One file holds the
model: the network, and the steps that `covis.matching.lightglue` runs one by one.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.errors import BundleError
from covis.nets.weights import load_strictly, read_network

ADAPTIVE = ("log_assignment.", "token_confidence.")
"""How the weights of the heads begin. Those of inner layers decide when to stop."""
UNREAD = r"log_assignment\.\d+\.r"
"""A number, 1, in the published file for DISK, which no published code reads."""


class Rotation(NamedTuple):
    """The rotary encoding of a set of points: cosines and sines, [B, N, head_dim / 2] each."""

    cos: Tensor
    sin: Tensor


class PositionalEncoding(nn.Module):
    """Positions -> the angles of the rotary encoding (section 3.2), the same for every head.

    Self-attention sees only differences of angles, so it does not matter where the origin of
    the positions lies; their unit does.
    """

    def __init__(self, position_dim: int, head_dim: int) -> None:
        super().__init__()
        self.Wr = nn.Linear(position_dim, head_dim // 2, bias=False)
        nn.init.normal_(self.Wr.weight)

    def forward(self, positions: Tensor) -> Rotation:
        """[B, N, 2 or 4] -> one angle for every two channels."""
        angles = self.Wr(positions)
        return Rotation(angles.cos(), angles.sin())


class Attention(nn.Module):
    """Softmax attention of several heads. The export puts a runtime's own in its place."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: [B, N, d], k and v: [B, M, d] -> [B, N, d]; a head's channels lie together."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        if v.dtype == torch.bfloat16 and v.device.type == "cpu":
            # The fused attention makes no use of a CPU's products of such numbers.
            similar = (q * q.shape[-1] ** -0.5).to(v.dtype) @ k.to(v.dtype).mT
            message: Tensor = similar.softmax(dim=-1).to(v.dtype) @ v
        else:
            message = F.scaled_dot_product_attention(q, k, v)
        return message.transpose(1, 2).flatten(2)


def feed_forward(dim: int) -> nn.Sequential:
    """Point and message [B, N, 2 d] -> what is added to the point [B, N, d]."""
    return nn.Sequential(
        nn.Linear(2 * dim, 2 * dim), nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
    )


class SelfAttention(nn.Module):
    """The points of one image look at each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.Wqkv = nn.Linear(dim, 3 * dim)
        self.attend = Attention(heads)
        self.out_proj = nn.Linear(dim, dim)
        self.ffn = feed_forward(dim)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """[B, N, d] -> [B, N, d]."""
        return self.update(x, self.message(x, rotation))

    def message(self, x: Tensor, rotation: Rotation) -> Tensor:
        """What the points tell each other: [B, N, d] -> [B, N, d]."""
        weights, biases = self._parts(self.Wqkv.weight), self._parts(self.Wqkv.bias)
        first, second, v = (F.linear(x, *part) for part in zip(weights, biases, strict=True))
        first, second = (half.unflatten(-1, (2 * self.heads, -1)) for half in (first, second))
        cos, sin = (angle.unsqueeze(-2) for angle in rotation)
        qk = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(2)
        message: Tensor = self.out_proj(self.attend(qk[..., : self.dim], qk[..., self.dim :], v))
        return message

    def update(self, x: Tensor, message: Tensor) -> Tensor:
        """The points after they heard the message, [B, N, d] all."""
        updated: Tensor = x + self.ffn(torch.cat([x, message], dim=-1))
        return updated

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`Wqkv`'s rows [3 d, ...] -> the first channels of q and k's pairs, the second, and v.

        They come as (head, pair, first or second, q k v), and the pairs would have to be taken
        apart for every point. In q and k a head's first channels may go before its second ones,
        which leaves their product as it is; v keeps its order, which `out_proj` reads.
        """
        rows = rows.unflatten(0, (self.heads, -1, 2, 3))
        first, second = (rows[:, :, half, :2].movedim(2, 0).flatten(0, 2) for half in range(2))
        return first, second, rows[:, :, :, 2].flatten(0, 2)


class CrossAttention(nn.Module):
    """The points of each image look at the other's."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.to_qk = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.attend = Attention(heads)
        self.to_out = nn.Linear(dim, dim)
        self.ffn = feed_forward(dim)

    def forward(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """[B, M, d], [B, N, d] -> the same shapes."""
        message0, message1 = self.messages(x0, x1)
        return self.update(x0, message0), self.update(x1, message1)

    def messages(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """What the images tell each other: [B, M, d], [B, N, d] -> the same shapes.

        One similarity qk0 qk1^T would serve both directions, but it has to be kept whole:
        on a CPU two fused attentions that never store it are as fast or faster (2048 points,
        4 heads: 93 ms against 115 ms) and their memory does not grow with M N.
        """
        qk0, qk1, v0, v1 = self.to_qk(x0), self.to_qk(x1), self.to_v(x0), self.to_v(x1)
        message0, message1 = self.attend(qk0, qk1, v1), self.attend(qk1, qk0, v0)
        return self.to_out(message0), self.to_out(message1)

    def update(self, x: Tensor, message: Tensor) -> Tensor:
        """The points after they heard the message, [B, N, d] all."""
        updated: Tensor = x + self.ffn(torch.cat([x, message], dim=-1))
        return updated


class Layer(nn.Module):
    """Self-attention, then cross-attention (section 3.1)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, heads)
        self.cross_attn = CrossAttention(dim, heads)

    def forward(
        self, x0: Tensor, x1: Tensor, rotation0: Rotation, rotation1: Rotation
    ) -> tuple[Tensor, Tensor]:
        """[B, M, d], [B, N, d] -> the same shapes."""
        x0, x1 = self.cross_attn(self.self_attn(x0, rotation0), self.self_attn(x1, rotation1))
        return x0, x1


class MatchAssignment(nn.Module):
    """Points -> which belong together (section 3.2, "Correspondence prediction")."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**-0.25
        self.matchability = nn.Linear(dim, 1)
        self.final_proj = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> Tensor:
        """[B, N, d] -> [B, N, d], whose inner products are the similarities."""
        projected: Tensor = self.final_proj(x) * self.scale
        return projected

    def matchability_logits(self, x: Tensor) -> Tensor:
        """[B, N, d] -> [B, N], the logit of each point having a partner."""
        logits: Tensor = self.matchability(x).squeeze(-1)
        return logits

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        """[B, M, d], [B, N, d] -> log P [B, M, N] (equation 8)."""
        similarity = self.project(x0) @ self.project(x1).mT
        z0, z1 = (F.logsigmoid(self.matchability_logits(x)) for x in (x0, x1))
        return (
            similarity.log_softmax(dim=2)
            + similarity.log_softmax(dim=1)
            + z0.unsqueeze(2)
            + z1.unsqueeze(1)
        )


class TokenConfidence(nn.Module):
    """Points -> how sure each is that its match is final (section 3.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, d] -> [B, N] in 0..1. Trained by itself: no gradient reaches the points."""
        confidence: Tensor = self.token(x.detach()).squeeze(-1)
        return confidence

    def logits(self, x: Tensor) -> Tensor:
        """[B, N, d] -> [B, N], before the sigmoid; no gradient reaches the points."""
        logits: Tensor = self.token[0](x.detach()).squeeze(-1)
        return logits


class LightGlue(nn.Module):
    """The network, in the parts that the adaptive loop calls one by one.

    Its points are x [B, N, dim]; layers count from 0.
    """

    def __init__(
        self,
        input_dim: int,
        *,
        dim: int = 256,
        layers: int = 9,
        heads: int = 4,
        scale_orientation: bool = False,
        adaptive: bool = True,
    ) -> None:
        """The published sizes by default; LighterGlue is dim=96, layers=6, heads=1.

        input_dim: of the descriptors. scale_orientation: positions are (x, y, scale,
        orientation), not (x, y). adaptive: have the heads of the inner layers, without which
        only full depth and width are possible.
        """
        super().__init__()
        self.input_dim, self.dim, self.layers, self.heads = input_dim, dim, layers, heads
        self.scale_orientation, self.adaptive = scale_orientation, adaptive
        self.input_proj = nn.Identity() if input_dim == dim else nn.Linear(input_dim, dim)
        self.posenc = PositionalEncoding(4 if scale_orientation else 2, dim // heads)
        self.transformers = nn.ModuleList(Layer(dim, heads) for _ in range(layers))
        assigning = range(layers) if adaptive else [layers - 1]
        confident = range(layers - 1) if adaptive else []
        self.log_assignment = nn.ModuleDict({str(i): MatchAssignment(dim) for i in assigning})
        self.token_confidence = nn.ModuleDict({str(i): TokenConfidence(dim) for i in confident})

    def encode(self, descriptors: Tensor, positions: Tensor) -> tuple[Tensor, Rotation]:
        """[B, N, input_dim] and [B, N, 2 or 4] -> x and the rotary encoding.

        positions: (pixels - size / 2) / (longest side / 2), then scale and orientation.
        """
        return self.input_proj(descriptors), self.posenc(positions)

    def layer(
        self, index: int, x0: Tensor, x1: Tensor, rotation0: Rotation, rotation1: Rotation
    ) -> tuple[Tensor, Tensor]:
        """One layer: x of both images -> x of both images."""
        x0, x1 = self.transformers[index](x0, x1, rotation0, rotation1)
        return x0, x1

    def attentions(self, index: int) -> tuple[SelfAttention, CrossAttention]:
        """The two halves of layer `index`."""
        layer = self.transformers[index]
        assert isinstance(layer, Layer)
        return layer.self_attn, layer.cross_attn

    def assignment(self, index: int) -> MatchAssignment:
        """The assignment head of layer `index`."""
        head = self.log_assignment[str(index)]
        assert isinstance(head, MatchAssignment)
        return head

    def confidence(self, index: int) -> TokenConfidence:
        """The confidence head of layer `index`, any but the last."""
        head = self.token_confidence[str(index)]
        assert isinstance(head, TokenConfidence)
        return head

    def forward(
        self, descriptors0: Tensor, positions0: Tensor, descriptors1: Tensor, positions1: Tensor
    ) -> Tensor:
        """Full depth and width; see `encode` for the arguments. Returns log P [B, M, N]."""
        x0, rotation0 = self.encode(descriptors0, positions0)
        x1, rotation1 = self.encode(descriptors1, positions1)
        for index in range(self.layers):
            x0, x1 = self.layer(index, x0, x1, rotation0, rotation1)
        log_assignment: Tensor = self.assignment(self.layers - 1)(x0, x1)
        return log_assignment


class Step(nn.Module):
    """A part of the network as the adaptive loop runs it: one pair, named arrays in and out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Encode(Step):
    """descriptors [N, input_dim], positions [N, 2 or 4] -> x [N, d], cos and sin [N, h / 2]."""

    inputs = ("descriptors", "positions")
    outputs = ("x", "cos", "sin")

    def __init__(self, net: LightGlue) -> None:
        super().__init__()
        self.input_proj, self.posenc = net.input_proj, net.posenc

    def forward(self, descriptors: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        # A copy, because a graph's output cannot be its input, which it is without projection.
        return self.input_proj(descriptors).clone(), *self.posenc(positions)


class Advance(Step):
    """x [M, d] and [N, d], with their cos and sin -> the same x after one layer."""

    inputs = ("x0", "x1", "cos0", "sin0", "cos1", "sin1")
    outputs = ("y0", "y1")

    def __init__(self, net: LightGlue, index: int) -> None:
        super().__init__()
        self.layer = net.transformers[index]

    def forward(
        self, x0: Tensor, x1: Tensor, cos0: Tensor, sin0: Tensor, cos1: Tensor, sin1: Tensor
    ) -> tuple[Tensor, ...]:
        rotation0, rotation1 = Rotation(cos0[None], sin0[None]), Rotation(cos1[None], sin1[None])
        y0, y1 = self.layer(x0[None], x1[None], rotation0, rotation1)
        return y0[0], y1[0]


class Decide(Step):
    """x [N, d] -> confidence [N] and matchability [N], both in 0..1."""

    inputs = ("x",)
    outputs = ("confidence", "matchability")

    def __init__(self, net: LightGlue, index: int) -> None:
        super().__init__()
        self.token_confidence = net.token_confidence[str(index)]
        self.matchability = net.assignment(index).matchability

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.token_confidence(x), self.matchability(x).squeeze(-1).sigmoid()


class Assign(Step):
    """x [M, d] and [N, d] -> projected points m [M, d] and [N, d], log-matchabilities [M], [N]."""

    inputs = ("x0", "x1")
    outputs = ("m0", "m1", "log_matchability0", "log_matchability1")

    def __init__(self, net: LightGlue, index: int) -> None:
        super().__init__()
        self.head = net.assignment(index)

    def forward(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, ...]:
        m0, m1 = self.head.project(x0), self.head.project(x1)
        z0, z1 = self.head.matchability_logits(x0), self.head.matchability_logits(x1)
        return m0, m1, F.logsigmoid(z0), F.logsigmoid(z1)


class Normalise(Step):
    """m [M, d] and [N, d] -> the softmax's normalisation of S = m0 m1^T by rows and columns.

    top: [M] and [N], the largest. spread: [M] and [N], log-sum-exp of S less the largest.
    Trained similarities go into the hundreds, so that in one number the two would lose digits.
    """

    inputs = ("m0", "m1")
    outputs = ("top0", "spread0", "top1", "spread1")

    def forward(self, m0: Tensor, m1: Tensor) -> tuple[Tensor, ...]:
        similarity = m0 @ m1.mT
        top0, top1 = similarity.amax(dim=1), similarity.amax(dim=0)
        spread0 = (similarity - top0[:, None]).exp().sum(dim=1).log()
        spread1 = (similarity - top1).exp().sum(dim=0).log()
        return top0, spread0, top1, spread1


class Best(Step):
    """The largest log P in each row and column, and where it is.

    m: [M, d] and [N, d]. top: [M] and [N]. bias: [M] and [N], log-matchability less the spread;
    log P = (S - top0) + (S - top1) + bias0 + bias1. score: [M] and [N], the largest. index:
    [M] and [N] int64, the lowest of equals.
    """

    inputs = ("m0", "m1", "top0", "top1", "bias0", "bias1")
    outputs = ("score0", "index0", "score1", "index1")

    def forward(
        self, m0: Tensor, m1: Tensor, top0: Tensor, top1: Tensor, bias0: Tensor, bias1: Tensor
    ) -> tuple[Tensor, ...]:
        similarity = m0 @ m1.mT
        log_p = (similarity - top0[:, None]) + (similarity - top1) + bias0[:, None] + bias1
        return log_p.amax(dim=1), log_p.argmax(dim=1), log_p.amax(dim=0), log_p.argmax(dim=0)


def steps(net: LightGlue) -> dict[str, Step]:
    """Every step of the adaptive loop by the name it is called by."""
    return {
        "encode": Encode(net),
        **{f"layer{index}": Advance(net, index) for index in range(net.layers)},
        **{f"decide{index}": Decide(net, int(index)) for index in net.token_confidence},
        **{f"assign{index}": Assign(net, int(index)) for index in net.log_assignment},
        "normalise": Normalise(),
        "best": Best(),
    }


def load_official(path: str | Path) -> LightGlue:
    """LightGlue with published weights, in evaluation mode; its sizes are the tensors'.

    path: a state dict with the official names, old ("self_attn.0") or new
    ("transformers.0.self_attn"), perhaps behind others, as .safetensors, .pt or .pth.
    Where heads of inner layers are absent, the network is not `adaptive`.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    state = read_network(path, "lightglue")
    state = {
        re.sub(r"^(self|cross)_attn\.(\d+)\.", r"transformers.\2.\1_attn.", name): value.float()
        for name, value in state.items()
        if name != "confidence_thresholds" and not re.fullmatch(UNREAD, name)
    }
    try:
        dim = state["transformers.0.self_attn.Wqkv.weight"].shape[1]
        pairs, position_dim = state["posenc.Wr.weight"].shape
        heads = dim // (2 * pairs)
        layers = 1 + max(map(_layer, state))
        if heads * 2 * pairs != dim or position_dim not in (2, 4):
            raise ValueError
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        raise BundleError(f"{path}: not the weights of LightGlue.") from None
    projection = state.get("input_proj.weight")
    input_dim = dim if projection is None else projection.shape[1]
    build = partial(
        LightGlue,
        input_dim,
        dim=dim,
        layers=layers,
        heads=heads,
        scale_orientation=position_dim == 4,
    )
    net = build()
    if any(name.startswith(ADAPTIVE) for name in net.state_dict().keys() - state.keys()):
        net = build(adaptive=False)
        kept = net.state_dict().keys()
        state = {k: v for k, v in state.items() if k in kept or not k.startswith(ADAPTIVE)}
    load_strictly(net, state, path)
    return net.eval()


def _layer(name: str) -> int:
    """The layer that a weight belongs to, -1 for none."""
    found = re.match(r"transformers\.(\d+)\.", name)
    return int(found[1]) if found else -1
