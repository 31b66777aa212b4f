"""Naive loops for the measures of scores, from their definitions."""

import itertools
import math


def pairs_won(known, unknown):
    """Return, for each known image, over how many unknown ones it wins; a tie is half."""
    return [sum((k > u) + 0.5 * (k == u) for u in unknown) for k in known]


def auroc(known, unknown):
    return sum(pairs_won(known, unknown)) / len(known) / len(unknown)


def oscr(known, is_correct, unknown):
    """The area under the curve of its points, by trapezoids."""
    thresholds = [math.inf, *sorted({*known, *unknown}, reverse=True)]
    points = [
        (
            sum(u >= t for u in unknown) / len(unknown),
            sum(k >= t and c for k, c in zip(known, is_correct)) / len(known),
        )
        for t in thresholds
    ]
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))


def fpr_at_tpr(positive, negative, tpr):
    """The least share of negatives over all thresholds that accept enough positives."""
    return min(
        sum(n >= t for n in negative) / len(negative)
        for t in {*positive, *negative}
        if sum(p >= t for p in positive) >= tpr * len(positive) - 1e-9
    )


def aurc(score, is_correct):
    """The mean over all orders that the scores allow."""
    ties = [
        list(group)
        for _, group in itertools.groupby(
            sorted(range(len(score)), key=lambda i: -score[i]), key=lambda i: score[i]
        )
    ]
    areas = []
    for parts in itertools.product(*(itertools.permutations(group) for group in ties)):
        wrong, risks = 0, []
        for n, i in enumerate(itertools.chain(*parts), 1):
            wrong += not is_correct[i]
            risks.append(wrong / n)
        areas.append(sum(risks) / len(risks))
    return sum(areas) / len(areas)


def ece(score, is_true, num_bins):
    """Bins (low, high] of equal width, the first with 0."""
    total = 0.0
    for b in range(num_bins):
        inside = [
            i
            for i, s in enumerate(score)
            if b / num_bins < s <= (b + 1) / num_bins or (b == 0 and s == 0)
        ]
        if inside:
            confidence = sum(score[i] for i in inside) / len(inside)
            accuracy = sum(bool(is_true[i]) for i in inside) / len(inside)
            total += len(inside) / len(score) * abs(confidence - accuracy)
    return total


def ece_equal_mass(score, is_true, num_bins):
    """Distinct scores, cut into parts of about as many."""
    order = sorted(range(len(score)), key=lambda i: score[i])
    total = 0.0
    for b in range(num_bins):
        inside = [i for rank, i in enumerate(order) if rank * num_bins // len(order) == b]
        if inside:
            gap = sum(score[i] - bool(is_true[i]) for i in inside)
            total += abs(gap) / len(score)
    return total


def brier(rows, labels):
    return sum(
        sum((p - (j == label)) ** 2 for j, p in enumerate(row)) for row, label in zip(rows, labels)
    ) / len(rows)


def nll(rows, labels):
    return -sum(math.log(row[y] / sum(row)) for row, y in zip(rows, labels)) / len(rows)


def bce(rows, labels):
    return -sum(
        sum(math.log(p if j == y else 1 - p) for j, p in enumerate(row))
        for row, y in zip(rows, labels)
    ) / len(rows)
