"""What fusing leaves of the bytes of a function, and the targets of the losses."""

import pytest
import torch
import torch.nn.functional as F

from frlr_mm.functional import hs_lr_loss, ss_lr_loss
from frlr_mm.reporting.compiled_traffic import count_compiled_traffic

N, C = 512, 5000
INDEX, DENSE = ((N,), torch.int64), ((N, C), torch.float32)


def count(function, dtype, label=INDEX):
    """Return passes over the logits' matrix and the peak, in its units."""
    traffic = count_compiled_traffic(function, [((N, C), dtype), label])
    unit = N * C * dtype.itemsize
    return traffic.moved / unit, traffic.peak / unit


@pytest.mark.parametrize(
    ('function', 'passes', 'peak'),
    [
        # Forward reads x and writes next to nothing; the gradient is one number, repeated.
        (lambda x, y: x.sum(), 1, 0),
        # Backward reads x once more: to keep the exponentials would take a write and a read.
        (lambda x, y: x.exp().sum(), 3, 1),
        # What is gathered is little, beside another reduction in the same kernel as well; its
        # gradient is zeros, scattered into, and read with x where the other is added.
        (lambda x, y: (x.gather(1, y[:, None]) * x.exp().sum(1, keepdim=True)).sum(), 5, 2),
    ],
    ids=['sum', 'exp', 'gather'],
)
def test_fused_functions_move_what_they_have_to(function, passes, peak):
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        actual = count(function, torch.float32)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(num_threads)
    assert actual[0] == pytest.approx(passes, abs=0.01)
    assert actual[1] == pytest.approx(peak, abs=0.01)


@pytest.mark.parametrize(
    ('loss', 'label', 'passes', 'peak'),
    [
        (ss_lr_loss, INDEX, 4.1, 2.01),
        (hs_lr_loss, INDEX, 9.6, 2.1),
        (ss_lr_loss, DENSE, 8.1, 2.01),
        (hs_lr_loss, DENSE, 22.5, 3.3),
    ],
)
def test_passes_over_bfloat16_compiled(loss, label, passes, peak):
    actual = count(loss, torch.bfloat16, label)
    assert actual[0] <= passes and actual[1] <= peak


def test_counting_ends_with_the_count():
    """The losses are themselves again: on a CPU, half precision is kept in float32."""
    count(ss_lr_loss, torch.bfloat16)
    score = torch.zeros(3, 4, dtype=torch.bfloat16, requires_grad=True)
    loss = ss_lr_loss(score, torch.tensor([0, 1, 2]), reduction='none')
    assert loss.grad_fn.saved_tensors[0].dtype == torch.float32
    assert F.cross_entropy(score, torch.tensor([0, 1, 2])).isfinite()
