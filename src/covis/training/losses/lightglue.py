"""LightGlue's training losses (section 3.4 of the paper) and the imitation of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from covis.nets.lightglue import LightGlue, MatchAssignment, TokenConfidence
from covis.training.data.labelled_pairs import NO_PARTNER


class Trace(NamedTuple):
    """What a forward pass leaves behind, for image 0 of all pairs and then image 1.

    states: [2 B, N, d], the points as they come in and after every attention.
    messages: [2 B, N, d], what every attention said.
    """

    states: list[Tensor]
    messages: list[Tensor]


def trace(
    net: LightGlue,
    descriptors: Tensor,
    positions: Tensor,
    *,
    fed: Sequence[Tensor] | None = None,
    share: float = 1.0,
    kept: int = 0,
    recompute: bool = False,
) -> Trace:
    """Run every layer on B pairs of N points.

    descriptors: [2 B, N, D], positions: [2 B, N, 2 or 4], image 0 of all pairs, then image 1.
    fed: another network's states, which each attention but the first is given in place of its
    own. share: of these; the rest are its own, through which no gradient flows then.
    kept: layers, from the first, that get no gradient.
    recompute: keep no activations within an attention
    for the backward pass (gradient checkpointing).
    """
    # In half precision angles would be off by a hundredth of a radian, and the sum of what the
    # layers add by as much.
    with torch.autocast(descriptors.device.type, enabled=False):
        x, rotation = net.encode(descriptors, positions)
    pairs = len(descriptors) // 2
    states, messages = [x], []

    def attend_self(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        attention, _ = net.attentions(index)
        message = attention.message(x, rotation)
        return attention.update(x, message), message

    def attend_cross(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        _, attention = net.attentions(index)
        message = torch.cat(attention.messages(x[:pairs], x[pairs:]))
        return attention.update(x, message), message

    for index in range(net.layers):
        for attend in (attend_self, attend_cross):
            if 2 * kept == len(states) - 1:
                x = x.detach()
            if fed is not None and len(states) > 1:
                theirs = fed[len(states) - 1]
                x = theirs if share == 1 else torch.lerp(x.detach(), theirs, share)
            if recompute:
                x, message = checkpoint(attend, index, x, use_reentrant=False)
            else:
                x, message = attend(index, x)
            states.append(x)
            messages.append(message)
    return Trace(states, messages)


def state_loss(own: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
    """How far a network's states are from those shown to it, as `imitation_loss` has it."""
    befores = (None, *shown)
    return torch.stack(
        [_error(a, b, c) for a, b, c in zip(own, shown, befores, strict=False)]
    ).mean()


def _error(ours: Tensor, theirs: Tensor, before: Tensor | None = None) -> Tensor:
    theirs = theirs.float()
    changed = theirs if before is None else theirs - before.float()
    spread = (changed - changed.mean(dim=1, keepdim=True)).square().mean().clamp(min=1e-6)
    # Of a network on its own states the deep layers are far off; they must not drown the rest.
    return torch.log1p(F.mse_loss(ours.float(), theirs) / spread)


def imitation_loss(
    student: LightGlue, teacher: LightGlue, own: Trace, shown: Trace
) -> dict[str, Tensor]:
    """How far a student's states, messages and last assignment are from its teacher's.

    Both networks have the same sizes. Each part is log(1 + squared error), averaged over
    the attentions; the unit is the variance over the points of what the teacher says there, for
    states of what the attention adds.
    """
    last = student.layers - 1
    ours, theirs = student.assignment(last), teacher.assignment(last)
    with torch.no_grad():
        projected = theirs.project(shown.states[-1])
        logits = theirs.matchability_logits(shown.states[-1])
    return {
        "states": state_loss(own.states, shown.states),
        "messages": torch.stack(
            [_error(a, b) for a, b in zip(own.messages, shown.messages, strict=True)]
        ).mean(),
        "assignment": _error(ours.project(own.states[-1]), projected)
        + F.smooth_l1_loss(ours.matchability_logits(own.states[-1]).float(), logits.float()),
    }


def assignment_loss(head: MatchAssignment, x: Tensor, partners: Tensor) -> Tensor:
    """Negative log-likelihood of the true assignment (equation 10).

    x: [2 B, N, d]. partners: [2 B, N], the index in the other image, NO_PARTNER or UNKNOWN;
    of a true pair both points name each other.
    """
    pairs = len(x) // 2
    projected, logits = head.project(x), head.matchability_logits(x)
    similarity = projected[:pairs] @ projected[pairs:].mT
    spread = torch.cat([similarity.logsumexp(dim=2), similarity.logsumexp(dim=1)])
    matched = partners >= 0
    partner = partners.clamp(min=0)
    others = projected.roll(pairs, dims=0)
    similar = (projected * others.gather(1, partner.unsqueeze(-1).expand_as(others))).sum(dim=-1)
    # Each point brings its half of log P: its own normalisation and matchability.
    positive = (spread - similar - F.logsigmoid(logits))[matched]
    negative = -F.logsigmoid(-logits)[partners == NO_PARTNER]
    count = max(len(positive), 1) / 2
    return 0.5 * positive.sum() / count + 0.5 * negative.sum() / max(len(negative), 1)


@torch.no_grad()
def best_partners(head: MatchAssignment, x: Tensor) -> tuple[Tensor, Tensor]:
    """Each point's likeliest partner [2 B, N], NO_PARTNER where none is likelier, and log P of
    the best one [2 B, N]."""
    pairs = len(x) // 2
    log_p = head(x[:pairs].float(), x[pairs:].float())
    best = [log_p.max(dim=2), log_p.max(dim=1)]
    values, indices = (torch.cat([b[i] for b in best]) for i in range(2))
    alone = F.logsigmoid(-head.matchability_logits(x.float()))
    return torch.where(values > alone, indices, NO_PARTNER), values


def confidence_loss(token: TokenConfidence, x: Tensor, here: Tensor, final: Tensor) -> Tensor:
    """Cross-entropy of each point's confidence [2 B, N, d] that its partner is already the last
    layer's; here, final: [2 B, N], from `best_partners`."""
    logits = token.logits(x)
    return F.binary_cross_entropy_with_logits(logits.float(), (here == final).float())
