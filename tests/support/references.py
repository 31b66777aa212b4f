"""Oracles for the losses: loops in float64 as the equations are read, nothing of frlr_mm.

``*_naive`` are what is right; autograd differentiates them. ``*_as_published`` are the formulas as
the paper's authors wrote them, in the dtype of the logits, with eps inside the logarithms.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor


def count_selected(num_classes: int, ratio: float) -> int:
    """Return max(1, floor(C * ratio)) for the decimal number that ``ratio`` is written as."""
    return max(1, math.floor(num_classes * Fraction(repr(ratio))))


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)); its gradient is exp(x - log(1 + exp(x))) = sigmoid(x)."""
    return torch.logaddexp(x, torch.zeros_like(x))


def target_rows(cls_score: Tensor, label: Tensor) -> list[list[float | None]]:
    """Return t_ij row by row, None where it is unknown."""
    num_classes = cls_score.shape[1]
    if label.ndim == 1 or (label.shape[1] == 1 and num_classes > 1):
        return [
            [float(j == index) for j in range(num_classes)] for index in label.flatten().tolist()
        ]
    return [[None if t < 0 else float(t) for t in row] for row in label.tolist()]


def _positives(row: Tensor, targets: list, class_weight: list, pos_weight: list) -> Tensor:
    total = 0 * row.sum()
    for j, t in enumerate(targets):
        if t:
            total = total + class_weight[j] * pos_weight[j] * t * softplus(-row[j])
    return total


def _factors(factor: Tensor | None, num_classes: int) -> list[float]:
    return [1.0] * num_classes if factor is None else factor.tolist()


def _reduce(
    losses: list[Tensor], cls_score: Tensor, weight: Tensor | None, reduction: str, avg_factor
) -> Tensor:
    if weight is not None:
        losses = [w * loss for w, loss in zip(weight.tolist(), losses)]
    if reduction == 'none':
        return torch.stack(losses) if losses else cls_score.sum(1)
    total = sum(losses, cls_score.new_zeros(()))
    if reduction == 'sum' or not losses:
        return total
    return total / float(len(losses) if avg_factor is None else avg_factor)


def hs_lr_loss_naive(
    cls_score: Tensor,
    label: Tensor,
    alpha='sum',
    ratio=0.1,
    weight=None,
    class_weight=None,
    pos_weight=None,
    reduction='mean',
    avg_factor=None,
):
    """Compute HS-LR of float64 logits."""
    num_images, num_classes = cls_score.shape
    rows = target_rows(cls_score, label)
    num_positives = sum(t for row in rows for t in row if t is not None)
    class_weight = _factors(class_weight, num_classes)
    pos_weight = _factors(pos_weight, num_classes)

    losses = []
    for row, targets in zip(cls_score, rows):
        loss = 0 * row.sum()
        if num_positives > 0:
            positive = _positives(row, targets, class_weight, pos_weight)
            loss = loss + num_images * positive / num_positives
        negatives = [
            class_weight[j] * (1 - t) * softplus(row[j])
            for j, t in enumerate(targets)
            if t is not None
        ]
        k = count_selected(len(negatives), ratio)
        hardest = sorted(negatives, key=Tensor.item, reverse=True)[:k]
        losses.append(loss + (k if alpha == 'sum' else alpha) * sum(hardest) / k)
    return _reduce(losses, cls_score, weight, reduction, avg_factor)


def ss_lr_loss_naive(
    cls_score: Tensor,
    label: Tensor,
    alpha='sum',
    gamma=0.25,
    weight=None,
    class_weight=None,
    pos_weight=None,
    reduction='mean',
    avg_factor=None,
):
    """Compute SS-LR of float64 logits."""
    num_images, num_classes = cls_score.shape
    rows = target_rows(cls_score, label)
    num_positives = sum(t for row in rows for t in row if t is not None)
    num_negatives = sum(1 - t for row in rows for t in row if t is not None)
    class_weight = _factors(class_weight, num_classes)
    pos_weight = _factors(pos_weight, num_classes)
    if alpha == 'sum' and num_images:
        alpha = num_negatives / num_images

    losses = []
    for row, targets in zip(cls_score, rows):
        loss = 0 * row.sum()
        if num_positives > 0:
            positive = _positives(row, targets, class_weight, pos_weight)
            loss = loss + num_images * positive / num_positives
        if num_negatives > 0:
            negative = 0 * row.sum()
            for j, t in enumerate(targets):
                if t is not None:
                    focus = torch.exp(-gamma * softplus(-row[j]))  # p to the power of gamma
                    negative = negative + class_weight[j] * (1 - t) * focus * softplus(row[j])
            loss = loss + alpha * num_images * negative / num_negatives
        losses.append(loss)
    return _reduce(losses, cls_score, weight, reduction, avg_factor)


def _one_hot(cls_score: Tensor, label: Tensor) -> Tensor:
    if label.ndim == 2:
        return label.to(cls_score.dtype)
    return torch.zeros_like(cls_score).scatter_(1, label[:, None], 1)


def hs_lr_loss_as_published(
    cls_score: Tensor, label: Tensor, alpha: float, ratio: float, eps: float = 1e-7
) -> Tensor:
    """Compute HS-LR as the authors did."""
    target = _one_hot(cls_score, label)
    p = torch.sigmoid(cls_score)
    positive = -(target * torch.log(p + eps)).sum() / target.sum()
    negative = -(1 - target) * torch.log(1 - p + eps)
    return positive + alpha * negative.topk(int(p.shape[1] * ratio), dim=1).values.mean()


def ss_lr_loss_as_published(
    cls_score: Tensor, label: Tensor, alpha: float, gamma: float, eps: float = 1e-7
) -> Tensor:
    """Compute SS-LR as the authors did."""
    target = _one_hot(cls_score, label)
    p = torch.sigmoid(cls_score)
    positive = -(target * torch.log(p + eps)).sum() / target.sum()
    negative = -(1 - target) * p**gamma * torch.log(1 - p + eps)
    return positive + alpha * negative.sum() / (1 - target).sum()
