import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample
from sklearn import metrics

from frlr_mm import compat
from frlr_mm.evaluation import CalibrationMetric, OpenSetMetric
from frlr_mm.evaluation.open_set import aupr, aurc, auroc, fpr_at_tpr, oscr
from tests.support import references_scores
from tests.support.processes import run_ranks

# Few values, so that many are equal.
COARSE = st.integers(0, 6).map(lambda i: i / 6)
SCORES = st.lists(COARSE, min_size=1, max_size=30)


@given(SCORES, SCORES, st.randoms(use_true_random=False))
def test_naive_loops(known, unknown, random):
    is_correct = [random.random() < 0.7 for _ in known]
    k, u, c = np.array(known), np.array(unknown), np.array(is_correct)
    assert auroc(k, u) == pytest.approx(references_scores.auroc(known, unknown))
    assert oscr(k, c, u) == pytest.approx(references_scores.oscr(known, is_correct, unknown))
    for tpr in (0.3, 0.95, 1.0):
        expected = references_scores.fpr_at_tpr(known, unknown, tpr)
        assert fpr_at_tpr(k, u, tpr) == pytest.approx(expected)


@given(st.lists(st.tuples(COARSE, st.booleans()), min_size=1, max_size=6))
def test_risk_over_all_orders_of_equal_scores(images):
    score, is_correct = zip(*images, strict=True)
    expected = references_scores.aurc(score, is_correct)
    assert aurc(np.array(score), np.array(is_correct)) == pytest.approx(expected)


@given(SCORES, SCORES)
def test_scikit_learn(known, unknown):
    truth = [1] * len(known) + [0] * len(unknown)
    score, k, u = np.array(known + unknown), np.array(known), np.array(unknown)
    assert auroc(k, u) == pytest.approx(metrics.roc_auc_score(truth, score))
    assert aupr(k, u) == pytest.approx(metrics.average_precision_score(truth, score))
    other = metrics.average_precision_score(1 - np.array(truth), -score)
    assert aupr(-u, -k) == pytest.approx(other)


def test_a_perfect_a_useless_and_a_wrong_score():
    high, low, right = np.full(40, 0.9), np.full(60, 0.1), np.arange(40) % 4 > 0
    assert auroc(high, low) == 1 and fpr_at_tpr(high, low) == 0 and aupr(high, low) == 1
    assert oscr(high, right, low) == right.mean()
    assert auroc(high, high) == 0.5 and fpr_at_tpr(high, high) == 1
    assert oscr(high, right, high) == right.mean() / 2
    assert auroc(low, high) == 0 and fpr_at_tpr(low, high) == 1
    assert aurc(high, right) == pytest.approx(0.25)


def test_threshold_is_exact():
    """0.95 of 20 is 19, which floats miss: the threshold is that of the 19th."""
    known = np.arange(20.0)
    assert fpr_at_tpr(known, np.array([0.5, 1.5]), 0.95) == 0.5


def make_samples(num_known, num_unknown, seed=0, num_classes=5):
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(num_known + num_unknown):
        logits = rng.normal(size=num_classes).round(1)
        label = int(rng.integers(num_classes)) if i < num_known else -1
        if label >= 0:
            logits[label] += 1
        sample = DataSample().set_gt_label(label).set_pred_score(1 / (1 + np.exp(-logits)))
        sample.set_field(float(logits.max()), 'largest_logit')
        sample.set_field(float(np.log(np.exp(logits).sum())), 'energy')
        samples.append(sample)
    return samples


ALL = ('probability', 'logit', 'energy')


