"""The attribute metrics: by hand, against naive references, stock metrics and two processes."""

import pickle
from functools import partial

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.evaluation import AveragePrecision, MultiLabelMetric
from mmpretrain.structures import DataSample

from frlr_mm.evaluation import AttributeMetric, multi_label
from frlr_mm.evaluation.multi_label import (
    average_precision,
    class_and_overall_f1,
    pooled_recall,
)
from tests.support import references_attributes as ref
from tests.support.processes import run_ranks

TYPES = ('colour', 'shape', 'colour', 'part', 'shape', 'shape', 'part')


def make_data(num_images=40, num_classes=7, seed=0, unknown=0.2, ties=True):
    """Random scores on a coarse grid, so that there are ties, and random truth with unknowns."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(num_images, num_classes, generator=generator)
    if ties:
        score = (score * 8).round() / 8
    target = (torch.rand(num_images, num_classes, generator=generator) < 0.3).float()
    target[torch.rand(num_images, num_classes, generator=generator) < unknown] = -1
    return score, target


def make_samples(score, target):
    return [DataSample().set_pred_score(s).set_gt_score(t) for s, t in zip(score, target)]


def evaluate(metric, score, target, types=None):
    evaluator = Evaluator(metrics=metric)
    if types is not None:
        evaluator.dataset_meta = dict(attribute_types=types)
    evaluator.process(make_samples(score, target))
    return evaluator.evaluate(len(score))


# Three images, three attributes; '?' is unknown.
#            scores          truth
# image 0    .9 .6 .3        1 0 1
# image 1    .8 .7 .1        0 1 ?
# image 2    .2 .4 .6        1 ? 0
HAND_SCORE = torch.tensor([[0.9, 0.6, 0.3], [0.8, 0.7, 0.1], [0.2, 0.4, 0.6]])
HAND_TARGET = torch.tensor([[1.0, 0, 1], [0, 1, -1], [1, -1, 0]])


def test_recall_by_hand():
    # k = 1: of 4 positives the first of image 0 alone is on top.
    assert pooled_recall(HAND_SCORE, HAND_TARGET, 1) == 1 / 4
    # k = 2: (0, 0), (1, 1), and (2, 0), as the unknown .4 of image 2 takes no place.
    assert pooled_recall(HAND_SCORE, HAND_TARGET, 2) == 3 / 4
    assert pooled_recall(HAND_SCORE, HAND_TARGET, 3) == 1
    assert pooled_recall(HAND_SCORE, HAND_TARGET, 9) == 1


def test_average_precision_by_hand():
    # Attribute 0: 1 0 1 in the order of its scores: (1 / 1 + 2 / 3) / 2. Attribute 1: known are
    # .7, positive, and .6: 1. Attribute 2: known are .6, negative, and .3, positive: 1 / 2.
    expected = torch.tensor([5 / 6, 1, 1 / 2], dtype=torch.float64)
    torch.testing.assert_close(average_precision(HAND_SCORE, HAND_TARGET), expected)


def test_recall_of_any_number_of_rows_at_a_time(monkeypatch):
    score, target = make_data()
    expected = pooled_recall(score, target, 2)
    for rows in (1, 7, 40):
        monkeypatch.setattr(multi_label, '_ROWS', rows)
        assert pooled_recall(score, target, 2) == expected


def test_average_precision_of_ties_does_not_depend_on_their_order():
    score = torch.tensor([0.5, 0.5, 0.5, 0.1])
    for positive in range(3):
        target = torch.zeros(4, 1)
        target[positive] = 1
        assert average_precision(score[:, None], target).item() == pytest.approx(1 / 3)


def test_f1_by_hand():
    # At .5 the known predictions are (0, 0) right, (0, 1), (1, 0), (1, 1) right, (2, 2).
    found = class_and_overall_f1(HAND_SCORE, HAND_TARGET, 0.5)
    cp, cr = (1 / 2 + 1 / 2 + 0) / 3, (1 / 2 + 1 + 0) / 3
    assert found == pytest.approx(
        dict(CP=cp, CR=cr, CF1=2 * cp * cr / (cp + cr), OP=2 / 5, OR=2 / 4, OF1=4 / 9)
    )


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('ties', [True, False])
def test_functions_agree_with_naive_references(seed, ties):
    score, target = make_data(seed=seed, ties=ties)
    rows = score.tolist(), target.tolist()
    for k in (1, 2, 5, 7, 10):
        assert pooled_recall(score, target, k) == pytest.approx(ref.pooled_recall(*rows, k))
    expected = torch.tensor([ref.average_precision(*rows, j) for j in range(7)]).double()
    torch.testing.assert_close(average_precision(score, target), expected, rtol=1e-6, atol=1e-6)
    for thr in (0.0, 0.25, 0.5, 1.0):
        assert class_and_overall_f1(score, target, thr) == pytest.approx(
            ref.class_and_overall_f1(*rows, thr)
        )


@pytest.mark.parametrize('unknown', [0.0, 0.2])
def test_average_precision_is_the_stock_one_without_ties(unknown):
    score, target = make_data(unknown=unknown, ties=False)
    ours = 100 * average_precision(score, target)
    stock = AveragePrecision.calculate(score, target, average=None).double()
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_f1_parts_are_those_of_stock():
    score, target = make_data()
    ours = class_and_overall_f1(score, target, 0.5)
    stock = partial(MultiLabelMetric.calculate, score.clone(), target.clone(), thr=0.5)
    precision, recall, macro_f1, _ = stock(average='macro')
    assert (100 * ours['CP'], 100 * ours['CR']) == pytest.approx((precision.item(), recall.item()))
    assert 100 * ours['OF1'] == pytest.approx(stock(average='micro')[2].item())
    assert 100 * ours['CF1'] != pytest.approx(macro_f1.item(), abs=0.1)


@pytest.mark.parametrize('k', [1, 3])
def test_recall_is_the_stock_one_where_all_is_known(k):
    score, target = make_data(unknown=0.0, ties=False)
    _, stock, _, _ = MultiLabelMetric.calculate(score, target, topk=k, average='micro')
    assert 100 * pooled_recall(score, target, k) == pytest.approx(stock.item())


def test_unknown_takes_no_place_among_the_best_unlike_in_stock():
    score, target = torch.tensor([[0.9, 0.5]]), torch.tensor([[-1.0, 1.0]])
    _, stock, _, _ = MultiLabelMetric.calculate(score, target.clone(), topk=1, average='micro')
    assert stock.item() == 0
    assert pooled_recall(score, target, 1) == 1


def test_no_positive_and_nothing_known():
    score = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[0.0, -1, 1]]).repeat(5, 1)
    assert average_precision(score, target).tolist() == [0, 0, 1]
    assert pooled_recall(score, torch.zeros(5, 3), 1) == 0
    assert set(class_and_overall_f1(score, torch.full((5, 3), -1.0), 0.5).values()) == {0.0}


def test_metric_reports_all_and_each_type():
    score, target = make_data()
    target[:, 3] = 0
    found = evaluate(AttributeMetric(topk=(1, 2), thr=0.25), score, target, TYPES)
    rows = score.tolist(), target.tolist()
    precision = [100 * ref.average_precision(*rows, j) for j in range(7)]
    expected = {'mAP': sum(precision) / 7, 'num_no_positive': 1}
    expected.update({f'recall@{k}': 100 * ref.pooled_recall(*rows, k) for k in (1, 2)})
    expected.update({k: 100 * v for k, v in ref.class_and_overall_f1(*rows, 0.25).items()})
    for kind in set(TYPES):
        columns = [j for j, name in enumerate(TYPES) if name == kind]
        part = score[:, columns].tolist(), target[:, columns].tolist()
        expected[f'mAP_{kind}'] = sum(precision[j] for j in columns) / len(columns)
        for k in (1, 2):
            expected[f'recall@{k}_{kind}'] = 100 * ref.pooled_recall(*part, k)
    assert found == pytest.approx({f'attribute/{k}': v for k, v in expected.items()})


def test_metric_without_types():
    score, target = make_data()
    names = set(evaluate(AttributeMetric(topk=3), score, target))
    assert names == {
        f'attribute/{name}'
        for name in ('recall@3', 'mAP', 'CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'num_no_positive')
    }


def test_metric_is_registered_at_the_root():
    assert isinstance(METRICS.build(dict(type='AttributeMetric')), AttributeMetric)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        (dict(topk=0), ValueError, 'topk'),
        (dict(topk=(1, 2.5)), TypeError, 'topk'),
        (dict(topk=True), TypeError, 'topk'),
        (dict(thr=1.5), ValueError, 'thr'),
        (dict(thr=None), TypeError, 'thr'),
    ],
)
def test_refuses_bad_arguments(kwargs, error, match):
    with pytest.raises(error, match=match):
        AttributeMetric(**kwargs)


def label_samples(score, target, form):
    """The same truth in each of the forms that mmpretrain's data sets give."""
    samples = []
    for row, truth in zip(score, target, strict=True):
        sample = DataSample().set_pred_score(row)
        positive = (truth == 1).nonzero()[:, 0]
        if form == 'indices':
            sample.set_gt_label(positive.tolist())
        elif form == 'single':
            sample.set_gt_label(int(positive[0]))
        elif form == 'difficult':
            # VOC lists an object that is both easy and difficult twice.
            sample.set_gt_label(positive)
            unknown = (truth < 0).nonzero()[:, 0].tolist()
            sample.set_metainfo(dict(gt_label_difficult=unknown + positive[:1].tolist()))
        else:
            sample.set_gt_score(truth.to(form))
        samples.append(sample)
    return samples


