"""What the metrics of single labels read from a sample."""

import numpy as np
import torch


def read_score(sample: dict, metric: str) -> np.ndarray:
    """Return ``pred_score`` of a sample, float32 (C,).

    Raises:
        ValueError: If there is none, or it holds NaN.
    """
    if 'pred_score' not in sample:
        raise ValueError(
            f'{metric} expected samples with `pred_score`, as a classifier returns them, but got '
            f'{sorted(sample)}'
        )
    score = sample['pred_score'].detach().float().cpu()
    if score.isnan().any():
        raise ValueError(
            'Expected `pred_score` to hold numbers, but got NaN: has training diverged?'
        )
    # An array, as a pickled tensor would take the storage of its whole batch along.
    return score.numpy()


def read_label(sample: dict, num_classes: int, metric: str) -> int:
    """Return the label of a sample, below 0 where its class is unknown.

    Raises:
        ValueError: If it has not one label, or one that is out of range.
    """
    label = torch.as_tensor(sample.get('gt_label', [])).flatten().tolist()
    if len(label) != 1:
        raise ValueError(
            f'{metric} expected samples with one `gt_label`, but got {label or sorted(sample)}'
        )
    if label[0] >= num_classes:
        raise ValueError(f'Expected `gt_label` to be below {num_classes}, but got {label[0]}')
    return int(label[0])
