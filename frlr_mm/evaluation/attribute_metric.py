"""Metrics of attribute prediction: pooled recall@k, mAP, CF1 and OF1."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from frlr_mm._checks import check_number

# What is ranked at a time: the ranks of 40,000 images x 1,000 attributes take 320 MB.
_ROWS = 4096


def pooled_recall(score: Tensor, target: Tensor, k: int) -> float:
    """Compute the share of all positives that are among the k best of their image.

    Unknown attributes take part neither in the ranking nor in the truth. Of tied attributes the
    first goes first.

    Args:
        score (Tensor): Scores (N, C), of any floating-point dtype.
        target (Tensor): Truth (N, C): 1, 0, or below 0 where unknown.
        k (int): How many of an image's attributes count as found, >= 1. With more than C all do.

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


@METRICS.register_module()
class AttributeMetric(BaseMetric):
    """Pooled recall@k, mAP, CF1 and OF1 of attributes, in percent.

    Recall@k and mAP are also computed within each type of attribute, where the ranking is among
    the attributes of the type alone. The types come from ``attribute_types`` in the data set's
    meta information; without it there is one type. Unknown attributes, whose truth is below 0, are
    left out everywhere. An attribute without positives has an average precision of 0 and stays in
    the mean, as with mmpretrain's ``AveragePrecision``; ``num_no_positive`` says how many.

    The results are ``mAP``, ``recall@{k}``, ``CP``, ``CR``, ``CF1``, ``OP``, ``OR``, ``OF1``,
    ``num_no_positive`` and for each type ``mAP_{type}`` and ``recall@{k}_{type}``.

    Args:
        topk (int | Sequence[int]): The k of recall@k, each >= 1. Defaults to (3, 5).
        thr (float): The threshold of CF1 and OF1, in [0, 1]. Defaults to 0.5.
        collect_device (str): Where the results of all processes are gathered, 'cpu' or 'gpu'.
            Defaults to 'cpu'.
        prefix (str, optional): Goes before the names of the results; None stands for
            'attribute'. Defaults to None.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range; in evaluation, if the scores are NaN, or the
            truth or ``attribute_types`` do not fit.
    """

    default_prefix = 'attribute'

    def __init__(
        self,
        topk: int | Sequence[int] = (3, 5),
        thr: float = 0.5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for k in topk:
            if isinstance(k, bool) or not isinstance(k, int):
                raise TypeError(f'Expected `topk` to hold ints, but got {k!r}')
            check_number('topk', k, low=1)
        check_number('thr', thr, high=1.0)
        self.topk = topk
        self.thr = thr
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores and the truth of a batch, image by image.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): What the model returns, with ``pred_score`` and
                ``gt_score``, both (C,).
        """
        for sample in data_samples:
            self.results.append(
                (sample['pred_score'].detach().float().cpu(), sample['gt_score'].detach().cpu())
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images.

        Args:
            results (list): The pairs of scores and truth, of all processes.

        Returns:
            dict[str, float]: Percent by name, and the number of attributes without positives.
        """
        score = torch.stack([pred for pred, _ in results])
        target = torch.stack([truth for _, truth in results])
        if score.isnan().any():
            raise ValueError(
                'Expected `pred_score` to hold numbers, but got NaN: has the training diverged?'
            )
        if not ((target == 0) | (target == 1) | (target < 0)).all():
            raise ValueError('Expected `gt_score` to hold 0, 1, or values below 0 where unknown')

        precision = average_precision(score, target)
        metrics = {}
        for kind, columns in self._columns(score.shape[1]).items():
            suffix = f'_{kind}' if kind else ''
            # The first one decides where a best checkpoint is saved by `save_best='auto'`.
            metrics[f'mAP{suffix}'] = 100 * precision[columns].mean().item()
            for k in self.topk:
                recall = pooled_recall(score[:, columns], target[:, columns], k)
                metrics[f'recall@{k}{suffix}'] = 100 * recall
        f1 = class_and_overall_f1(score, target, self.thr)
        metrics.update({name: 100 * value for name, value in f1.items()})
        metrics['num_no_positive'] = int((~(target == 1).any(0)).sum())
        return metrics

    def _columns(self, num_attributes: int) -> dict[str, Tensor]:
        """Return the attributes of each type; '' stands for all."""
        columns = {'': torch.arange(num_attributes)}
        types = (self.dataset_meta or {}).get('attribute_types')
        if types is None:
            return columns
        if len(types) != num_attributes:
            raise ValueError(
                'Expected `attribute_types` of the data set to have one entry for '
                f'each of {num_attributes} scores, but got {len(types)}'
            )
        for kind in dict.fromkeys(types):
            columns[kind] = torch.tensor([i for i, name in enumerate(types) if name == kind])
        return columns
