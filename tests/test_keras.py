"""The losses for Keras against those for torch; `slow` repeats it all on TensorFlow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

import frlr_mm.keras
from frlr_mm.functional import num_selected
from frlr_mm.keras import HSLRLoss, SSLRLoss
from tests.support import cases
from tests.support.cases import (
    LABEL_KINDS,
    LOSSES,
    REFERENCE_CASES,
    make_label,
    make_logits,
)
from tests.support.references import hs_lr_loss_as_published, ss_lr_loss_as_published

# Keras hands NumPy tensors of torch in the way of NumPy 1.
pytestmark = pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')

ROOT = Path(__file__).parents[1]
BACKEND = keras.backend.backend()
KERAS_LOSSES = {'hs_lr': HSLRLoss, 'ss_lr': SSLRLoss}
PUBLISHED = {'hs_lr': hs_lr_loss_as_published, 'ss_lr': ss_lr_loss_as_published}


def loss_and_grad(loss, label, cls_score, weight=None):
    """Return the loss and the gradient of its sum, as tensors of torch on either backend."""
    label, cls_score = np.asarray(label), np.asarray(cls_score)
    if BACKEND == 'torch':
        x = torch.tensor(cls_score, requires_grad=True)
        value = loss(label, x, weight)
        value.sum().backward()
        return value.detach(), x.grad
    import tensorflow as tf

    x = tf.Variable(cls_score)
    with tf.GradientTape() as tape:
        value = loss(label, x, weight)
        total = tf.reduce_sum(value)
    return torch.tensor(value.numpy()), torch.tensor(tape.gradient(total, x).numpy())


@pytest.mark.parametrize(
    'case', REFERENCE_CASES, ids=lambda case: f'{case["label"]}-{case["loss"]}'
)
def test_equals_authors_values(case):
    """Agree to 1e-6, the effect of the authors' eps taken out of their values.

    ``tests/functional/test_reference_values.py`` says how large it is, and that their formula
    gives the file's values.
    """
    focus = 'ratio' if case['loss'] == 'hs_lr' else 'gamma'
    kwargs = {'alpha': case['alpha'], focus: case[focus]}
    cls_score = torch.tensor(case['logits'], dtype=torch.float64)
    label = torch.tensor(case['target'])
    published = PUBLISHED[case['loss']]
    with_eps = cases.loss_and_grad(published, cls_score, label, eps=1e-7, **kwargs)
    without_eps = cases.loss_and_grad(published, cls_score, label, eps=0.0, **kwargs)
    ours = cases.loss_and_grad(LOSSES[case['loss']][0], cls_score, label, **kwargs)
    actual = loss_and_grad(
        KERAS_LOSSES[case['loss']](dtype='float64', reduction='none', **kwargs), label, cls_score
    )
    # Here, as Keras' own mean turns float64 into float32 on torch.
    actual = actual[0].mean(), actual[1] / len(label)
    for i, name in enumerate(('expected_loss', 'expected_grad')):
        in_file = torch.tensor(case[name], dtype=torch.float64)
        expected = in_file + without_eps[i] - with_eps[i]
        torch.testing.assert_close(actual[i], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(actual[i], ours[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize('alpha', [2.0, 'sum'])
@pytest.mark.parametrize('kind', LABEL_KINDS)
@pytest.mark.parametrize('loss', LOSSES)
def test_equals_the_loss_for_torch(loss, kind, alpha):
    cls_score, label = make_logits(6, 9), make_label(kind, 6, 9)
    function, _, kwargs = LOSSES[loss]
    kwargs = {**kwargs, 'alpha': alpha, 'reduction': 'none'}
    kwargs.update(class_weight=torch.linspace(0.5, 2, 9), pos_weight=torch.linspace(3, 1, 9))
    weight = torch.linspace(0, 2, 6)
    expected = cases.loss_and_grad(function, cls_score, label, weight=weight, **kwargs)
    made = KERAS_LOSSES[loss](dtype='float64', **kwargs)
    actual = loss_and_grad(made, label, cls_score, weight.numpy())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
@pytest.mark.parametrize('loss', LOSSES)
def test_defaults_and_reductions_are_those_for_torch(loss, reduction):
    cls_score, label = make_logits(6, 30), make_label('index', 6, 30)
    function, weight = LOSSES[loss][0], torch.linspace(0, 2, 6)
    expected = cases.loss_and_grad(function, cls_score, label, weight=weight, reduction=reduction)
    made = KERAS_LOSSES[loss](reduction=reduction)
    actual = loss_and_grad(made, label, cls_score.float(), weight.numpy())
    assert actual[0].dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize('loss', LOSSES)
def test_number_for_all_classes(loss):
    cls_score, label = make_logits(6, 9), make_label('multi_label', 6, 9)
    one, nine = (
        KERAS_LOSSES[loss](class_weight=w, pos_weight=p) for w, p in ((2, 3), ([2] * 9, [3] * 9))
    )
    torch.testing.assert_close(
        loss_and_grad(one, label, cls_score), loss_and_grad(nine, label, cls_score)
    )


@pytest.mark.parametrize(('num_classes', 'ratio'), [(100, 0.29), (30, 0.01), (7, 1.0)])
def test_first_classes_win_ties(num_classes, ratio):
    k = num_selected(num_classes, ratio)
    label = torch.tensor([num_classes - 1])
    _, grad = loss_and_grad(HSLRLoss(ratio=ratio), label, torch.zeros(1, num_classes))
    assert grad[0, :-1].nonzero().flatten().tolist() == list(range(min(k, num_classes - 1)))


@pytest.mark.parametrize(
    'loss', [HSLRLoss(ratio=0.5), SSLRLoss(), SSLRLoss(gamma=0)], ids=['hs_lr', 'ss_lr', 'lr']
)
def test_gradient_lives_at_extreme_logits(loss):
    """Wrong by hundreds, a class that is switched off, and a batch without a positive."""
    cls_score = torch.tensor([[-300.0, 300, 0, -torch.inf]])
    value, grad = loss_and_grad(loss, torch.tensor([0]), cls_score)
    assert value.item() >= 600
    assert grad[0, :2].tolist() == [-1, 1] and grad[0, 3] == 0
    value, grad = loss_and_grad(loss, torch.zeros(1, 4), cls_score)
    assert value.isfinite() and grad.isfinite().all()
    value, _ = loss_and_grad(loss, torch.tensor([0]), torch.tensor([[0.0, torch.nan, 0, 0]]))
    assert value.isnan()


@pytest.mark.parametrize('loss', KERAS_LOSSES.values())
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'mixed_float16'])
def test_half_precision_is_computed_in_float32(loss, dtype):
    """In float16, 4,001 is 4,000."""
    made = loss(dtype=dtype)
    assert made.dtype == 'float32'
    value, grad = loss_and_grad(made, [4001], np.zeros((1, 5000), np.float16))
    assert value.dtype == torch.float32 and (grad[0] < 0).nonzero().item() == 4001


@pytest.mark.parametrize(
    ('loss', 'kwargs', 'error', 'message'),
    [
        (HSLRLoss, dict(ratio=1.5), ValueError, r'Expected `ratio` to be in \(0, 1], but got 1.5'),
        (HSLRLoss, dict(ratio=0), ValueError, r'Expected `ratio` to be in \(0, 1], but got 0'),
        (SSLRLoss, dict(gamma=-1), ValueError, r'Expected `gamma` .* but got -1'),
        (SSLRLoss, dict(gamma='a'), TypeError, "Expected `gamma` to be a number, but got 'a'"),
        (SSLRLoss, dict(alpha=float('nan')), ValueError, 'Expected `alpha` .* but got nan'),
        (HSLRLoss, dict(alpha='mean'), TypeError, "Expected `alpha` .* but got 'mean'"),
        (HSLRLoss, dict(pos_weight=[1, -2]), ValueError, r'Expected `pos_weight\[1\]`.*got -2'),
        (SSLRLoss, dict(class_weight='1'), TypeError, 'Expected `class_weight`'),
        (SSLRLoss, dict(reduction='median'), ValueError, 'reduction'),
    ],
)
def test_bad_argument(loss, kwargs, error, message):
    with pytest.raises(error, match=message):
        loss(**kwargs)


@pytest.mark.parametrize(
    ('label', 'cls_score', 'message'),
    [
        ([0, 1], (2, 3, 4), r'`y_pred` to have shape \(N, C\) .*got \(2, 3, 4\)'),
        ([0, 1, 2], (2, 4), r'`y_true` .*`y_pred` of shape \(2, 4\), but got shape \(3,\)'),
        ([[0, 1], [1, 0]], (2, 4), r'but got shape \(2, 2\)'),
        ([0, 0], (2, 1), r'at least 2 classes.* but got shape \(2,\)'),
        (0, (1, 4), r'but got shape \(\)'),
    ],
)
@pytest.mark.parametrize('loss', KERAS_LOSSES.values())
def test_bad_shape(loss, label, cls_score, message):
    with pytest.raises(ValueError, match=message):
        loss()(np.array(label), np.zeros(cls_score, np.float32))


def test_wrong_number_of_class_factors():
    message = r'Expected `pos_weight` to have shape \(4,\), .* but got \(3,\)'
    with pytest.raises(ValueError, match=message):
        SSLRLoss(pos_weight=[1, 2, 3])(np.array([0]), np.zeros((1, 4), np.float32))


@pytest.mark.parametrize(
    ('label', 'message'),
    [
        ([0, 4], r'class indices in \[0, 4\), but got 4'),
        ([-1, 3], r'class indices in \[0, 4\), but got -1'),
        ([0, 1.5], r'class indices in \[0, 4\), but got 1.5'),
        ([[0, 0, 1, 1], [0, 0, 2, 0]], r'targets in \[0, 1\], .* but got 2'),
        ([[0, 0, 1, 1], [0, 0, np.nan, 0]], r'targets in \[0, 1\], .* but got nan'),
    ],
)
@pytest.mark.parametrize('loss', KERAS_LOSSES.values())
def test_label_out_of_range(loss, label, message, monkeypatch):
    """An error where values can be read, else a loss that is not a number."""
    cls_score = torch.zeros(2, 4)
    with pytest.raises(ValueError, match='Expected `y_true` to hold ' + message):
        loss()(np.array(label), cls_score.numpy())
    monkeypatch.setattr(frlr_mm.keras, '_is_readable', lambda tensor: False)
    value, grad = loss_and_grad(loss(), label, cls_score)
    assert value.isnan() and grad.isnan().any()


@pytest.mark.parametrize(
    'loss',
    [
        HSLRLoss(alpha=3.0, ratio=0.4, pos_weight=[1, 2, 3], reduction='sum'),
        SSLRLoss(gamma=1.0, class_weight=2, dtype='float64', name='mine'),
    ],
)
def test_trained_model_is_saved_with_its_loss(loss, tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(60, 3)).astype('float32')
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.1), loss=loss, metrics=['accuracy'])
    # Batches of 16 and a last one of 12.
    history = model.fit(x, x.argmax(1), batch_size=16, epochs=20, verbose=0).history
    assert history['loss'][-1] < history['loss'][0] and history['accuracy'][-1] > 0.9
    model.save(tmp_path / 'model.keras')
    again = keras.saving.load_model(tmp_path / 'model.keras')
    assert type(again.loss) is type(loss) and again.loss.get_config() == loss.get_config()
    torch.testing.assert_close(
        again.evaluate(x, x.argmax(1), verbose=0), model.evaluate(x, x.argmax(1), verbose=0)
    )


def test_labels_of_another_data_set_do_not_train_silently():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile('sgd', loss=SSLRLoss())
    x, label = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 3])
    if BACKEND == 'torch':
        with pytest.raises(ValueError, match=r'class indices in \[0, 3\), but got 3'):
            model.fit(x, label, verbose=0)
    else:  # a graph
        assert np.isnan(model.fit(x, label, verbose=0).history['loss'])


def test_example_learns_digits(monkeypatch, capsys):
    (example,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/keras.md').read_text(), re.S)
    assert len([line for line in example.splitlines() if line.strip()]) <= 20
    monkeypatch.setenv('KERAS_BACKEND', BACKEND)  # which the example sets
    exec(example, {})
    accuracy = float(re.search(r'top-1 ([\d.]+) %', capsys.readouterr().out)[1])
    assert accuracy > 90


def run(code, **environment):
    result = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_loads_keras_and_its_backend_alone():
    unwanted = {'mmengine', 'mmcv', 'mmpretrain', 'torch', 'tensorflow'} - {BACKEND}
    run(
        f"""
