"""How often each label occurs in a data set, and the prior that follows from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LabelCounts:
    """What the annotations of a data set of C classes add up to.

    Args:
        positive (np.ndarray): The number of positive labels of each class, float64 (C,). A soft
            label counts as what it is.
        unknown (np.ndarray): The number of unknown labels of each class, int64 (C,).
        num_images (int): The number of images.
    """

    positive: np.ndarray
    unknown: np.ndarray
    num_images: int

    @property
    def known(self) -> np.ndarray:
        """The number of known labels of each class, int64 (C,)."""
        return self.num_images - self.unknown

    @property
    def mean_share(self) -> float:
        """The share of positives among all known labels; 0 where none is known."""
        return float(self.positive.sum() / max(self.known.sum(), 1))

    def prior(self) -> np.ndarray:
        """Return the smoothed share of positives of each class.

        As if there were one more image, labelled with the mean share m of all classes:
        (positive + m) / (known + 1). So no share is 0 or 1, a class of which nothing is known has
        m, and the shares of single labels add up to 1.

        Returns:
            np.ndarray: float64 (C,) in (0, 1).

        Raises:
            ValueError: If no label or every known label is positive.
        """
        mean = self.mean_share
        if not 0 < mean < 1:
            raise ValueError(
                'Expected both positive and negative labels in the annotations, but '
                f'{self.positive.sum():g} of {self.known.sum()} known labels are positive'
            )
        return (self.positive + mean) / (self.known + 1)


def count_labels(dataset: Any, num_classes: int, task: str | None = None) -> LabelCounts:
    """Count the labels of a data set without reading its images.

    Annotations are read one by one and none is kept: a million single labels take some seconds.

    Args:
        dataset (BaseDataset): A data set of mmengine or a wrapper of one, with ``gt_score`` or
            ``gt_label`` in what its ``get_data_info`` returns. Where a wrapper repeats images,
            they count as often as training sees them. With ``task``, also a ``MultiTaskDataset``.
        num_classes (int): The number of classes C.
        task (str, optional): The task whose labels count, where ``gt_label`` and ``gt_score`` are
            dictionaries by task. An image without a label for it is unknown. Defaults to None.

    Returns:
        LabelCounts: The counts. ``gt_score`` below 0 is unknown.

    Raises:
        TypeError: If the data set shows no annotations.
        ValueError: If an image lacks a label, or has one that is not an integer or does not fit C
            classes, or a ``gt_score`` above 1 or NaN.
    """
    name = type(dataset).__name__
    get_info = getattr(dataset, 'get_data_info', None)
    if get_info is None and task is not None and hasattr(dataset, 'data_list'):
        get_info = dataset.data_list.__getitem__  # all that a MultiTaskDataset offers
    if get_info is None:
        raise TypeError(
            f'Expected `dataset` to have annotations, by a method `get_data_info`, but got {name}'
        )
    positive = np.zeros(num_classes)
    unknown = np.zeros(num_classes, np.int64)
    for i in range(len(dataset)):
        info = get_info(i)
        score, label = info.get('gt_score'), info.get('gt_label')
        if task is not None:
            score, label = _of_task(score, task), _of_task(label, task)
        if score is not None:  # heads prefer it, too
            score = np.asarray(score)
            if score.shape != (num_classes,):
                raise ValueError(
                    f'Expected `gt_score` of image {i} of {name} to have shape ({num_classes},), '
                    f'but got {score.shape}'
                )
            if not (score <= 1).all():  # nor is NaN
                raise ValueError(
                    f'Expected `gt_score` of {_describe(i, info, name)} to be at most 1, or below '
                    f'0 where unknown, but got {score[~(score <= 1)][0]}'
                )
            is_unknown = score < 0
            unknown += is_unknown
            positive += np.where(is_unknown, 0, score)
        elif isinstance(label, (int, np.integer)) and not isinstance(label, bool):
            # Most data sets have single labels, and ImageNet-21k has 14 million of them.
            if not 0 <= label < num_classes:
                raise ValueError(_out_of_range(i, info, name, num_classes, label))
            positive[label] += 1
        elif label is not None and not isinstance(label, dict):
            indices = np.atleast_1d(label)
            if indices.size and indices.dtype.kind not in 'iu':
                raise ValueError(
                    f'Expected `gt_label` of {_describe(i, info, name)} to be an int or a '
                    f'sequence of ints, but got {label!r}'
                )
            indices = indices.astype(np.int64)
            if indices.size and not 0 <= indices.min() <= indices.max() < num_classes:
                raise ValueError(_out_of_range(i, info, name, num_classes, label))
            positive[indices] += 1
        elif task is not None:
            unknown += 1
        else:
            kind = 'those of several tasks' if label is not None else sorted(info)
            raise ValueError(
                f'Expected image {i} of {name} to have `gt_score` or `gt_label` of one task, but '
                f'it has {kind}'
            )
    return LabelCounts(positive, unknown, len(dataset))


def _of_task(labels: Any, task: str) -> Any:
    return labels.get(task) if isinstance(labels, dict) else None


def _describe(index: int, info: dict, name: str) -> str:
    path = f', {info["img_path"]},' if info.get('img_path') else ''
    return f'image {index}{path} of {name}'


def _out_of_range(index: int, info: dict, name: str, num_classes: int, label: Any) -> str:
    return (
        f'Expected `gt_label` of {_describe(index, info, name)} to be in [0, {num_classes}), the '
        f'range of `num_classes`, but got {label}'
    )
