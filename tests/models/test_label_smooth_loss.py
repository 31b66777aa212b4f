import pytest
import torch
from mmpretrain.models.losses import LabelSmoothLoss
from mmpretrain.registry import MODELS
from torch.testing import assert_close

from frlr_mm.functional import hs_lr_loss, ss_lr_loss

HSLR = dict(type='HSLRLoss', alpha='sum', ratio=0.3)
SSLR = dict(type='SSLRLoss', alpha='sum', gamma=0.25)


def make(**kwargs):
    return MODELS.build(dict(type='LabelSmoothFRLRLoss', **kwargs))


def smooth(target, mode, eps):
    """The three formulas, entry by entry."""
    smoothed = target.clone()
    for i, row in enumerate(target.tolist()):
        for j, t in enumerate(row):
            if mode == 'multi_label':
                value = 1 - eps if t > 0 else eps
            else:
                e = eps / (1 + eps) if mode == 'classy_vision' else eps
                value = (1 - e) * t + e / len(row)
            smoothed[i, j] = t if t < 0 else value
    return smoothed


@pytest.mark.parametrize('mode', ['original', 'classy_vision', 'multi_label'])
@pytest.mark.parametrize(
    ('loss', 'function', 'arguments'),
    [
        (HSLR, hs_lr_loss, dict(alpha='sum', ratio=0.3)),
        (SSLR, ss_lr_loss, dict(alpha='sum', gamma=0.25)),
    ],
    ids=['HS-LR', 'SS-LR'],
)
def test_is_the_loss_on_smoothed_labels(mode, loss, function, arguments):
    torch.manual_seed(0)
    score = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    label = torch.randint(10, (5,))
    dense = torch.nn.functional.one_hot(label, 10).double()
    dense[0, :2] = 0.5
    module = make(loss=loss | dict(loss_weight=2.0), label_smooth_val=0.1, mode=mode)
    for given, target in ((label, torch.nn.functional.one_hot(label, 10)), (dense, dense)):
        expected = 2 * function(score, smooth(target.double(), mode, 0.1), **arguments)
        found = module(score, given, avg_factor=5)
        assert_close(found.double(), expected.double(), rtol=1e-6, atol=1e-6)
        (gradient,) = torch.autograd.grad(found, score)
        (other,) = torch.autograd.grad(expected, score)
        assert_close(gradient, other, rtol=1e-6, atol=1e-6)
        assert gradient.any()


@pytest.mark.parametrize('mode', ['original', 'multi_label'])
def test_unknown_labels_stay_unknown(mode):
    score = torch.randn(2, 6, requires_grad=True)
    target = torch.tensor([[1.0, 0, -1, 0, 0, -1], [0, 1, 0, 0, -1, 0]])
    loss = make(loss=SSLR, label_smooth_val=0.2, mode=mode)(score, target)
    (gradient,) = torch.autograd.grad(loss, score)
    assert not gradient[target < 0].any()
    assert gradient[target >= 0].all()


def test_targets_are_those_of_the_stock_loss():
    target = torch.eye(7)[[0, 3]]
    for mode in ('original', 'classy_vision', 'multi_label'):
        ours = make(loss=HSLR, label_smooth_val=0.1, num_classes=7, mode=mode)
        stock = LabelSmoothLoss(0.1, num_classes=7, mode=mode, use_sigmoid=True)
        assert_close(ours.smooth_label(target), stock.smooth_label(target))


def test_contract_of_the_loss_inside():
    """Empty batches, columns of labels, other numbers of classes, and errors by name."""
    module = make(loss=HSLR, label_smooth_val=0.1)
    score = torch.randn(4, 6)
    label = torch.tensor([0, 5, 2, 1])
    assert module(score[:0], label[:0]) == 0
    assert_close(module(score, label[:, None]), module(score, label))
    assert module(score[:, :5], label.clamp(max=4)).isfinite()
    for wrong, error, message in (
        (label + 1, ValueError, r'`label` to hold class indices in \[0, 6\), but got 6'),
        (label - 1, ValueError, r'`label` to hold class indices in \[0, 6\), but got -1'),
        (label[:3], ValueError, r'`label` to have shape \(4,\)'),
        (label.float(), TypeError, '`label`.*integer dtype'),
        ([0, 5, 2, 1], TypeError, '`label` to be a Tensor'),
    ):
        with pytest.raises(error, match=message):
            module(score, wrong)
    with pytest.raises(
        ValueError, match='`cls_score` to have 7 columns, `num_classes`, but got 6'
    ):
        make(loss=HSLR, label_smooth_val=0.1, num_classes=7)(score, label)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(label_smooth_val=1.0), ValueError, r'`label_smooth_val` to be in \[0, 1\), but got'),
        (dict(label_smooth_val=-0.1), ValueError, r'`label_smooth_val` to be in \[0, inf\)'),
        (
            dict(label_smooth_val='much'),
            TypeError,
            '`label_smooth_val` to be a number',
        ),
        (dict(num_classes=0), ValueError, '`num_classes` to be .*, but got 0'),
        (dict(num_classes=2.5), ValueError, '`num_classes` to be an int.*2.5'),
        (dict(mode='some'), ValueError, "Expected `mode` to be one of .*, but got 'some'"),
        (
            dict(loss=dict(type='mmpretrain.FocalLoss')),
            TypeError,
            'SSLRLoss, but got Foc',
        ),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        make(**(dict(loss=HSLR, label_smooth_val=0.1) | change))
