"""XFeat's training losses (section 3.3 of the paper) and the imitation of a teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from covis.nets.xfeat import STRIDE, XFeatOutput

SIMILARITY_SCALE = 0.2
"""Factor on the similarities of un-normalised descriptors before the softmax."""


def descriptor_loss(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Dual softmax over corresponding descriptors.

    x, y: [N, 64], row i of one belongs to row i of the other.
    Returns the loss and each row's confidence [N], without gradient: the product of the
    largest probability over its row and over its column.
    """
    similarity = SIMILARITY_SCALE * x @ y.T
    rows = F.log_softmax(similarity, dim=1)
    columns = F.log_softmax(similarity, dim=0)
    loss = -(rows.diagonal().mean() + columns.diagonal().mean())
    with torch.no_grad():
        confidence = (rows.max(dim=1).values + columns.max(dim=0).values).exp()
    return loss, confidence


def reliability_loss(r0: Tensor, r1: Tensor, confidence: Tensor) -> Tensor:
    """L1 between the reliability of corresponding cells, [N] each, and their confidence."""
    return F.l1_loss(r0, confidence) + F.l1_loss(r1, confidence)


def offset_loss(logits: Tensor, offsets: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Classification of the sub-cell offset into 8 x 8 bins.

    logits: [N, 64], rows (y) of columns (x), bins -4..3.
    offsets: [N, 2], (x, y) in pixels of the cell's scale, in -4..4.
    Returns the loss and the share of offsets classified within one bin.
    """
    bins = (offsets.round() + STRIDE // 2).clamp(0, STRIDE - 1).long()
    labels = bins[:, 1] * STRIDE + bins[:, 0]
    loss = (F.cross_entropy(logits, labels, reduction="none") * confidence).sum()
    with torch.no_grad():
        found = logits.argmax(dim=1)
        found = torch.stack([found % STRIDE, found // STRIDE], dim=1)
        close = ((found - bins).abs().amax(dim=1) <= 1).float().mean()
    return loss / confidence.sum().clamp(min=1e-6), close


def keypoint_loss(logits: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Classification of each cell against a teacher's keypoints.

    logits: [B, 65, h, w]. labels: [B, h, w], the keypoint's pixel in its cell, or 64.
    Of the cells without a keypoint only 1 in 32 for each one with a keypoint counts.
    """
    flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    labels = labels.reshape(-1)
    positive = (labels < STRIDE**2).nonzero()[:, 0]
    empty = (labels == STRIDE**2).nonzero()[:, 0]
    keep = max(len(positive) // 32, 1)
    order = torch.randperm(len(empty), generator=generator).to(empty.device)
    chosen = torch.cat([positive, empty[order[:keep]]])
    return F.cross_entropy(flat[chosen], labels[chosen])


def imitation_loss(
    student: XFeatOutput,
    teacher: XFeatOutput,
    student_pyramid: tuple[Tensor, ...],
    teacher_pyramid: tuple[Tensor, ...],
) -> dict[str, Tensor]:
    """How far a student's maps are from its teacher's, by part; each [B, C, h, w]."""
    cosine = F.cosine_similarity(student.features, teacher.features, dim=1)
    norms = [o.features.norm(dim=1).clamp(min=1e-3).log() for o in (student, teacher)]
    target = teacher.keypoint_logits.log_softmax(dim=1)
    divergence = F.kl_div(
        student.keypoint_logits.log_softmax(dim=1), target, reduction="none", log_target=True
    ).sum(dim=1)
    # Few cells hold a keypoint; without a weight the empty ones decide.
    weight = 1 + 4 * (1 - target[:, -1].exp())
    hints = [
        (s - t).square().mean() / t.square().mean().clamp(min=1e-3)
        for s, t in zip(student_pyramid, teacher_pyramid, strict=True)
    ]
    return {
        "cosine": (1 - cosine).mean(),
        "norm": F.l1_loss(*norms),
        "keypoints": (divergence * weight).mean(),
        "reliability": F.l1_loss(student.reliability, teacher.reliability),
        "hints": torch.stack(hints).mean(),
    }