@pytest.mark.parametrize(
    'form', ['indices', 'single', 'difficult', torch.int64, torch.float16, torch.float64]
)
def test_truth_in_any_form(form):
    score, target = make_data(unknown=0.2 if form == 'difficult' else 0)
    target[0] = 0  # an image without any label
    if form == 'single':
        target = torch.eye(7)[torch.arange(40) % 7]
    evaluator = Evaluator(metrics=AttributeMetric())
    evaluator.process(label_samples(score, target, form))
    assert evaluator.evaluate(40) == evaluate(AttributeMetric(), score, target)


def test_truth_in_several_forms_at_once():
    score, target = make_data(unknown=0)
    evaluator = Evaluator(metrics=AttributeMetric())
    evaluator.process(label_samples(score[:20], target[:20], 'indices'))
    evaluator.process(label_samples(score[20:], target[20:], torch.int64))
    assert evaluator.evaluate(40) == evaluate(AttributeMetric(), score, target)


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (DataSample().set_gt_label(0), 'samples with `pred_score`, .* but got .*gt_label'),
        (
            DataSample().set_pred_score(torch.ones(3)),
            'samples with `gt_score` or `gt_label`, but got',
        ),
        (
            DataSample().set_pred_score(torch.ones(3)).set_gt_label([0, 3]),
            r'`gt_label` to hold indices in \[0, 3\), but got \[0, 3\]',
        ),
        (
            DataSample().set_pred_score(torch.ones(3)).set_gt_label([-1]),
            r'`gt_label` to hold indices in \[0, 3\), but got \[-1\]',
        ),
        (
            DataSample(gt_score=torch.ones(1)).set_pred_score(torch.ones(3)),
            r'`gt_score` to have shape \(3,\), as `pred_score`, but got \(1,\)',
        ),
    ],
)
def test_truth_that_does_not_fit_is_named(sample, message):
    with pytest.raises(ValueError, match=message):
        AttributeMetric().process(None, [sample.to_dict()])


