"""Images of known and of unknown classes as a registered metric."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS

from frlr_mm._checks import check_choice
from frlr_mm.evaluation._single_label import read_label, read_score
from frlr_mm.evaluation.open_set import aupr, aurc, auroc, fpr_at_tpr, oscr

# The field of a sample that each score is, the largest value of `pred_score` for the first.
SCORES = {'probability': 'pred_score', 'logit': 'largest_logit', 'energy': 'energy'}


@METRICS.register_module()
class OpenSetMetric(BaseMetric):
    """How well scores tell known images from those of classes that were never trained.

    The test set holds both; a label below 0 marks an unknown class, as
    :class:`~frlr_mm.datasets.ClassSubset` sets it. It takes any classifier of single labels. For
    each score, with its name behind an underscore, the results in percent are

    - ``auroc``, how often a known image has a higher score than an unknown one;
    - ``fpr95_in``, the share of unknown images that is accepted where 95 % of the known ones are,
      and ``fpr95_out``, the share of known images that is rejected where 95 % of the unknown ones
      are;
    - ``aupr_in`` and ``aupr_out``, the average precision of known and of unknown images;
    - ``oscr``, the area under the curve of known images that are accepted and rightly classified,
      against unknown ones that are accepted;
    - ``aurc``, the mean share of errors over all shares of known images that are accepted.

    ``accuracy`` is that of the known images. Without unknown images there are ``accuracy`` and
    ``aurc`` alone. See :mod:`frlr_mm.evaluation.open_set`.

    Args:
        scores (Sequence[str]): 'probability', the largest of ``pred_score``; 'logit', the largest
            logit; 'energy', the logarithm of the sum of their exponentials. The latter two need
            :class:`~frlr_mm.engine.hooks.LogitScoresHook`. Defaults to ('probability',).
        collect_device (str): Where the results of all processes are gathered, 'cpu' or 'gpu'.
            Defaults to 'cpu'.
        prefix (str, optional): Goes before the names of the results; None stands for 'open_set'.
            Defaults to None.

    Raises:
        ValueError: If ``scores`` are others or none; in evaluation, if a sample lacks a score or
            its one label, or no image is of a known class.
    """

    default_prefix = 'open_set'

    def __init__(
        self,
        scores: Sequence[str] = ('probability',),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        self.scores = (scores,) if isinstance(scores, str) else tuple(scores)
        for name in self.scores or ('',):
            check_choice('scores', name, SCORES)
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores of a batch and whether its images are known and rightly classified.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): What the model returned, with ``pred_score``,
                ``gt_label`` and, for the logits' scores, ``largest_logit`` and ``energy``.
        """
        for sample in data_samples:
            probability = read_score(sample, 'OpenSetMetric')
            label = read_label(sample, len(probability), 'OpenSetMetric')
            values = [self._read(sample, name, probability) for name in self.scores]
            self.results.append((label >= 0, probability.argmax() == label, values))

    def _read(self, sample: dict, name: str, probability: np.ndarray) -> float:
        if name == 'probability':
            return float(probability.max())
        if SCORES[name] not in sample:
            raise ValueError(
                f'OpenSetMetric expected samples with `{SCORES[name]}` for the score {name!r}: '
                "add dict(type='LogitScoresHook') to `custom_hooks`"
            )
        return float(sample[SCORES[name]])

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images.

        Args:
            results (list): Whether each image is known, whether rightly classified, its scores.

        Returns:
            dict[str, float]: Percent by name.
        """
        is_known, is_correct, values = (np.array(part) for part in zip(*results, strict=True))
        if not is_known.any():
            raise ValueError(
                f'Expected images of known classes, but the labels of all {len(results)} are '
                'below 0'
            )
        has_unknown = not is_known.all()
        if not has_unknown:
            print_log(
                'OpenSetMetric: no label is below 0, so that nothing is known of unknown classes',
                'current',
                level=logging.WARNING,
            )
        is_correct = is_correct[is_known]
        metrics = {}
        for name, score in zip(self.scores, values.T, strict=True):
            known, unknown = score[is_known], score[~is_known]
            if has_unknown:
                metrics[f'auroc_{name}'] = auroc(known, unknown)
                metrics[f'fpr95_in_{name}'] = fpr_at_tpr(known, unknown)
                metrics[f'fpr95_out_{name}'] = fpr_at_tpr(-unknown, -known)
                metrics[f'aupr_in_{name}'] = aupr(known, unknown)
                metrics[f'aupr_out_{name}'] = aupr(-unknown, -known)
                metrics[f'oscr_{name}'] = oscr(known, is_correct, unknown)
            metrics[f'aurc_{name}'] = aurc(known, is_correct)
        metrics['accuracy'] = float(is_correct.mean())
        return {name: 100 * value for name, value in metrics.items()}
