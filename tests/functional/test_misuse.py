"""Every misuse has an error that names the argument and shows its value."""

import math
import re

import pytest
import torch

from frlr_mm.functional import hs_lr_loss, num_selected, ss_lr_loss
from tests.support.cases import LOSSES

ANY_LOSS = pytest.mark.parametrize('name', LOSSES)


def call(name, **changes):
    loss, _, kwargs = LOSSES[name]
    arguments = dict(cls_score=torch.zeros(4, 3), label=torch.tensor([0, 1, 2, 0])) | kwargs
    return loss(**(arguments | changes))


def message(argument, value):
    return rf'`{argument}`.*{re.escape(str(value))}'


@ANY_LOSS
@pytest.mark.parametrize(
    ('error', 'value'),
    [
        (ValueError, -0.1),
        (ValueError, math.nan),
        (ValueError, math.inf),
        (ValueError, 10**400),  # beyond every float
        (TypeError, 'mean'),
        (TypeError, None),
        (TypeError, True),
        (TypeError, torch.tensor(1.0)),
    ],
)
def test_alpha(name, error, value):
    with pytest.raises(error, match=message('alpha', value)):
        call(name, alpha=value)


@pytest.mark.parametrize(
    ('error', 'value'),
    [
        (ValueError, 0),
        (ValueError, 0.0),
        (ValueError, -0.1),
        (ValueError, 1.5),
        (ValueError, math.nan),
        (ValueError, math.inf),
        (TypeError, '0.1'),
        (TypeError, None),
        (TypeError, True),
    ],
)
def test_ratio(error, value):
    with pytest.raises(error, match=message('ratio', value)):
        hs_lr_loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), ratio=value)


@pytest.mark.parametrize('value', [0, -1, 2.0, math.nan])
def test_num_selected_of_a_wrong_ratio(value):
    with pytest.raises(ValueError, match=rf'`ratio` to be in \(0, 1\], but got {value}'):
        num_selected(100, value)


def test_ratio_is_told_its_range():
    with pytest.raises(ValueError, match=r'^Expected `ratio` to be in \(0, 1\], but got 1\.5$'):
        hs_lr_loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), ratio=1.5)


@pytest.mark.parametrize(
    ('error', 'value'),
    [
        (ValueError, -0.1),
        (ValueError, math.nan),
        (ValueError, math.inf),
        (TypeError, '1'),
        (TypeError, None),
        (TypeError, False),
    ],
)
def test_gamma(error, value):
    with pytest.raises(error, match=message('gamma', value)):
        ss_lr_loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), gamma=value)


@ANY_LOSS
@pytest.mark.parametrize('value', ['avg', '', None, 1, ['mean']])
def test_reduction(name, value):
    with pytest.raises(ValueError, match=message('reduction', repr(value))):
        call(name, reduction=value)


@ANY_LOSS
@pytest.mark.parametrize('shape', [(3,), (4, 3, 1), ()])
def test_cls_score_shape(name, shape):
    with pytest.raises(ValueError, match=message('cls_score', shape)):
        call(name, cls_score=torch.zeros(shape))


@ANY_LOSS
@pytest.mark.parametrize(
    'dtype', [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_cls_score_dtype(name, dtype):
    with pytest.raises(TypeError, match=message('cls_score', dtype)):
        call(name, cls_score=torch.zeros(4, 3, dtype=dtype))


@ANY_LOSS
@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [
        ((3,), torch.int64),  # one index too few
        ((1,), torch.int64),
        ((3, 1), torch.int64),
        ((1, 4), torch.int64),
        ((4, 2), torch.float32),  # a class too few
        ((4, 1), torch.float32),
        ((4, 1), torch.bool),
        ((1, 3), torch.float32),  # would broadcast
        ((3, 4), torch.float32),  # transposed
        ((4, 3, 1), torch.float32),
        ((), torch.int64),
    ],
)
def test_label_shape(name, shape, dtype, device):
    with pytest.raises(ValueError, match=message('label', shape)):
        call(
            name,
            cls_score=torch.zeros(4, 3, device=device),
            label=torch.zeros(shape, dtype=dtype, device=device),
        )


@ANY_LOSS
@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [
        ((4,), torch.float32),
        ((4,), torch.bool),
        ((4,), torch.complex64),
        ((4, 3), torch.complex64),
        ((4, 3), torch.float8_e4m3fn),
        ((4, 3), getattr(torch, 'uint16', torch.complex128)),  # from torch 2.3 on
    ],
)
def test_label_dtype(name, shape, dtype):
    with pytest.raises(TypeError, match=message('label', dtype)):
        call(name, label=torch.zeros(shape, dtype=dtype))


