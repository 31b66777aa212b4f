"""Hard selection by counting, as a compiler gets it for a GPU, against selection by sorting."""

import pytest
import torch

from frlr_mm.functional import _count, _select
from frlr_mm.functional._count import is_counted_in, last_tied
from frlr_mm.functional._select import hardest, is_selected, least_and_ties
from tests.support.cases import HALF_DTYPES, make_label, make_logits


def always(value):
    return True


@pytest.mark.parametrize('dtype', HALF_DTYPES)
@pytest.mark.parametrize('rounded', [False, True])
@pytest.mark.parametrize(
    ('shape', 'k'),
    [((5, 7), 3), ((4, 128), 12), ((41, 401), 40), ((3, 1271), 1), ((2, 300), 299)],
)
def test_counts_as_sorting_selects(shape, k, rounded, dtype):
    value = make_logits(*shape)
    value = (value.round() if rounded else value).to(dtype)
    value[0, :3] = torch.tensor([0.0, -0.0, torch.inf])
    value[1, 0], value[1, 1] = -torch.inf, torch.nan
    target = make_label('index_column', *shape)
    expected = torch.zeros(shape, dtype=torch.bool)
    expected.scatter_(1, hardest(value.float(), k, target), True)
    if k == 1:
        expected[1] = ~(value[1] <= torch.nan)  # a least of NaN is not exceeded
        expected[1, target[1]] = False
    assert torch.equal(is_counted_in(value, k, target), expected)


def test_equal_values_select_the_first_classes():
    value = torch.full((2, 700), 3.0, dtype=torch.bfloat16)
    value[:, 600] = 4.0
    selected = is_counted_in(value, 300, torch.tensor([[0], [599]]))
    for row, first in zip(selected, (1, 0)):
        assert row.nonzero().squeeze(1).tolist() == [*range(first, first + 299), 600]


@pytest.mark.parametrize('ties', [0, 1, 128, 129, 259, 260, 1000])
def test_last_of_those_that_tie(ties):
    """As many as there are, and none, where a chunk has fewer than are left to be selected."""
    value = torch.zeros(1, 390)
    value[0, ::3] = 1.0
    last = last_tied(value, lambda some: some == 0, torch.tensor([[ties]]))
    tied = (value == 0) & (torch.arange(390) <= last)
    assert tied.sum() == min(ties, 260)


def test_counted_are_half_precision_for_a_device(monkeypatch):
    values = {
        (device, dtype): torch.empty(2, 3, dtype=dtype, device=device)
        for device in ('cpu', 'meta')
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert not any(map(_count.counts_ties, values.values()))  # not compiled
    monkeypatch.setattr(_count, 'is_compiling', lambda: True)
    assert [key for key, value in values.items() if _count.is_countable(value)] == [
        ('meta', torch.bfloat16)
    ]
    assert [device for (device, _), value in values.items() if _count.counts_ties(value)] == [
        'meta',
        'meta',
    ]


def test_selection_is_the_same_by_segments(monkeypatch):
    value = make_logits(6, 1000).round().float()
    chosen = least_and_ties(value, 100)
    expected = is_selected(value, *chosen)
    assert expected.sum() == 600
    monkeypatch.setattr(_select, 'counts_ties', always)
    assert torch.equal(is_selected(value, *chosen), expected)
