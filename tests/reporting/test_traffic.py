"""The bytes that operations move and hold, counted and compared with real allocations."""

import pytest
import torch
import torch.nn.functional as F

from frlr_mm.functional import ss_lr_loss
from frlr_mm.reporting.machine import peak_memory
from frlr_mm.reporting.traffic import count_traffic, num_bytes


# (To write float32 into a bfloat16 result, a CPU takes a buffer while it runs.)
@pytest.mark.parametrize(
    ('loss', 'dtype'),
    [
        (F.cross_entropy, torch.float32),
        (F.cross_entropy, torch.bfloat16),
        (ss_lr_loss, torch.float32),
        (ss_lr_loss, torch.float64),
    ],
)
def test_peak_is_what_a_cpu_allocates(loss, dtype):
    x = torch.randn(300, 1000).to(dtype).requires_grad_()
    label = torch.randint(1000, (300,))
    counts = []
    real = peak_memory(
        lambda: counts.append(count_traffic(lambda: loss(x, label).backward())), 'cpu'
    )
    assert counts[0].peak == real


def test_matrix_on_meta_counts_as_on_the_cpu():
    counts = []
    for device in ('cpu', 'meta'):
        x = torch.zeros(6, 10, device=device, requires_grad=True)
        label = torch.zeros(6, dtype=torch.int64, device=device)
        mode = count_traffic(lambda x=x, label=label: F.cross_entropy(x, label).backward())
        counts.append((mode.read, mode.written, mode.peak, mode.operations))
    assert counts[0] == counts[1]


X, ROW = torch.zeros(4, 100), torch.zeros(4, 1)
INDEX = torch.zeros(4, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ('function', 'read', 'written'),
    [
        (lambda: X + X, 3200, 1600),
        (lambda: X.mul(ROW.expand(4, 100)), 1616, 1600),
        (lambda: X.clone().mul_(2), 3200, 3200),
        (lambda: torch.sigmoid(X, out=torch.empty(4, 100)), 1600, 1600),
        (lambda: X.t()[1:].unsqueeze(0).detach(), 0, 0),
        (lambda: torch.empty(4, 100), 0, 0),
        (lambda: X.new_zeros(4, 100), 0, 1600),
        (lambda: torch.zeros_like(X), 0, 1600),
        (lambda: torch.empty(4, 100).fill_(1.0), 0, 1600),
        (lambda: torch.empty(4, 100).copy_(X), 1600, 1600),
        (lambda: X.gather(1, INDEX), 32 + 64, 32),
        (lambda: torch.empty(4, 100).scatter_(1, INDEX, 0.0), 64, 32),
        (lambda: torch.empty(4, 100).scatter_(1, INDEX, X[:, :2]), 64 + 32, 32),
        (lambda: X.scatter(1, INDEX, 0.0), 1600 + 64, 1600),
        (lambda: X.topk(2).values, 1600, 32 + 64),
        (lambda: X.bfloat16(), 1600, 800),
    ],
)
def test_bytes_of_an_operation(function, read, written):
    mode = count_traffic(function)
    assert (mode.read, mode.written) == (read, written)
    assert sum(r + w for _, r, w in mode.operations) == read + written


def test_peak_forgets_what_is_gone():
    def chain():
        x = torch.zeros(100)
        for _ in range(5):
            x = x + 1
        return x

    assert count_traffic(chain).peak == 800


def test_what_is_repeated_counts_once():
    assert num_bytes(ROW.expand(4, 100)) == 16
    assert num_bytes(torch.empty(0, 3)) == 0
    assert num_bytes(X.t()) == 1600
