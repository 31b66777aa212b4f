"""Counting labels: by hand, in every wrapper, in our data sets and the stock ones."""

import re

import mmengine
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmpretrain.datasets import KFoldDataset, MultiTaskDataset

from frlr_mm.datasets import DeepFashionAttribute
from frlr_mm.datasets.label_counts import LabelCounts, count_labels
from tests.support.deepfashion_layout import write_coarse

SCORES = np.array([[1, 0, -1], [1, -1, -1], [0.25, 0, -1], [1, 1, -1]], np.float32)
LABELS = [0, 1, 2, 0]


class Labelled(BaseDataset):
    """A data set of given labels."""

    def __init__(self, labels, key='gt_label'):
        self.infos = [{key: label} for label in labels]
        super().__init__(metainfo=dict(classes=('a', 'b', 'c')), serialize_data=False)

    def load_data_list(self):
        return self.infos

    def get_cat_ids(self, idx):
        return np.atleast_1d(self.get_data_info(idx)['gt_label']).tolist()


def test_scores_soft_and_unknown():
    counts = count_labels(Labelled(SCORES, 'gt_score'), 3)
    assert counts.positive.tolist() == [3.25, 1, 0]
    assert counts.unknown.tolist() == [0, 1, 4]
    assert counts.known.tolist() == [4, 3, 0]
    assert counts.num_images == 4
    assert counts.mean_share == 4.25 / 7


@pytest.mark.parametrize(
    'labels',
    [
        [[0, 2], [], [2], [2, 2]],
        [np.array([0, 2]), np.array([], np.int64), np.array([2]), np.array([2, 2])],
        [torch.tensor([0, 2]), torch.tensor([]), np.uint8([2]), torch.tensor([2, 2]).int()],
    ],
)
def test_lists_of_labels(labels):
    counts = count_labels(Labelled(labels), 3)
    assert counts.positive.tolist() == [1, 0, 3]
    assert not counts.unknown.any()


def test_prior():
    """One more image, of the mean share: by hand."""
    mean = 4.25 / 7
    prior = count_labels(Labelled(SCORES, 'gt_score'), 3).prior()
    assert prior == pytest.approx([(3.25 + mean) / 5, (1 + mean) / 4, mean])


@pytest.mark.parametrize(('num_classes', 'num_images'), [(35, 1), (1000, 27), (21843, 3)])
def test_prior_of_balanced_single_labels(num_classes, num_images):
    dataset = Labelled(list(range(num_classes)) * num_images)
    prior = count_labels(dataset, num_classes).prior()
    assert prior == pytest.approx(np.full(num_classes, 1 / num_classes), rel=1e-12)


def test_prior_of_single_labels_adds_up_to_one():
    prior = count_labels(Labelled([0, 0, np.int64(1), 0]), 3).prior()
    assert prior == pytest.approx([(3 + 1 / 3) / 5, (1 + 1 / 3) / 5, (1 / 3) / 5])
    assert prior.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ('wrap', 'expected'),
    [
        (lambda d: ConcatDataset([d, Labelled([1])]), [2, 2, 1]),
        (lambda d: RepeatDataset(d, 3), [6, 3, 3]),
        # The rarer two classes come twice: as often as training sees them.
        (lambda d: ClassBalancedDataset(d, 0.5), [2, 2, 2]),
        (lambda d: KFoldDataset(dict(type=Labelled, labels=LABELS), num_splits=4), [1, 1, 1]),
    ],
)
def test_wrappers(wrap, expected):
    dataset = wrap(Labelled(LABELS))
    counts = count_labels(dataset, 3)
    seen = [np.atleast_1d(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))]
    assert counts.positive.tolist() == [sum((s == c).sum() for s in seen) for c in range(3)]
    assert counts.positive.tolist() == expected
    assert counts.num_images == len(dataset)


