import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample
from PIL import Image
from sklearn.metrics import brier_score_loss, log_loss

from frlr_mm.evaluation import CalibrationMetric
from frlr_mm.evaluation.calibration import (
    binary_cross_entropy,
    brier_score,
    classwise_error,
    equal_mass_bins,
    equal_width_bins,
    negative_log_likelihood,
)
from tests.support import references_scores


def make_scores(num, num_classes=4, seed=0, softmax=False):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, num_classes)) * 2
    label = rng.integers(num_classes, size=num)
    logits[np.arange(num), label] += 1
    score = np.exp(logits) if softmax else 1 / (1 + np.exp(-logits))
    return (score / score.sum(1, keepdims=True) if softmax else score).astype(np.float32), label


# Fifteenths among them, the edges of the bins.
EDGES = st.one_of(st.integers(0, 15).map(lambda i: i / 15), st.floats(0, 1))


@given(st.lists(st.tuples(EDGES, st.booleans()), min_size=1, max_size=40))
def test_bins_of_equal_width(images):
    score, is_true = (np.array(part) for part in zip(*images, strict=True))
    bins = equal_width_bins(score, is_true)
    assert bins.counts.sum() == len(score) and len(bins.counts) == 15
    assert bins.error() == pytest.approx(references_scores.ece(score, is_true, 15), abs=1e-12)


@pytest.mark.parametrize('num', [1, 7, 15, 31, 100])
def test_bins_of_equal_mass(num):
    score, label = make_scores(num)
    best, is_correct = score.max(1).astype(np.float64), score.argmax(1) == label
    bins = equal_mass_bins(best, is_correct)
    filled = bins.counts[bins.counts > 0]
    assert filled.sum() == num and filled.max() - filled.min() <= 1
    expected = references_scores.ece_equal_mass(best, is_correct, 15)
    assert bins.error() == pytest.approx(expected)


def test_equal_scores_share_a_bin():
    """Whatever their order: cut in the middle, one half would be all right, the other wrong."""
    score, is_true = np.full(40, 0.5), np.arange(40) < 20
    for order in (slice(None), slice(None, None, -1)):
        bins = equal_mass_bins(score, is_true[order])
        assert (bins.counts > 0).sum() == 1 and bins.error() == 0


@pytest.mark.parametrize('softmax', [True, False])
def test_naive_loops_and_scikit_learn(softmax):
    score, label = make_scores(50, softmax=softmax)
    wide = score.astype(np.float64)
    errors = [references_scores.ece(wide[:, j], label == j, 15) for j in range(4)]
    assert classwise_error(wide, label) == pytest.approx(np.mean(errors))
    assert brier_score(score, label) == pytest.approx(references_scores.brier(wide, label))
    assert negative_log_likelihood(score, label) == pytest.approx(
        references_scores.nll(wide, label)
    )
    assert binary_cross_entropy(score, label) == pytest.approx(references_scores.bce(wide, label))
    one_hot = np.eye(4)[label]
    columns = range(4)
    brier = sum(brier_score_loss(one_hot[:, j], wide[:, j], pos_label=1) for j in columns)
    assert brier_score(score, label) == pytest.approx(brier)
    bce = sum(log_loss(one_hot[:, j], wide[:, j]) for j in columns)
    assert binary_cross_entropy(score, label) == pytest.approx(bce)
    if softmax:
        nll = log_loss(label, wide / wide.sum(1, keepdims=True), labels=columns)
        assert negative_log_likelihood(score, label) == pytest.approx(nll)


def test_sure_and_wrong_is_finite():
    score = np.array([[1.0, 0.0]], np.float32)
    for measure in (negative_log_likelihood, binary_cross_entropy):
        assert np.isfinite(measure(score, np.array([1]))) and measure(score, np.array([1])) > 80
        assert measure(score, np.array([0])) == pytest.approx(0, abs=1e-6)


def make_samples(num, num_unknown=0):
    score, label = make_scores(num + num_unknown)
    label[num:] = -1
    return [DataSample().set_gt_label(int(y)).set_pred_score(s) for y, s in zip(label, score)]


def evaluate(samples, **kwargs):
    evaluator = Evaluator([CalibrationMetric(**kwargs)])
    evaluator.dataset_meta = {}
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_metric_is_the_functions_of_the_known_images(tmp_path):
    samples = make_samples(50, 20)
    score = np.stack([sample.pred_score.numpy() for sample in samples[:50]])
    label = np.array([sample.gt_label.item() for sample in samples[:50]])
    best, is_correct = score.max(1), score.argmax(1) == label
    result = evaluate(samples, num_bins=10, figure=str(tmp_path / 'new/reliability.png'))
    assert result == {
        'calibration/ece': pytest.approx(100 * equal_width_bins(best, is_correct, 10).error()),
        'calibration/ece_equal_mass': pytest.approx(
            100 * equal_mass_bins(best, is_correct, 10).error()
        ),
        'calibration/ece_classwise': pytest.approx(100 * classwise_error(score, label, 10)),
        'calibration/brier': pytest.approx(brier_score(score, label)),
        'calibration/nll': pytest.approx(negative_log_likelihood(score, label)),
        'calibration/bce': pytest.approx(binary_cross_entropy(score, label)),
    }
    assert evaluate(samples[:50], num_bins=10) == pytest.approx(result)
    with Image.open(tmp_path / 'new/reliability.png') as figure:
        assert len(figure.convert('L').getcolors()) > 50
    assert f'ECE {result["calibration/ece"]:.1f}' in (
        (tmp_path / 'new/reliability.svg').read_text()
    )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('pred_score'), 'samples with `pred_score`'),
        (lambda s: s.pop('gt_label'), 'samples with one `gt_label`'),
        (lambda s: s.pred_score.mul_(9), r'`pred_score` to be in \[0, 1\]'),
        (lambda s: s.set_gt_label(-1), 'images of known classes'),
    ],
)
def test_samples_that_do_not_fit(change, message):
    (sample,) = make_samples(1)
    change(sample)
    with pytest.raises(ValueError, match=message):
        evaluate([sample])


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_bins=0), r'`num_bins` to be an int in \[1, inf\], but got 0'),
        (dict(num_bins=1.5), '`num_bins` to be an int'),
        (dict(figure='a.jpg'), r'`figure` to end in .png or .svg, but got a.jpg'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CalibrationMetric(**kwargs)
