"""What EdgePoint2 learns from a teacher and from correspondences.

Descriptors here are unit vectors, a row each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.05
"""Similarities are divided by this before a softmax."""
FLOOR = -9.0
"""Logits under this are no keypoints, however far under."""
KEYPOINT = -5.0
"""Logits from this on may be keypoints: the published threshold."""


def likeness_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One less the cosine between corresponding rows of [N, D]."""
    return (1 - (student * teacher).sum(dim=1)).mean()


def relation_loss(student: Tensor, teacher: Tensor, everywhere: Tensor) -> Tensor:
    """How far a student's similarities to the teacher's descriptors are from the teacher's own.

    student, teacher: [N, D], of the same points. everywhere: [M, D], the teacher's, of all points.
    Kullback-Leibler divergence of the softmax over each row; what looks alike to the teacher, so
    that it is no certain negative, is alike in the target, too.
    """
    target = (teacher @ everywhere.T / TEMPERATURE).log_softmax(dim=1)
    found = (student @ everywhere.T / TEMPERATURE).log_softmax(dim=1)
    return F.kl_div(found, target, reduction="batchmean", log_target=True)


def correspondence_loss(x: Tensor, y: Tensor, near: Tensor) -> Tensor:
    """Negative log-likelihood of the dual softmax.

    x, y: [N, D], row i of one belongs to row i of the other. near: [N, N] bool, pairs too close to
    each other to be told apart; they are no negatives.
    """
    similarity = x @ y.T / TEMPERATURE
    similarity = similarity.masked_fill(near, -torch.inf)
    rows = similarity.log_softmax(dim=1).diagonal()
    columns = similarity.log_softmax(dim=0).diagonal()
    return -(rows.mean() + columns.mean()) / 2


def score_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between logits of the same shape, five times as much where keypoints may be."""
    target = teacher.clamp(min=FLOOR)
    found = torch.where(target > FLOOR, student, student.clamp(min=FLOOR))
    weight = 1 + 4 * (target > KEYPOINT)
    loss = F.smooth_l1_loss(found, target, reduction="none")
    return (loss * weight).sum() / weight.sum()
