"""What both losses do alike: reductions, dtypes, extreme logits, edge cases, graphs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.cases import (
    DENSE_KINDS,
    DEVICES,
    LABEL_KINDS,
    LOSSES,
    assert_same,
    loss_and_grad,
    make_label,
    make_logits,
)

pytestmark = pytest.mark.parametrize('name', LOSSES)

SIZES = st.tuples(st.integers(1, 4), st.integers(2, 9))
SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize('kind', ['index', 'soft', 'multi_label', 'unknown'])
@pytest.mark.parametrize(
    ('reduction', 'avg_factor'),
    [
        ('mean', None),
        ('mean', 3),
        ('mean', 2.5),
        ('mean', torch.tensor(2.5)),
        ('sum', None),
        ('none', None),
        ('none', 4),
    ],
)
def test_reduction(name, reduction, avg_factor, kind):
    loss, oracle, kwargs = LOSSES[name]
    for weight in (None, torch.tensor([0.0, 1.0, 0.5, 2.0])):
        assert_same(
            loss,
            oracle,
            make_logits(4, 6),
            make_label(kind, 4, 6),
            weight=weight,
            reduction=reduction,
            avg_factor=avg_factor,
            **kwargs,
        )


@given(SIZES, SEEDS, st.sampled_from(LABEL_KINDS))
def test_batch_loss_is_the_mean_of_the_images_losses(name, size, seed, kind):
    loss, _, kwargs = LOSSES[name]
    cls_score, label = make_logits(*size, seed), make_label(kind, *size, seed)
    per_image = loss_and_grad(loss, cls_score, label, reduction='none', **kwargs)
    mean = loss_and_grad(loss, cls_score, label, **kwargs)
    assert per_image[0].shape == (size[0],)
    torch.testing.assert_close(per_image[0].mean(), mean[0])
    torch.testing.assert_close(per_image[1] / size[0], mean[1])


@given(SIZES, SEEDS)
def test_image_alone_has_the_loss_it_has_in_a_batch(name, size, seed):
    loss, _, kwargs = LOSSES[name]
    cls_score, label = make_logits(*size, seed), make_label('index', *size, seed)
    per_image = loss(cls_score, label, reduction='none', **kwargs)
    alone = [loss(cls_score[i : i + 1], label[i : i + 1], **kwargs) for i in range(size[0])]
    torch.testing.assert_close(per_image, torch.stack(alone))


@given(SIZES, SEEDS, st.sampled_from(DENSE_KINDS))
def test_permuted_classes_permute_the_gradient(name, size, seed, kind):
    loss, _, kwargs = LOSSES[name]
    cls_score, label = make_logits(*size, seed), make_label(kind, *size, seed)
    order = torch.randperm(size[1], generator=torch.Generator().manual_seed(seed))
    before = loss_and_grad(loss, cls_score, label, **kwargs)
    after = loss_and_grad(loss, cls_score[:, order], label[:, order], **kwargs)
    torch.testing.assert_close(after[0], before[0])
    torch.testing.assert_close(after[1], before[1][:, order])


@pytest.mark.parametrize('kind', ['index', 'soft', 'multi_label', 'unknown'])
def test_gradcheck(name, kind):
    loss, _, kwargs = LOSSES[name]
    cls_score, label = make_logits(4, 6).requires_grad_(), make_label(kind, 4, 6)
    class_weight = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, label, class_weight=class_weight, **kwargs), (cls_score,)
    )


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('scale', 'autocast'), [(1.0, False), (30.0, True), (1e4, False)])
@pytest.mark.parametrize('kind', ['index', 'soft', 'multi_label', 'unknown'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_and_extreme_logits(name, dtype, kind, scale, autocast, device):
    """Compare with the oracle on the same, rounded logits: only our own rounding counts."""
    loss, oracle, kwargs = LOSSES[name]
    # 0 and both ends in every row, +scale and -scale on positives and on negatives.
    cls_score = scale * (2 * torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) - 1)
    cls_score[:, :3] = torch.tensor([scale, -scale, 0.0])
    cls_score, label = cls_score.to(dtype), make_label(kind, 6, 9)
    if kind == 'index':
        label = torch.arange(6)

    expected_loss, expected_grad = loss_and_grad(oracle, cls_score.double(), label, **kwargs)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        actual_loss, grad = loss_and_grad(loss, cls_score.to(device), label.to(device), **kwargs)
    assert actual_loss.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(actual_loss.cpu().double(), expected_loss, rtol=2e-6, atol=1e-6)
    rtol = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    torch.testing.assert_close(grad.cpu().double(), expected_grad, rtol=rtol, atol=1e-7)


def test_class_that_is_masked_out(name):
    """By a logit of -inf, as an unknown entry or a negative: the term and its gradient are 0."""
    loss, _, kwargs = LOSSES[name]
    x = make_logits(2, 7).float()
    index = torch.tensor([0, 6])
    one_hot = torch.nn.functional.one_hot(index, 7)
    x[:, 3] = -torch.inf
    expected = loss_and_grad(loss, x, index, **kwargs)
    assert expected[0].isfinite() and not expected[1][:, 3].any()
    torch.testing.assert_close(loss_and_grad(loss, x, one_hot, **kwargs), expected)
    torch.testing.assert_close(
        (loss(x, one_hot, **kwargs), torch.func.grad(loss)(x, one_hot, **kwargs)), expected
    )
    x[:, 3] = 0.5
    one_hot[:, 3] = -1
    expected = loss_and_grad(loss, x, one_hot, **kwargs)
    x[:, 3] = -torch.inf
    torch.testing.assert_close(loss_and_grad(loss, x, one_hot, **kwargs), expected)


def test_loss_keeps_its_dtype(name):
    loss, _, kwargs = LOSSES[name]
    x, label = make_logits(4, 7).float(), make_label('index', 4, 7)
    avg_factor = torch.tensor(2.0, dtype=torch.float64)
    value = loss(x, label, avg_factor=avg_factor, **kwargs)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(x, label, avg_factor=2, **kwargs))


def test_gradient_lives_where_the_model_is_most_wrong(name):
    """At logits where log(p + 1e-7) has none in any dtype: 1 for a loss summed over classes."""
    loss, _, kwargs = LOSSES[name]
    focus = {key: value for key, value in kwargs.items() if key != 'alpha'}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        cls_score = torch.tensor([[-1000.0, 1000.0]], dtype=dtype)
        for label in (torch.tensor([0]), torch.tensor([[1.0, 0.0]])):
            _, grad = loss_and_grad(loss, cls_score, label, alpha='sum', **focus)
            torch.testing.assert_close(grad, torch.tensor([[-1.0, 1.0]], dtype=dtype))


def test_linear_layer_under_autocast(name):
    loss, _, kwargs = LOSSES[name]
    torch.manual_seed(0)
    layer, images, label = torch.nn.Linear(5, 4), torch.randn(3, 5), torch.tensor([0, 1, 3])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cls_score = layer(images)
        value = loss(cls_score, label, **kwargs)
    assert cls_score.dtype == torch.bfloat16 and value.dtype == torch.float32
    expected = loss_and_grad(loss, cls_score.float(), label, **kwargs)
    torch.testing.assert_close(value.detach(), expected[0])
    value.backward()
    torch.testing.assert_close(layer.bias.grad, expected[1].sum(0), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('kind', LABEL_KINDS)
def test_callers_tensors_stay_as_they_are(name, kind):
    loss, _, kwargs = LOSSES[name]
    tensors = dict(
        cls_score=make_logits(4, 6).float(),
        label=make_label(kind, 4, 6),
        weight=torch.rand(4),
        class_weight=torch.rand(6),
        pos_weight=torch.rand(6),
        avg_factor=torch.tensor(3.0),
    )
    before = {key: value.clone() for key, value in tensors.items()}
    leaf = tensors['cls_score'].requires_grad_()
    loss(**tensors, **kwargs).backward()
    assert leaf.grad is not None
    for key, value in tensors.items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize('kind', ['index', 'unknown'])
def test_strided_input(name, kind):
    """Transposed logits and every second label: no view needs them contiguous."""
    loss, _, kwargs = LOSSES[name]
    cls_score, label = make_logits(4, 6), make_label(kind, 4, 6)
    strided_score = cls_score.t().contiguous().t()
    strided_label = label.repeat_interleave(2, dim=0)[::2]
    assert not strided_score.is_contiguous() and not strided_label.is_contiguous()
    torch.testing.assert_close(
        loss(strided_score, strided_label, **kwargs), loss(cls_score, label, **kwargs)
    )


@pytest.mark.parametrize('kind', LABEL_KINDS)
def test_host_never_waits_for_the_device(name, kind):
    """On `meta` there is no value: reading one, or a shape that depends on one, raises."""
    loss, _, kwargs = LOSSES[name]
    cls_score = torch.empty(4, 6, device='meta', requires_grad=True)
    label = make_label(kind, 4, 6).to('meta')
    weights = dict(
        weight=torch.empty(4, device='meta'),
        class_weight=torch.empty(6, device='meta'),
        pos_weight=torch.empty(6, device='meta'),
        avg_factor=torch.empty((), device='meta'),
    )
    value = loss(cls_score, label, **weights, **kwargs)
    value.backward()
    assert value.shape == () and cls_score.grad.shape == (4, 6)


@pytest.mark.parametrize('kind', ['index', 'unknown'])
def test_mixes_no_devices(name, kind):
    """Fake CUDA tensors refuse to meet a tensor that was made on the CPU."""
    loss, _, kwargs = LOSSES[name]
    label = make_label(kind, 4, 6)
    with FakeTensorMode():
        cls_score = torch.empty(4, 6, device='cuda')
        label = torch.empty(label.shape, dtype=label.dtype, device='cuda')
        value = loss(cls_score, label, class_weight=torch.empty(6, device='cuda'), **kwargs)
    assert value.device.type == 'cuda'


@pytest.mark.parametrize('kind', ['index', 'multi_label'])
def test_no_images(name, kind):
    loss, _, kwargs = LOSSES[name]
    cls_score, label = make_logits(0, 5), make_label(kind, 0, 5)
    for reduction, avg_factor in (('mean', None), ('mean', 0), ('sum', None), ('none', None)):
        value, grad = loss_and_grad(
            loss, cls_score, label, reduction=reduction, avg_factor=avg_factor, **kwargs
        )
        assert value.shape == ((0,) if reduction == 'none' else ())
        assert value.sum() == 0 and grad.shape == (0, 5)


@pytest.mark.parametrize('fill', [0.0, 1.0, -1.0])
@pytest.mark.parametrize('rows', [[1], [0, 1, 2]])
@pytest.mark.parametrize('alpha', ['sum', 1.0])
def test_rows_and_batches_of_one_kind(name, alpha, rows, fill):
    """No positive, no negative, nothing known: in one image or in all."""
    loss, oracle, kwargs = LOSSES[name]
    label = make_label('multi_label', 3, 5)
    label[rows] = fill
    assert_same(loss, oracle, make_logits(3, 5), label, **(kwargs | dict(alpha=alpha)))
    value, grad = loss_and_grad(loss, make_logits(3, 5).float(), label, **kwargs)
    assert value.isfinite() and grad.isfinite().all()
    if fill < 0:
        assert (grad[rows] == 0).all()


@pytest.mark.parametrize('num_classes', [1, 2])
@pytest.mark.parametrize('kind', DENSE_KINDS)
def test_few_classes(name, kind, num_classes):
    loss, oracle, kwargs = LOSSES[name]
    label = make_label(kind, 6, num_classes)
    if num_classes == 1 and not label.is_floating_point() and label.dtype != torch.bool:
        label = label.float()  # an integer (N, 1) holds class indices
    assert_same(loss, oracle, make_logits(6, num_classes), label, **kwargs)


@pytest.mark.parametrize('kind', ['index', 'index_column', 'index_int32'])
def test_two_classes_by_index(name, kind):
    loss, oracle, kwargs = LOSSES[name]
    assert_same(loss, oracle, make_logits(6, 2), make_label(kind, 6, 2), **kwargs)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dense_label_dtypes(name, dtype):
    loss, oracle, kwargs = LOSSES[name]
    label = make_label('unknown_soft', 4, 6).to(dtype)
    assert_same(loss, oracle, make_logits(4, 6), label, **kwargs)


def test_label_with_a_gradient_takes_none(name):
    """Targets of a teacher: the loss is no path to it."""
    loss, _, kwargs = LOSSES[name]
    label = make_label('soft', 4, 6).requires_grad_()
    loss(make_logits(4, 6).requires_grad_(), label, **kwargs).backward()
    assert label.grad is None
