"""A published LightGlue for ALIKED as the teacher of a matcher for other features.

ALIKED describes any point of a picture, so this LightGlue can be asked about the very keypoints
that the student is to match. It is wider than the student: its states are shown along the axes in
which they vary most, and the student's attentions begin with what is left of the teacher's in them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from covis.errors import TrainingError
from covis.nets.aliked import ALIKED, SIZE_MULTIPLE
from covis.nets.lightglue import LightGlue, MatchAssignment
from covis.training.losses.lightglue import best_partners, trace
from covis.types import FloatArray

BLOCK = 512
"""Keypoints described at a time: memory grows with these."""


class Axes(NamedTuple):
    """What of a teacher's states is shown.

    axes: [d, D], orthonormal, for D numbers of the teacher and d of the student. means: [K, D], of
    the teacher's K states.
    """

    axes: Tensor
    means: Tensor

    def rest(self, index: int) -> Tensor:
        """The mean of state `index` as far as the axes do not show it: [D]."""
        mean = self.means[index]
        return mean - self.axes.T @ (self.axes @ mean)


class KeypointTeacher:
    """ALIKED and its LightGlue, in evaluation mode."""

    def __init__(self, describer: ALIKED, matcher: LightGlue, device: torch.device) -> None:
        """Raises TrainingError when the one does not describe what the other matches."""
        if describer.dim != matcher.input_dim or matcher.scale_orientation:
            raise TrainingError(
                f"the teacher matches descriptors of {matcher.input_dim} numbers, and the network "
                f"that is to describe for it gives {describer.dim}: they must agree."
            )
        self.describer = describer.to(device).requires_grad_(False).eval()
        self.matcher = matcher.to(device).requires_grad_(False).eval()
        self.device = device

    @torch.no_grad()
    def describe(self, picture: NDArray[np.uint8], points: FloatArray) -> Tensor:
        """Descriptors [N, D] at points (N, 2) of a picture, (H, W) or (H, W, 3) RGB."""
        rgb = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        height, width = rgb.shape[:2]
        below, beside = -height % SIZE_MULTIPLE, -width % SIZE_MULTIPLE
        padded = cv2.copyMakeBorder(rgb, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        image = torch.from_numpy(padded).to(self.device).permute(2, 0, 1)[None].float() / 255
        with torch.autocast(self.device.type, torch.bfloat16):
            found = self.describer.maps(image)
        maps = [each[0].permute(1, 2, 0).float().contiguous() for each in found]
        box = torch.tensor([0, 0, width, height], device=self.device)
        # On the last half pixel at the right or below a point would lie beyond the box.
        top = torch.tensor([width, height], device=self.device) - 1.001
        places = torch.from_numpy(points).to(self.device).float().sub(0.5).clamp(min=0).minimum(top)
        return torch.cat([self.describer.describe(maps, part, box) for part in places.split(BLOCK)])

    @torch.no_grad()
    def states(
        self, pictures: Sequence[NDArray[np.uint8]], points: FloatArray, positions: FloatArray
    ) -> list[Tensor]:
        """What it makes of points (2, N, 2) of two pictures: states [2, N, D], see `trace`."""
        described = [self.describe(*each) for each in zip(pictures, points, strict=True)]
        places = torch.from_numpy(positions).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            return trace(self.matcher, torch.stack(described), places).states

    @torch.no_grad()
    def partners(self, states: list[Tensor]) -> tuple[Tensor, Tensor]:
        """`best_partners` of its last layer."""
        return best_partners(self.matcher.assignment(self.matcher.layers - 1), states[-1].float())


@torch.no_grad()
def find_axes(shown: Sequence[list[Tensor]], dim: int) -> Axes:
    """The `dim` axes along which states vary most: of several pairs, lists of [2, N, D]; every
    state counts the same."""
    stacked = [
        torch.cat([x.float().flatten(0, 1) for x in each]) for each in zip(*shown, strict=True)
    ]
    means = torch.stack([x.mean(dim=0) for x in stacked])
    spread = torch.zeros(means.shape[1], means.shape[1])
    for x, mean in zip(stacked, means, strict=True):
        away = (x - mean).cpu()
        spread += away.T @ away / away.square().sum().clamp(min=1e-9)
    _, vectors = torch.linalg.eigh(spread)
    return Axes(vectors[:, -dim:].T.flip(0).contiguous(), means.cpu())


@torch.no_grad()
def begin_like(student: LightGlue, teacher: LightGlue, shown: Axes) -> None:
    """Give a student of fewer numbers, but as many heads, what fits into it of the first layers of
    its teacher: frequencies, what attention compares, and the assignments."""
    teacher = copy.deepcopy(teacher).cpu()
    chosen = _frequencies(teacher, student.posenc.Wr.out_features, student.layers)
    student.posenc.Wr.weight.copy_(teacher.posenc.Wr.weight[chosen])
    # Similarities are divided by the root of a head's numbers, which are fewer now.
    narrower = (student.dim / teacher.dim) ** 0.25
    for index in range(student.layers):
        (own_self, own_cross), (their_self, their_cross) = (
            net.attentions(index) for net in (student, teacher)
        )
        for attention in (own_self, own_cross):
            # Until it has learnt what to add to the points, it adds nothing.
            for parameter in attention.ffn[-1].parameters():
                nn.init.zeros_(parameter)
        own, theirs = (
            Affine.of(each.Wqkv).unflatten(net.heads, -1, 2, 3)
            for each, net in ((own_self, student), (their_self, teacher))
        )
        seen = theirs.along(shown, 2 * index)
        for part in (0, 1):
            own.weight[:, :, :, part] = narrower * seen.weight[:, chosen, :, part]
            own.bias[:, :, :, part] = narrower * seen.bias[:, chosen, :, part]
        seen = Affine.of(their_cross.to_qk).unflatten(teacher.heads, -1)
        seen = seen.along(shown, 2 * index + 1)
        own = Affine.of(own_cross.to_qk).unflatten(student.heads, -1)
        for head in range(student.heads):
            weight, bias = _best_rows(seen.weight[head], seen.bias[head], own.weight.shape[1])
            own.weight[head], own.bias[head] = narrower * weight, narrower * bias
    for index in map(int, student.log_assignment):
        _begin_head(student.assignment(index), teacher.assignment(index), shown, 2 * index + 2)


class Affine(NamedTuple):
    """A linear layer's weight and bias, perhaps unflattened."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> Affine:
        return cls(layer.weight.data, layer.bias.data)

    def unflatten(self, *sizes: int) -> Affine:
        return Affine(self.weight.unflatten(0, sizes), self.bias.unflatten(0, sizes))

    def along(self, shown: Axes, state: int) -> Affine:
        """The same of what the axes show of a state."""
        return Affine(self.weight @ shown.axes.T, self.bias + self.weight @ shown.rest(state))


