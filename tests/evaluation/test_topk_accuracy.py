"""TopKAccuracy from predicted classes and, as mmpretrain's, from scores."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample

from frlr_mm.evaluation import TopKAccuracy


def samples_of(scores, labels, k):
    samples = []
    for score, label in zip(scores, labels):
        sample = DataSample().set_gt_label(label)
        if k:
            sample.set_field(score.topk(k).indices, 'pred_topk_label', dtype=torch.Tensor)
        else:
            sample.set_pred_score(score)
        samples.append(sample)
    return samples


def evaluate(metric, samples):
    evaluator = Evaluator(metrics=metric)
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


@pytest.mark.parametrize('k', [0, 5, 8])
def test_equals_the_stock_metric_on_all_scores(k):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50, 30, generator=generator)
    labels = torch.randint(30, (50,), generator=generator)
    expected = evaluate(Accuracy(topk=(1, 5)), samples_of(scores, labels, 0))
    actual = evaluate(TopKAccuracy(topk=(1, 5)), samples_of(scores, labels, k))
    assert actual == pytest.approx(expected)
    assert 0 < actual['accuracy/top1'] < actual['accuracy/top5'] < 100


def test_more_than_is_predicted_is_refused():
    metric = TopKAccuracy(topk=(1, 5))
    samples = samples_of(torch.rand(2, 9), torch.tensor([0, 1]), 3)
    with pytest.raises(ValueError, match='Expected `topk` of TopKAccuracy to be at most 3'):
        metric.process(None, [sample.to_dict() for sample in samples])


@pytest.mark.parametrize(
    ('arguments', 'error', 'match'),
    [
        (dict(topk=0), ValueError, 'Expected `topk` to hold ranks >= 1, but got 0'),
        (dict(topk=()), ValueError, r'Expected `topk` to hold at least one rank, but got \(\)'),
        (dict(topk=(1, 2.5)), TypeError, 'Expected `topk` to hold ints, but got 2.5'),
        (dict(thrs=0.5), TypeError, 'Expected no `thrs`, but got 0.5'),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        TopKAccuracy(**arguments)
