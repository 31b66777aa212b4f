"""Calibration as a registered metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from frlr_mm._checks import check_int
from frlr_mm.evaluation._single_label import read_label, read_score
from frlr_mm.evaluation.calibration import (
    binary_cross_entropy,
    brier_score,
    classwise_error,
    equal_mass_bins,
    equal_width_bins,
    negative_log_likelihood,
)


@METRICS.register_module()
class CalibrationMetric(BaseMetric):
    """Calibration of single-label scores, whether of a softmax or of sigmoids.

    The results are ``ece`` and ``ece_equal_mass``, the distance of the largest score of an image
    from the accuracy, in bins of equal width and of equally many images, and ``ece_classwise``,
    the same for all scores of each class, all in percent; the ``brier`` score; ``nll``, the
    negative log-likelihood of the right class, for which scores are made to add up to 1; and
    ``bce``, that of one yes-or-no answer for each class. The less, the better. Images of unknown
    classes, whose label is below 0, are left out. See :mod:`frlr_mm.evaluation.calibration`.

    Args:
        num_bins (int): The number of bins, >= 1. Defaults to 15.
        figure (str, optional): A file for the reliability diagram, which is written as PNG and as
            SVG. Defaults to None.
        collect_device (str): Where the results of all processes are gathered, 'cpu' or 'gpu'.
            Defaults to 'cpu'.
        prefix (str, optional): Goes before the names of the results; None stands for
            'calibration'. Defaults to None.

    Raises:
        ValueError: If ``num_bins`` is no int >= 1 or ``figure`` ends in neither .png nor .svg; in
            evaluation, if a sample lacks scores or its one label, scores are out of [0, 1], or no
            image is of a known class.
    """

    default_prefix = 'calibration'

    def __init__(
        self,
        num_bins: int = 15,
        figure: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        check_int('num_bins', num_bins, 1)
        if figure is not None and Path(figure).suffix not in ('.png', '.svg'):
            raise ValueError(f'Expected `figure` to end in .png or .svg, but got {figure}')
        self.num_bins = num_bins
        self.figure = figure
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores and the label of each image of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): What the model returned, with ``pred_score`` and
                ``gt_label``.
        """
        for sample in data_samples:
            score = read_score(sample, 'CalibrationMetric')
            if score.min() < 0 or score.max() > 1:
                raise ValueError(
                    f'Expected `pred_score` to be in [0, 1], but got {score.min():g} to '
                    f'{score.max():g}'
                )
            self.results.append((score, read_label(sample, len(score), 'CalibrationMetric')))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images.

        Args:
            results (list): The pairs of scores and label, of all processes.

        Returns:
            dict[str, float]: The results by name.
        """
        known = [(score, label) for score, label in results if label >= 0]
        if not known:
            raise ValueError(
                f'Expected images of known classes, but the labels of all {len(results)} are '
                'below 0'
            )
        score, label = np.stack([pair[0] for pair in known]), np.array([pair[1] for pair in known])
        best, is_correct = score.max(1), score.argmax(1) == label
        bins = equal_width_bins(best, is_correct, self.num_bins)
        if self.figure is not None and is_main_process():
            # Only here, since figures take matplotlib.
            from frlr_mm.reporting.reliability import save_reliability_diagram

            save_reliability_diagram({'': bins}, Path(self.figure))
        return {
            'ece': 100 * bins.error(),
            'ece_equal_mass': 100 * equal_mass_bins(best, is_correct, self.num_bins).error(),
            'ece_classwise': 100 * classwise_error(score, label, self.num_bins),
            'brier': brier_score(score, label),
            'nll': negative_log_likelihood(score, label),
            'bce': binary_cross_entropy(score, label),
        }
