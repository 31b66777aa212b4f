"""One rule for ties on every path: of equal negatives the first classes are selected."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from frlr_mm.functional import fused_linear_hs_lr_loss, hs_lr_loss, num_selected


def selected_by_hand(x, label, k):
    """Sort by (value downward, class upward), the positive left out; return the classes."""
    return [
        {j for _, j in sorted((-v, j) for j, v in enumerate(row) if j != target)[:k]}
        for row, target in zip(x.tolist(), label.tolist())
    ]


def selected(grad, label):
    """Return the negatives that have a gradient."""
    negative = grad.scatter(1, label[:, None], 0) != 0
    return [set(row.nonzero().flatten().tolist()) for row in negative]


def gradient(x, label, **kwargs):
    x = x.clone().requires_grad_()
    hs_lr_loss(x, label, **kwargs).backward()
    return x.grad


def fused_gradient(x, label, ratio, **kwargs):
    # The classifier's bias is the row of logits, so that each image goes by itself.
    rows = []
    for row, target in zip(x, label):
        bias = row.clone().requires_grad_()
        fused_linear_hs_lr_loss(
            x.new_zeros(1, 2), x.new_zeros(len(row), 2), bias, target[None], ratio=ratio, **kwargs
        ).backward()
        rows.append(bias.grad)
    return torch.stack(rows)


def with_threads(num, function):
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


PATHS = {
    'one thread': lambda x, y, r: with_threads(1, lambda: gradient(x, y, ratio=r)),
    'two threads': lambda x, y, r: with_threads(2, lambda: gradient(x, y, ratio=r)),
    'float64': lambda x, y, r: gradient(x.double(), y, ratio=r),
    'bfloat16': lambda x, y, r: gradient(x.bfloat16(), y, ratio=r),
    'one-hot': lambda x, y, r: gradient(x, F.one_hot(y, x.shape[1]), ratio=r),
    'dense float64': lambda x, y, r: gradient(
        x.double(), F.one_hot(y, x.shape[1]).double(), ratio=r
    ),
    'class weights': lambda x, y, r: gradient(
        x, y, ratio=r, class_weight=torch.full((x.shape[1],), 2.0)
    ),
    'fused': lambda x, y, r: fused_gradient(x, y, r),
    'fused in chunks': lambda x, y, r: fused_gradient(x, y, r, chunk_budget=150),
    'fused, class weights': lambda x, y, r: fused_gradient(
        x, y, r, class_weight=torch.full((x.shape[1],), 2.0)
    ),
    'torch.func': lambda x, y, r: torch.func.grad(lambda z: hs_lr_loss(z, y, ratio=r))(x),
}


@st.composite
def cases(draw):
    """Draw logits of few distinct values, exact in bfloat16, both zeros among them."""
    num_images, num_classes = draw(st.integers(1, 4)), draw(st.integers(3, 150))
    values = draw(st.sampled_from([(0.0,), (0.0, -0.0), (-1.0, 0.0, -0.0, 2.0), (-8.0, 0.5)]))
    ratio = draw(st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.9]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    places = torch.randint(len(values), (num_images, num_classes), generator=generator)
    label = torch.randint(num_classes, (num_images,), generator=generator)
    return torch.tensor(values)[places], label, ratio


@given(cases())
def test_first_classes_win_on_every_path(case):
    x, label, ratio = case
    expected = selected_by_hand(x, label, num_selected(x.shape[1], ratio))
    for path, run in PATHS.items():
        assert selected(run(x, label, ratio), label) == expected, path


@pytest.mark.parametrize('num_classes', [50, 200])
def test_first_classes_win_when_compiled(num_classes):
    x, label = torch.zeros(3, num_classes), torch.tensor([0, 1, 49])
    compiled = torch.compile(hs_lr_loss, backend='aot_eager', fullgraph=True)
    leaf = x.clone().requires_grad_()
    compiled(leaf, label, ratio=0.1).backward()
    assert selected(leaf.grad, label) == selected_by_hand(x, label, num_classes // 10)


def test_large_batch_over_threads():
    """The example that once put the gradient on other classes with two threads."""
    x, label = torch.zeros(8, 200), torch.full((8,), 199)
    for num in (1, 2):
        grad = with_threads(num, lambda: gradient(x, label, ratio=0.1))
        assert selected(grad, label) == [set(range(20))] * 8