def evaluate(samples, **kwargs):
    evaluator = Evaluator([OpenSetMetric(**kwargs)])
    evaluator.dataset_meta = {}
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_metric_is_the_functions():
    samples = make_samples(60, 40)
    result = evaluate(samples, scores=ALL)
    known, unknown = samples[:60], samples[60:]
    right = np.array([(s.pred_score.argmax() == s.gt_label).item() for s in known])
    assert result['open_set/accuracy'] == pytest.approx(100 * right.mean())
    for name in ALL:
        k, u = (
            np.array(
                [
                    s.pred_score.max().item()
                    if name == 'probability'
                    else s.get(dict(logit='largest_logit', energy='energy')[name])
                    for s in part
                ]
            )
            for part in (known, unknown)
        )
        expected = dict(
            auroc=auroc(k, u),
            fpr95_in=fpr_at_tpr(k, u),
            fpr95_out=fpr_at_tpr(-u, -k),
            aupr_in=aupr(k, u),
            aupr_out=aupr(-u, -k),
            oscr=oscr(k, right, u),
            aurc=aurc(k, right),
        )
        for key, value in expected.items():
            assert result[f'open_set/{key}_{name}'] == pytest.approx(100 * value)
    # The sigmoid keeps the order.
    assert result['open_set/auroc_probability'] == pytest.approx(result['open_set/auroc_logit'])
    assert result['open_set/auroc_energy'] != result['open_set/auroc_logit']


def test_without_unknown_images():
    result = evaluate(make_samples(20, 0))
    assert set(result) == {'open_set/aurc_probability', 'open_set/accuracy'}


def test_one_class():
    """A softmax of one class is 1 whatever the image."""
    samples = [DataSample().set_gt_label(i).set_pred_score([1.0]) for i in (0, 0, -1)]
    result = evaluate(samples)
    assert result['open_set/auroc_probability'] == 50 and result['open_set/accuracy'] == 100


def evaluate_both(samples, size):
    evaluator = Evaluator([OpenSetMetric(scores=ALL), CalibrationMetric()])
    evaluator.dataset_meta = {}
    evaluator.process(samples)
    return evaluator.evaluate(size)


def evaluate_on_rank(rank, world_size):
    samples = make_samples(31, 20)
    # As a sampler that repeats images, so that each rank has as many.
    share = [samples[i % 51] for i in range(rank, 51 + (-51) % world_size, world_size)]
    return evaluate_both(share, 51)


def test_processes_equal_one(tmp_path):
    """The metric of calibration goes along: starting the processes is what takes long."""
    expected = evaluate_both(make_samples(31, 20), 51)
    assert {'open_set/oscr_energy', 'calibration/ece'} <= expected.keys()
    for result in run_ranks(evaluate_on_rank, 2, tmp_path):
        assert result == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.set_field([0], 'gt_score'), None),
        (lambda s: s.pop('pred_score'), 'samples with `pred_score`'),
        (lambda s: s.pop('gt_label'), 'samples with one `gt_label`'),
        (lambda s: s.set_gt_label([0, 1]), r'one `gt_label`, but got \[0, 1\]'),
        (lambda s: s.set_gt_label(5), '`gt_label` to be below 5, but got 5'),
        (lambda s: s.pop('energy'), 'LogitScoresHook'),
        (lambda s: s.pred_score.fill_(np.nan), 'training diverged'),
        (lambda s: s.set_gt_label(-1), 'images of known classes'),
    ],
)
def test_samples_that_do_not_fit(change, message):
    (sample,) = make_samples(1, 0)
    change(sample)
    if message is None:
        assert 'open_set/accuracy' in evaluate([sample], scores=ALL)
        return
    with pytest.raises(ValueError, match=message):
        evaluate([sample], scores=ALL)


@pytest.mark.parametrize('scores', [('softmax',), (), 'msp'])
def test_unknown_scores(scores):
    with pytest.raises(ValueError, match='Expected `scores` to be one of'):
        OpenSetMetric(scores=scores)


def test_every_value_says_what_is_better():
    """For `save_best`: the area under the ROC curve rises, that of risk and coverage falls."""
    values = evaluate_both(make_samples(31, 20), 51)
    less = {'aurc', 'fpr95_in', 'fpr95_out', 'brier', 'nll', 'bce'}
    less |= {'ece', 'ece_equal_mass', 'ece_classwise'}
    for name in values.keys() - {'open_set/accuracy'}:  # which mmengine knows
        measure = name.partition('/')[2]
        for score in ALL:
            measure = measure.removesuffix(f'_{score}')
        assert compat._rule_of_metric(name) == ('less' if measure in less else 'greater'), name