def _frequencies(teacher: LightGlue, count: int, layers: int) -> Tensor:
    """The `count` frequencies that weigh most in what the first layers compare."""
    weights = [teacher.attentions(i)[0].Wqkv.weight for i in range(layers)]
    parts = torch.stack(weights).unflatten(1, (teacher.heads, -1, 2, 3))
    compared = parts[..., :2, :].square().sum(dim=(3, 5))
    strength = compared.prod(dim=-1).sqrt().sum(dim=(0, 1))
    return strength.topk(count).indices.sort().values


def _best_rows(weight: Tensor, bias: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """[n, d] and [n] -> [count, d] and [count]: what is compared, as far as so few numbers can."""
    left, strength, right = torch.linalg.svd(weight, full_matrices=False)
    return strength[:count, None] * right[:count], left[:, :count].T @ bias


def _begin_head(own: MatchAssignment, theirs: MatchAssignment, shown: Axes, state: int) -> None:
    seen = Affine.of(theirs.final_proj).along(shown, state)
    weight, bias = _best_rows(seen.weight, seen.bias, len(own.final_proj.bias))
    scale = theirs.scale / own.scale
    own.final_proj.weight.copy_(scale * weight)
    own.final_proj.bias.copy_(scale * bias)
    seen = Affine.of(theirs.matchability).along(shown, state)
    own.matchability.weight.copy_(seen.weight)
    own.matchability.bias.copy_(seen.bias)


def check_wider(teacher: LightGlue, student: LightGlue) -> None:
    """Raise TrainingError unless `begin_like` can serve the student."""
    for name in ("dim", "layers"):
        theirs, ours = getattr(teacher, name), getattr(student, name)
        if theirs < ours:
            raise TrainingError(
                f"the teacher's {name} is {theirs}, less than the matcher's {ours}."
            )
    if teacher.heads != student.heads:
        raise TrainingError(
            f"the teacher has {teacher.heads} heads, the matcher {student.heads}: they must agree."
        )
    if student.scale_orientation:
        raise TrainingError("features with scale and orientation have no teacher that sees ALIKED.")
