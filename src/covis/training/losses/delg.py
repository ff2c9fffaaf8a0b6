"""DELG's three losses (section 3.3 of the paper), and the contrast of views without classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MARGIN = 0.1
RECONSTRUCTION_WEIGHT, ATTENTION_WEIGHT = 10.0, 1.0
"""lambda and beta."""


class ArcFace(nn.Module):
    """L_g: classes told apart on the sphere, with a margin in the angle to the true one."""

    def __init__(self, dimension: int, classes: int, margin: float = MARGIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dimension)))
        self.scale = nn.Parameter(torch.tensor(math.sqrt(dimension)))
        self.margin = margin

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """Unit descriptors [B, G] and classes [B] -> the mean cross-entropy."""
        cosines = F.linear(descriptors, F.normalize(self.weight, dim=1))
        return F.cross_entropy(self.scale * with_margin(cosines, labels, self.margin), labels)


def with_margin(cosines: Tensor, labels: Tensor, margin: float = MARGIN) -> Tensor:
    """Cosines [B, K] with `margin` added to the angle of each true class [B].

    An angle that the margin would push to pi or beyond is left as it is: its cosine would
    grow again.
    """
    # The angle's slope is infinite at a cosine of 1 and -1.
    true = cosines.gather(1, labels[:, None])
    angle = true.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    moved = torch.where(angle + margin < math.pi, (angle + margin).cos(), true)
    return cosines.scatter(1, labels[:, None], moved)


class AttentionClassifier(nn.Module):
    """L_a: the classes told by the places that attention picks."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(channels, classes)

    def forward(self, attention: Tensor, reconstruction: Tensor, labels: Tensor) -> Tensor:
        """Attention [B, 1, h, w], S' [B, C, h, w] and classes [B] -> the mean cross-entropy.

        S' is scaled to unit length at each place and the weighted places are averaged, as in
        the authors' code; the paper's plain sum grows with the size of the image.
        """
        pooled = (attention * F.normalize(reconstruction, dim=1)).mean(dim=(2, 3))
        return F.cross_entropy(self.classify(pooled), labels)


def reconstruction_loss(reconstruction: Tensor, shallow: Tensor) -> Tensor:
    """L_r: the mean of (S' - S)^2 over places and channels; S has to come detached."""
    return (reconstruction - shallow).square().mean()


def contrast_loss(one: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """Each of N things is told from the rest of the batch by two of its views, both ways.

    one, other: [N, G], unit length, row i of both shows thing i. scale: of the cosines.
    """
    logits = scale * one @ other.T
    labels = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
