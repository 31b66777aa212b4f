"""A part of the classes of a data set; the others are left out or unknown."""

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS

from .._checks import check_choice, check_int

_OTHERS = ('drop', 'unknown')


@DATASETS.register_module()
class ClassSubset:
    """Some classes of any data set of single labels, such as half of CIFAR-100.

    To train on some classes and to test on images of all, wrap the data sets of both splits with
    the same ``classes``, the test set with ``others='unknown'``. The classes are numbered anew, in
    the order of ``classes``, and named so in the meta information.

    Args:
        dataset (dict | BaseDataset): The data set, which stays as it is, or its config, with class
            names in its meta information.
        classes (int | Sequence[str]): How many classes to keep, the first ones, or their names.
        others (str): What becomes of the images of other classes: 'drop' leaves them out,
            'unknown' keeps them with the label -1, after the images of the kept classes. Defaults
            to 'drop'.
        pipeline (Sequence[dict], optional): Goes into the config of the data set: mmpretrain's
            inferencer and ``--tta`` look for it here. Defaults to None.

    Raises:
        TypeError: If ``dataset`` is neither a config nor a data set.
        ValueError: If ``classes`` or ``others`` does not fit, an image has not one label, or no
            image is left.
    """

    def __init__(
        self,
        dataset: dict | BaseDataset,
        classes: int | Sequence[str],
        others: str = 'drop',
        pipeline: Sequence[dict] | None = None,
    ) -> None:
        check_choice('others', others, _OTHERS)
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dict(dataset, **({'pipeline': pipeline} if pipeline else {})))
        elif pipeline is not None:
            raise ValueError('Expected `pipeline` to be None with a data set that is built')
        if not isinstance(dataset, BaseDataset):
            raise TypeError(
                f'Expected `dataset` to be a data set or its config, but got {dataset!r}'
            )
        dataset.full_init()
        names = list(dataset.metainfo.get('classes') or ())
        kept = _choose(names, classes, type(dataset).__name__)
        numbers = {names.index(name): number for number, name in enumerate(kept)}
        labels = [_read_label(dataset, i) for i in range(len(dataset))]
        order = [i for i, label in enumerate(labels) if label in numbers]
        if others == 'unknown':
            order += [i for i, label in enumerate(labels) if label not in numbers]
        if not order:
            raise ValueError(
                f'Expected `classes` to leave images of {type(dataset).__name__}, but got '
                f'{classes!r}, and none of its {len(labels)} images is of these'
            )
        # A copy, which gets another pipeline here, too: the data set may serve others.
        self.dataset = dataset.get_subset(order)
        self._numbers = numbers
        self.pipeline = self.dataset.pipeline
        self._metainfo = dict(dataset.metainfo, classes=tuple(kept))

    @property
    def metainfo(self) -> dict:
        """The meta information of the data set, with the classes that are kept."""
        return dict(self._metainfo)

    @property
    def pipeline(self) -> Callable:
        """What an image with its new label goes through; ``SwitchRecipeHook`` sets another."""
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Callable) -> None:
        self._pipeline = pipeline
        # First, so that whatever packs the label finds the new one.
        self.dataset.pipeline = Compose([_Renumber(self._numbers), pipeline])

    @property
    def CLASSES(self) -> tuple[str, ...]:  # noqa: N802 (as mmpretrain's data sets)
        """The names of the classes that are kept."""
        return self._metainfo['classes']

    def full_init(self) -> None:
        """Do nothing: the data set is read when it is built."""

    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of an image, with its new label."""
        return _renumber(self.dataset.get_data_info(idx), self._numbers)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of an image in a list, for ``ClassBalancedDataset``."""
        return [self.get_data_info(idx)['gt_label']]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> Any:
        return self.dataset[idx]

    def __repr__(self) -> str:
        return f'ClassSubset of {len(self.CLASSES)} classes of\n{self.dataset!r}'


class _Renumber:
    """A transform that gives an image its new label."""

    def __init__(self, numbers: dict[int, int]) -> None:
        self.numbers = numbers

    def __call__(self, results: dict) -> dict:
        return _renumber(results, self.numbers)

    def __repr__(self) -> str:
        return f'Renumber({len(self.numbers)} classes)'


def _renumber(info: dict, numbers: dict[int, int]) -> dict:
    return info | dict(gt_label=numbers.get(int(info['gt_label']), -1))


def _choose(names: list[str], classes: int | Sequence[str], owner: str) -> list[str]:
    if not names:
        raise ValueError(f'Expected the data set of ClassSubset to name its classes: {owner}')
    if isinstance(classes, int):
        check_int('classes', classes, 1, len(names))
        return names[:classes]
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f'Expected `classes` to be an int or names, each once, but got {classes!r}'
        )
    for name in classes:
        if name not in names:
            raise ValueError(f'Expected `classes` to be of {owner}, but it has no {name!r}')
    return list(classes)


def _read_label(dataset: BaseDataset, index: int) -> int:
    label = dataset.get_data_info(index).get('gt_label')
    if not hasattr(label, '__index__'):
        raise ValueError(
            f'Expected images of one `gt_label`, an int, but image {index} of '
            f'{type(dataset).__name__} has {label!r}'
        )
    return int(label)