def test_keeps_no_more_than_the_scores():
    """A row of a tensor would take the whole batch along when ranks exchange it."""
    metric = AttributeMetric()
    metric.process(
        None, [s.to_dict() for s in make_samples(torch.rand(100, 7), torch.ones(100, 7))]
    )
    assert len(pickle.dumps(metric.results)) < 100 * 7 * 2 * 4 * 5


def test_refuses_bad_values():
    score, target = make_data()
    with pytest.raises(ValueError, match='attribute_types'):
        evaluate(AttributeMetric(), score, target, TYPES[:-1])
    with pytest.raises(ValueError, match='gt_score'):
        evaluate(AttributeMetric(), score, target.clamp(max=0.5))
    score[3, 2] = torch.nan
    with pytest.raises(ValueError, match='NaN'):
        evaluate(AttributeMetric(), score, target)


# None divides by two and four; the last gives some of four processes no image of their own.
SIZES = (31, 7, 3)


def _evaluate_on_rank(rank, world_size):
    metrics = []
    for size in SIZES:
        score, target = make_data(num_images=size)
        share = list(DefaultSampler(score, shuffle=False))
        evaluator = Evaluator(metrics=AttributeMetric(topk=(1, 3)))
        evaluator.dataset_meta = dict(attribute_types=TYPES)
        for start in range(0, len(share), 4):
            index = share[start : start + 4]
            evaluator.process(make_samples(score[index], target[index]))
        metrics.append(evaluator.evaluate(size))
    return metrics


@pytest.mark.parametrize('world_size', [2, 4])
def test_processes_equal_one(tmp_path, world_size):
    results = run_ranks(_evaluate_on_rank, world_size, tmp_path)
    alone = _evaluate_on_rank(0, 1)
    for metrics in results:
        assert metrics == [pytest.approx(one, nan_ok=True) for one in alone]