import sys, frlr_mm.keras
loaded = {{name.split('.')[0] for name in sys.modules}} & {unwanted!r}
assert not loaded, loaded
assert not any(name.startswith('frlr_mm.') for name in
               sys.modules.keys() - {{'frlr_mm.keras', 'frlr_mm._checks'}})
"""
    )


def test_missing_keras_is_one_line():
    code = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name == 'keras' else find_spec(name, *args)
try:
    import frlr_mm.keras
except ModuleNotFoundError as error:
    print(error)
"""
    assert run(code) == "frlr_mm.keras needs keras: pip install 'frlr_mm[keras]'\n"


def test_nothing_else_imports_it():
    sources = {path: path.read_text() for path in (ROOT / 'frlr_mm').rglob('*.py')}
    users = [path.name for path, text in sources.items() if re.search(r'import keras\b', text)]
    assert users == ['keras.py']


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_on_tensorflow():
    tensorflow = ROOT / 'build/tensorflow'
    assert tensorflow.is_dir(), '`make test-slow` installs TensorFlow there'
    path = os.pathsep.join([str(ROOT), str(tensorflow)])
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '--quiet', '-p', 'no:cacheprovider', __file__],
        env={**os.environ, 'KERAS_BACKEND': 'tensorflow', 'PYTHONPATH': path},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = int(re.search(r'^(\d+) passed', result.stdout, re.M)[1])
    assert passed > len(REFERENCE_CASES) + 2 * 2 * len(LABEL_KINDS)
