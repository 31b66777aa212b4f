"""Person re-identification (re-ID) as a registered metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from frlr_mm.evaluation._topk import check_topk
from frlr_mm.evaluation.retrieval import Embeddings, evaluate_reid

_FIELDS = ('feature', 'gt_label', 'camera_id', 'is_query')


@METRICS.register_module()
class ReIDMetric(BaseMetric):
    """mAP, CMC and mINP of person re-identification (re-ID).

    It takes queries and gallery from one pass over a data set, whose samples say which they are:
    split 'test' of a re-ID data set, packed by ``PackInputs`` with ``meta_keys=('camera_id',
    'is_query')``, and a model whose samples hold ``feature``, as those of
    :class:`~frlr_mm.models.BNNeckHead` do. See
    :func:`frlr_mm.evaluation.retrieval.evaluate_reid` for what it computes and under which names.

    Args:
        topk (int | Sequence[int]): The ranks k of CMC, >= 1. Defaults to (1, 5, 10, 20).
        collect_device (str): Where the results of all processes are gathered, 'cpu' or 'gpu'.
            Defaults to 'cpu'.
        prefix (str, optional): Goes before the names of the results; None stands for 'reid'.
            Defaults to None.

    Raises:
        TypeError: If a k is not an int.
        ValueError: If there is no k, or one is below 1; in evaluation, if a sample lacks a field,
            there are no queries or no gallery, a feature is not finite, or no query has a match.
    """

    default_prefix = 'reid'

    def __init__(
        self,
        topk: int | Sequence[int] = (1, 5, 10, 20),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = check_topk(topk)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what is needed of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): What the model returned, as dicts.
        """
        for sample in data_samples:
            missing = [field for field in _FIELDS if field not in sample]
            if missing:
                raise ValueError(
                    f'ReIDMetric expected samples with {_FIELDS}, but {missing} are missing: '
                    "`feature` comes from BNNeckHead, the rest from split 'test' of a re-ID data "
                    "set through PackInputs with meta_keys=('camera_id', 'is_query')"
                )
            # One entry per image: by their number the padding of ranks is recognised. An
            # array, as a pickled tensor would take the storage of its whole batch along.
            self.results.append(
                (
                    sample['feature'].float().cpu().numpy(),
                    int(sample['gt_label']),
                    sample['camera_id'],
                    sample['is_query'],
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of the whole set.

        Args:
            results (list): What :meth:`process` kept, of all ranks.

        Returns:
            dict[str, float]: See :func:`frlr_mm.evaluation.retrieval.evaluate_reid`.
        """
        return evaluate_reid(*split_results(results), self.topk)


def split_results(results: list[tuple]) -> tuple[Embeddings, Embeddings]:
    """Split what :class:`ReIDMetric` keeps into queries and gallery, each in its order.

    Args:
        results (list[tuple]): Per image, feature (D,), person id, camera id and whether it is a
            query.

    Returns:
        tuple[Embeddings, Embeddings]: Queries and gallery.

    Raises:
        ValueError: If one of them is empty.
    """
    parts = []
    for name, is_query in (('queries', True), ('gallery', False)):
        part = [result[:3] for result in results if result[3] == is_query]
        if not part:
            raise ValueError(f'ReIDMetric expected queries and a gallery, but got no {name}')
        features, person_ids, camera_ids = zip(*part, strict=True)
        parts.append(
            Embeddings(
                torch.from_numpy(np.stack(features)),
                torch.tensor(person_ids),
                torch.tensor(camera_ids),
            )
        )
    return parts[0], parts[1]
