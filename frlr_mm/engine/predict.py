"""The logits of a data set."""

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.utils import track_iter_progress
from mmpretrain.models import MultiLabelClsHead
from mmpretrain.structures import label_to_onehot
from torch import Tensor

from ..models.classifiers.logistic_classifier import sum_of_branches


@torch.no_grad()
def predict_logits(model: Any, loader: Iterable) -> tuple[Tensor, Tensor]:
    """Return the logits of all images and their labels, and show the progress.

    Args:
        model (nn.Module): A classifier of one or several labels, in evaluation mode.
        loader (Iterable): A data loader whose batches hold labels.

    Returns:
        tuple[Tensor, Tensor]: Logits, float32 (N, C), and labels: int64 (N,), below 0 for an
        unknown class, or for several labels float32 (N, C), below 0 where unknown. Both are on the
        CPU.

    Raises:
        ValueError: If an image has not one label, with a head of one label.
    """
    is_multi_label = isinstance(model.head, MultiLabelClsHead)
    logits, labels = [], []
    for batch in track_iter_progress((loader, len(loader))):  # type: ignore[arg-type]
        data = model.data_preprocessor(batch)
        logits.append(sum_of_branches(model(data['inputs'], mode='tensor')).float().cpu())
        for sample in data['data_samples']:
            if is_multi_label:
                if 'gt_score' in sample:
                    label = sample.gt_score.float()
                else:
                    label = label_to_onehot(sample.gt_label, logits[-1].shape[1]).float()
            else:
                label = sample.get('gt_label', torch.empty(0))
                if label.numel() != 1:
                    raise ValueError(
                        f'Expected one label per image, but got {label.numel()} for an image'
                    )
                label = label.flatten()[0]
            labels.append(label.cpu())
    print()
    return torch.cat(logits), torch.stack(labels)
