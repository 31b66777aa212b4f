"""Pooled recall@k, average precision, CF1 and OF1 of images with several labels each."""

import torch
from torch import Tensor

# What is ranked at a time: the ranks of 40,000 images x 1,000 attributes take 320 MB.
_ROWS = 4096


def pooled_recall(score: Tensor, target: Tensor, k: int) -> float:
    """Compute the share of all positives that are among the k best of their image.

    Unknown attributes take part neither in the ranking nor in the truth. Of tied attributes the
    first goes first.

    Args:
        score (Tensor): Scores (N, C), of any floating-point dtype.
        target (Tensor): Truth (N, C): 1, 0, or below 0 where unknown.
        k (int): How many attributes count as found per image, >= 1. With more than C all do.

    Returns:
        float: In [0, 1]; 0 where nothing is positive.
    """
    found = torch.zeros((), dtype=torch.int64, device=score.device)
    for scores, truth in zip(score.split(_ROWS), target.split(_ROWS), strict=True):
        known_score = scores.masked_fill(truth < 0, -torch.inf)
        best = known_score.argsort(dim=1, descending=True, stable=True)[:, :k]
        found += (truth.gather(1, best) == 1).sum()
    return _ratio(found, (target == 1).sum()).item()


def average_precision(score: Tensor, target: Tensor) -> Tensor:
    r"""Compute the average precision of each attribute over the images where it is known.

    :math:`\sum_n (R_n - R_{n-1}) P_n` over the distinct scores, so that the order of tied images
    does not matter: scikit-learn's definition, and mmpretrain's where no two scores are equal.

    Args:
        score (Tensor): Scores (N, C), of any floating-point dtype.
        target (Tensor): Truth (N, C): 1, 0, or below 0 where unknown.

    Returns:
        Tensor: float64 (C,), in [0, 1]; 0 where an attribute has no positive.
    """
    return torch.stack(
        [
            _average_precision(column[known >= 0], known[known >= 0] == 1)
            for column, known in zip(score.unbind(1), target.unbind(1), strict=True)
        ]
    )


def _average_precision(score: Tensor, is_positive: Tensor) -> Tensor:
    score, order = score.sort(descending=True)
    hits = is_positive[order].cumsum(0).double()
    rank = torch.arange(1, len(score) + 1, device=score.device)
    # One point of the curve for each distinct score: the last of those that share it.
    is_last = torch.ones_like(is_positive)
    is_last[:-1] = score[1:] != score[:-1]
    hits, rank = hits[is_last], rank[is_last]
    gain = hits.diff(prepend=hits.new_zeros(1))
    return _ratio((gain * hits / rank).sum(), is_positive.sum())


def class_and_overall_f1(score: Tensor, target: Tensor, thr: float) -> dict[str, float]:
    """Compute the class-wise and the overall precision, recall and F1 score at a threshold.

    CP and CR are the means of precision and recall over the attributes (0 where nothing is
    predicted or positive), CF1 is the harmonic mean of CP and CR. OP, OR and OF1 pool all
    attributes. mmpretrain's macro F1 is another number: the mean of the attributes' F1 scores.

    Args:
        score (Tensor): Scores (N, C), of any floating-point dtype.
        target (Tensor): Truth (N, C): 1, 0, or below 0 where unknown.
        thr (float): An attribute whose score is at least this is predicted.

    Returns:
        dict[str, float]: CP, CR, CF1, OP, OR, OF1, each in [0, 1].
    """
    is_predicted, is_positive = (score >= thr) & (target >= 0), target == 1
    found = (is_predicted & is_positive).sum(0)
    predicted, positive = is_predicted.sum(0), is_positive.sum(0)
    precision, recall = _ratio(found, predicted).mean(), _ratio(found, positive).mean()
    overall_precision = _ratio(found.sum(), predicted.sum())
    overall_recall = _ratio(found.sum(), positive.sum())
    values = dict(
        CP=precision,
        CR=recall,
        CF1=_harmonic_mean(precision, recall),
        OP=overall_precision,
        OR=overall_recall,
        OF1=_harmonic_mean(overall_precision, overall_recall),
    )
    return {name: value.item() for name, value in values.items()}


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole in float64, 0 where the whole is 0: then the part is 0 as well."""
    return part.double() / whole.clamp(min=1)


def _harmonic_mean(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a + b > 0, 2 * a * b / (a + b).clamp(min=1e-12), 0)
