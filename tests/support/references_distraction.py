"""Oracle of the distraction monitor: loops in float64, nothing of frlr_mm."""

import math

import torch
from torch import Tensor

from tests.support.references import count_selected, softplus, target_rows


def _terms(kind: str, x: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    """Return the losses of one logit with the targets 1 and 0."""
    p = torch.sigmoid(x)
    if kind == 'focal':
        alpha, gamma = options.get('alpha', 0.25), options.get('gamma', 2.0)
        return (
            alpha * (1 - p) ** gamma * softplus(-x),
            (1 - alpha) * p**gamma * softplus(x),
        )
    if kind == 'asymmetric':
        gamma_pos, gamma_neg = options.get('gamma_pos', 0.0), options.get('gamma_neg', 4.0)
        shifted = 1 - p + options.get('clip', 0.05)
        if shifted >= 1:
            shifted = 0 * p + 1
        return (
            -torch.log(p) * (1 - p) ** gamma_pos,
            -torch.log(shifted) * (1 - shifted) ** gamma_neg,
        )
    return softplus(-x), softplus(x)


def distraction_naive(
    kind: str, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, **options
) -> dict[str, float]:
    """Compute what the monitor shows, for 'hs_lr', 'ss_lr', 'bce', 'focal' or 'asymmetric'."""
    num_images, num_classes = cls_score.shape
    rows = target_rows(cls_score, label)
    num_positives = sum(t for row in rows for t in row if t is not None)
    num_negatives = sum(1 - t for row in rows for t in row if t is not None)
    pos_weight = options.get('pos_weight', [1.0] * num_classes)
    loss_weight = options.get('loss_weight', 1.0)
    ours = kind in ('hs_lr', 'ss_lr')

    positives, negatives, positive_size, sizes, thresholds = 0.0, 0.0, 0.0, [], []
    for i, targets in enumerate(rows):
        image = loss_weight * (1.0 if weight is None else weight[i].item())
        terms = []  # of each known negative: loss, slope, p
        for j, t in enumerate(targets):
            if t is None:
                continue
            x = cls_score[i, j].detach().clone().requires_grad_()
            positive, negative = _terms(kind, x, options)
            positive = image * pos_weight[j] * t * positive
            if ours:
                positive = positive * num_images / num_positives
            if kind == 'ss_lr':
                negative = negative * torch.exp(-options['gamma'] * softplus(-x))
                if options['alpha'] != 'sum':
                    negative = negative * options['alpha'] * num_images / num_negatives
            negative = image * (1 - t) * negative
            (slope,) = torch.autograd.grad(positive, x, retain_graph=True)
            positives += positive.item()
            positive_size += abs(slope.item())
            (slope,) = torch.autograd.grad(negative, x)
            terms.append((negative.item(), abs(slope.item()), torch.sigmoid(x).item()))
        if kind == 'hs_lr':
            k = count_selected(len(terms), options['ratio'])
            scale = 1.0 if options['alpha'] == 'sum' else options['alpha'] / k
            terms = sorted(terms, reverse=True)[:k]
            terms = [(scale * loss, scale * slope, p) for loss, slope, p in terms]
            selected = [p for _, slope, p in terms if slope]
            if selected:
                thresholds.append(min(selected))
        negatives += math.fsum(loss for loss, _, _ in terms)
        sizes.append([slope for _, slope, _ in terms])

    total = math.fsum(size for row in sizes for size in row)
    effective = [math.fsum(row) ** 2 / math.fsum(s * s for s in row) for row in sizes if any(row)]
    values = dict(
        positive_term=positives / num_images,
        negative_term=negatives / num_images,
    )
    if positive_size + total:
        values['negative_share'] = total / (positive_size + total)
    if effective:
        values['effective_negatives'] = math.fsum(effective) / len(effective)
    if thresholds:
        values['selection_threshold'] = math.fsum(thresholds) / len(thresholds)
    return values