@pytest.mark.parametrize('unknown', ['keep', 'negative'])
def test_deepfashion(tmp_path, unknown):
    labels = np.random.default_rng(0).choice((1, -1, 0), (12, 7))
    write_coarse(tmp_path, labels)
    mine = labels[::3]
    counts = count_labels(DeepFashionAttribute(str(tmp_path), 'train', unknown=unknown), 7)
    assert counts.positive.tolist() == (mine == 1).sum(0).tolist()
    num_unknown = (mine == 0).sum(0) if unknown == 'keep' else np.zeros(7)
    assert counts.unknown.tolist() == num_unknown.tolist()


@pytest.mark.parametrize(
    ('error', 'dataset', 'message'),
    [
        (TypeError, [dict(gt_label=0)], '`dataset`.*get_data_info.*list'),
        (ValueError, Labelled([0, 3]), r'`gt_label` of image 1 of Labelled.*\[0, 3\).*3'),
        (ValueError, Labelled([[0, -1]]), r'`gt_label` of image 0.*\[0, -1\]'),
        (ValueError, Labelled([[0.0] * 4], 'gt_score'), r'`gt_score` of image 0.*\(3,\).*\(4,\)'),
        (
            ValueError,
            Labelled([[0, 1.5, 0]], 'gt_score'),
            r'`gt_score` of image 0 .* 1, .*1\.5',
        ),
        (ValueError, Labelled([[0, 1, -1], [0, np.nan, -1]], 'gt_score'), '1 of Labelled .* nan'),
        (ValueError, Labelled([1.7]), r'`gt_label` of image 0 of Labelled .* int .* got 1\.7'),
        (ValueError, Labelled([0, '1']), "`gt_label` of image 1 of Labelled .* int .* got '1'"),
        (ValueError, Labelled([[0, 1.0]]), r'`gt_label` of image 0 .* ints, but got \[0, 1\.0\]'),
        (ValueError, Labelled([True]), '`gt_label` of image 0 .* int .* got True'),
        (
            ValueError,
            Labelled([torch.tensor([1.0])]),
            '`gt_label` of image 0 .* got tensor',
        ),
        (ValueError, Labelled([1], 'label'), "image 0 of Labelled.*`gt_score`.*'label'"),
        (ValueError, Labelled([dict(colour=1)]), 'image 0 of Labelled.*one task.*several tasks'),
    ],
)
def test_refuses(error, dataset, message):
    with pytest.raises(error, match=message):
        count_labels(dataset, 3)


def test_refused_image_is_named():
    dataset = Labelled([[2.0, 0, 0]], 'gt_score')
    dataset.full_init()
    dataset.data_list[0]['img_path'] = 'a/b.jpg'
    with pytest.raises(ValueError, match=r'of image 0, a/b\.jpg, of Labelled .* got 2\.0'):
        count_labels(dataset, 3)


def test_one_of_several_tasks(tmp_path):
    """What another task says is unknown here."""
    labels = [dict(colour=0, shape=2), dict(shape=1), dict(colour=[0, 1])]
    annotations = dict(
        metainfo=dict(tasks=['colour', 'shape']),
        data_list=[dict(img_path=f'{i}.jpg', gt_label=label) for i, label in enumerate(labels)],
    )
    mmengine.dump(annotations, str(tmp_path / 'train.json'))
    for dataset in (
        Labelled(labels),
        MultiTaskDataset('train.json', data_root=str(tmp_path)),
    ):
        counts = count_labels(dataset, 2, 'colour')
        assert counts.positive.tolist() == [2, 1]
        assert counts.unknown.tolist() == [1, 1]
        counts = count_labels(dataset, 3, 'shape')
        assert counts.positive.tolist() == [0, 1, 1]
        with pytest.raises(ValueError, match=r'`gt_label` of image 0.*\[0, 2\).*2'):
            count_labels(dataset, 2, 'shape')


@pytest.mark.parametrize('share', [0, 1])
def test_no_prior_without_both_kinds_of_labels(share):
    counts = LabelCounts(np.full(3, 5.0 * share), np.zeros(3, np.int64), 5)
    with pytest.raises(ValueError, match=re.escape(f'but {15 * share} of 15 known labels')):
        counts.prior()
