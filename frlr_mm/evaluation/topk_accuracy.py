"""The accuracy of predictions that are a few classes, not the scores of all."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy

from ._topk import check_topk


@METRICS.register_module()
class TopKAccuracy(Accuracy):
    """Top-k accuracy, also where a prediction is a list of classes in place of all scores.

    It reads ``pred_topk_label`` (K,), which
    :class:`~frlr_mm.models.ShardedLinearClsHead` sets on several processes, and is mmpretrain's
    ``Accuracy`` where a prediction has none. The names of its values are the same.

    Args:
        topk (int | Sequence[int]): The k, each at least 1. Defaults to 1.
        **kwargs: As for ``Accuracy``, without ``thrs``: there are no scores to compare with it.

    Raises:
        TypeError: If a k is not an int, or ``thrs`` is given.
        ValueError: If there is no k, or one is below 1; in evaluation, if one is larger than the
            number of classes that are predicted, ``max(topk)`` of the head.
    """

    def __init__(self, topk: int | Sequence[int] = 1, **kwargs: Any) -> None:
        if 'thrs' in kwargs:
            raise TypeError(f'Expected no `thrs`, but got {kwargs["thrs"]}')
        super().__init__(topk=check_topk(topk), **kwargs)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Note the predictions and the labels of a batch.

        Args:
            data_batch (Any): Not looked at.
            data_samples (Sequence[dict]): What the model returned.

        Raises:
            ValueError: If a k is larger than the number of classes that are predicted.
        """
        for sample in data_samples:
            if 'pred_topk_label' not in sample:
                super().process(data_batch, [sample])
                continue
            # A copy: of a part of the batch's, processes would exchange the whole.
            labels = sample['pred_topk_label'].cpu().clone()
            # Here, not in `compute_metrics`, which only the first process calls.
            if max(self.topk) > len(labels):
                raise ValueError(
                    f'Expected `topk` of TopKAccuracy to be at most {len(labels)}, the number of '
                    f'predicted classes, but got {max(self.topk)}: set `topk` of the head'
                )
            self.results.append(dict(pred_topk_label=labels, gt_label=sample['gt_label'].cpu()))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the accuracies.

        Args:
            results (list[dict]): What :meth:`process` noted, of all processes.

        Returns:
            dict[str, float]: 'top1' and so on, in percent.
        """
        if 'pred_topk_label' not in results[0]:
            return super().compute_metrics(results)
        labels = torch.stack([result['pred_topk_label'] for result in results])
        is_right = labels == torch.cat([result['gt_label'] for result in results])[:, None]
        return {f'top{k}': 100 * is_right[:, :k].any(1).float().mean().item() for k in self.topk}