@ANY_LOSS
@pytest.mark.parametrize('value', [-1, 3, 255])
def test_index_outside_the_classes(name, value):
    for label in (torch.tensor([0, 1, value, 0]), torch.tensor([[0], [1], [value], [0]])):
        with pytest.raises(ValueError, match=message('label', f'[0, 3), but got {value}')):
            call(name, label=label)


@ANY_LOSS
@pytest.mark.parametrize('value', [1.5, 2, 255, math.inf, math.nan])
def test_target_outside_its_range(name, value):
    label = torch.zeros(4, 3)
    label[2, 1] = value
    with pytest.raises(ValueError, match=message('label', label[2, 1].item())):
        call(name, label=label)


@ANY_LOSS
def test_index_needs_two_classes(name):
    with pytest.raises(ValueError, match=r'`cls_score`.*at least 2 classes.*but got 1'):
        call(name, cls_score=torch.zeros(4, 1), label=torch.zeros(4, dtype=torch.int64))


@ANY_LOSS
@pytest.mark.parametrize(
    'argument', ['cls_score', 'label', 'weight', 'class_weight', 'pos_weight']
)
@pytest.mark.parametrize(
    ('value', 'shown'),
    [([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), (torch.ones(4, 3).to_sparse(), 'torch.sparse_coo')],
)
def test_no_dense_tensor(name, argument, value, shown):
    with pytest.raises(TypeError, match=message(argument, shown)):
        call(name, **{argument: value})


@ANY_LOSS
@pytest.mark.parametrize(
    ('argument', 'length'), [('weight', 4), ('class_weight', 3), ('pos_weight', 3)]
)
def test_complex_factor(name, argument, length):
    with pytest.raises(TypeError, match=message(argument, 'torch.complex64')):
        call(name, **{argument: torch.ones(length, dtype=torch.complex64)})


@ANY_LOSS
@pytest.mark.parametrize('shape', [(3,), (4, 1), (1,), (), (4, 3)])
def test_weight_shape(name, shape):
    with pytest.raises(ValueError, match=message('weight', shape)):
        call(name, weight=torch.ones(shape))


@ANY_LOSS
@pytest.mark.parametrize('argument', ['class_weight', 'pos_weight'])
@pytest.mark.parametrize('shape', [(4,), (1,), (), (1, 3), (4, 3)])
def test_class_factor_shape(name, argument, shape):
    with pytest.raises(ValueError, match=message(argument, shape)):
        call(name, **{argument: torch.ones(shape)})


@ANY_LOSS
def test_avg_factor_with_sum(name):
    with pytest.raises(ValueError, match=message('avg_factor', 4)):
        call(name, reduction='sum', avg_factor=4)


@ANY_LOSS
@pytest.mark.parametrize(
    ('error', 'value', 'shown'),
    [
        (ValueError, 0, 0),
        (ValueError, -2.0, -2.0),
        (ValueError, math.nan, 'nan'),
        (ValueError, math.inf, 'inf'),
        (TypeError, torch.tensor(1j), 'torch.complex64'),
        (TypeError, '4', '4'),
        (TypeError, True, True),
        (ValueError, torch.ones(4), (4,)),  # would broadcast the loss to (4,)
        (ValueError, torch.ones(1), (1,)),
    ],
)
def test_avg_factor(name, error, value, shown):
    with pytest.raises(error, match=message('avg_factor', shown)):
        call(name, avg_factor=value)
