"""Attribute prediction as a registered metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmpretrain.structures.utils import format_label
from torch import Tensor

from frlr_mm._checks import check_number
from frlr_mm.evaluation._topk import check_topk
from frlr_mm.evaluation.multi_label import average_precision, class_and_overall_f1, pooled_recall


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
        TypeError: If ``topk`` or ``thr`` is not a number.
        ValueError: If a number is out of its range; in evaluation, if scores or truth are missing,
            the scores are NaN, or the truth or ``attribute_types`` do not fit.
    """

    default_prefix = 'attribute'

    def __init__(
        self,
        topk: int | Sequence[int] = (3, 5),
        thr: float = 0.5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        check_number('thr', thr, high=1.0)
        self.topk = check_topk(topk)
        self.thr = thr
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores and the truth of a batch, image by image.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): What the model returns, with ``pred_score`` (C,), and
                ``gt_score`` (C,) or ``gt_label``, the indices of the positive attributes. Beside
                ``gt_label``, those of ``gt_label_difficult``, as of mmpretrain's ``VOC``, are
                unknown unless they are positive.
        """
        for sample in data_samples:
            if 'pred_score' not in sample:
                raise ValueError(
                    'AttributeMetric expected samples with `pred_score`, as a classifier of '
                    f'several labels returns them, but got {sorted(sample)}'
                )
            score = sample['pred_score'].detach().float().cpu()
            # Arrays, as a pickled tensor would take the storage of its whole batch along.
            self.results.append((score.numpy(), _read_truth(sample, len(score)).numpy()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images.

        Args:
            results (list): The pairs of scores and truth, of all processes.

        Returns:
            dict[str, float]: Percent by name, and the number of attributes without positives.
        """
        score, target = (torch.from_numpy(np.stack(part)) for part in zip(*results, strict=True))
        if score.isnan().any():
            raise ValueError(
                'Expected `pred_score` to hold numbers, but got NaN: has training diverged?'
            )
        if not ((target == 0) | (target == 1) | (target < 0)).all():
            raise ValueError(
                'Expected `gt_score` to hold 0, 1, or values below 0 where unknown: round soft '
                'labels before evaluation'
            )

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


def _read_truth(sample: dict, num_attributes: int) -> Tensor:
    """Return the truth of an image, float32 (C,): 1, 0, or below 0 where unknown."""
    if 'gt_score' in sample:  # heads prefer it, too
        truth = sample['gt_score'].detach().float().cpu()
        if truth.shape != (num_attributes,):
            raise ValueError(
                f'Expected `gt_score` to have shape ({num_attributes},), as `pred_score`, '
                f'but got {tuple(truth.shape)}'
            )
        return truth
    if 'gt_label' not in sample:
        raise ValueError(
            f'AttributeMetric expected samples with `gt_score` or `gt_label`, but got '
            f'{sorted(sample)}'
        )
    truth = torch.zeros(num_attributes)
    # The later one counts.
    for name, value in (('gt_label_difficult', -1), ('gt_label', 1)):
        labels = format_label(sample.get(name, [])).cpu()
        if ((labels < 0) | (labels >= num_attributes)).any():
            raise ValueError(
                f'Expected `{name}` to hold indices in [0, {num_attributes}), '
                f'but got {labels.tolist()}'
            )
        truth[labels] = value
    return truth
