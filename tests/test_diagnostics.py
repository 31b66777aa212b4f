"""The numbers of the distraction monitor where they are known by hand."""

import pytest
import torch

from frlr_mm.diagnostics import (
    effective_negatives,
    negative_share,
    selection_threshold,
)

NEGATIVE = torch.tensor([[0.0, 0.5, 0.5, 0.5], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
NAN = torch.tensor(torch.nan)


def test_negative_share():
    positive = torch.tensor([[-1.0, 0, 0, 0], [-0.25, 0, 0, 0], [-0.25, 0, 0, 0]])
    assert negative_share(positive, NEGATIVE) == 4.5 / 6
    assert negative_share(positive, 0 * positive) == 0
    assert negative_share(0 * positive, NEGATIVE) == 1
    assert negative_share(0 * positive, 0 * positive).isnan()


@pytest.mark.parametrize('scale', [1, -1, 1e-30, 1e30])
def test_effective_negatives(scale):
    """Three that share and one alone; the image without negatives does not count."""
    torch.testing.assert_close(effective_negatives(scale * NEGATIVE), torch.tensor(2.0))


def test_effective_negatives_of_unequal_ones():
    grad = torch.tensor([[2.0, 1.0, 1.0]])
    torch.testing.assert_close(effective_negatives(grad), torch.tensor(16 / 6))


def test_selection_threshold():
    score = torch.tensor([[-9.0, 2, 0, 1], [-9, -1, -2, -3], [1, 2, 3, 4]])
    expected = (torch.tensor(0.0).sigmoid() + torch.tensor(-1.0).sigmoid()) / 2
    torch.testing.assert_close(selection_threshold(score, NEGATIVE), expected)


@pytest.mark.parametrize('num_images', [0, 2])
def test_nothing_to_measure(num_images):
    zeros = torch.zeros(num_images, 4)
    for value in (
        negative_share(zeros, zeros),
        effective_negatives(zeros),
        selection_threshold(zeros, zeros),
    ):
        torch.testing.assert_close(value, NAN, equal_nan=True)
