"""Both losses against values that the authors' own code computed in float64."""

import pytest
import torch

from frlr_mm.functional import hs_lr_loss, ss_lr_loss
from tests.support.cases import REFERENCE_CASES, loss_and_grad
from tests.support.references import hs_lr_loss_as_published, ss_lr_loss_as_published

FUNCTIONS = {
    'hs_lr': (hs_lr_loss, hs_lr_loss_as_published, 'ratio'),
    'ss_lr': (ss_lr_loss, ss_lr_loss_as_published, 'gamma'),
}


def test_all_cases_are_here():
    assert len(REFERENCE_CASES) == 48


@pytest.mark.parametrize(
    'case', REFERENCE_CASES, ids=lambda case: f'{case["label"]}-{case["loss"]}'
)
def test_equals_authors_values(case):
    """Agree to 1e-6 in the loss and in each entry of the gradient, but for the authors' eps.

    They add eps = 1e-7 to p and to 1 - p inside the logarithms. To first order that takes
    eps / p off a positive's term and eps / (1 - p) off a negative's: with alpha = 10 up to 2e-5 of
    the loss and 8e-6 of a gradient entry. So what is compared is the file's value with the effect
    of eps taken out of it, after their formula with their eps has been seen to give the file's
    value.
    """
    function, published, focus = FUNCTIONS[case['loss']]
    kwargs = {'alpha': case['alpha'], focus: case[focus]}
    cls_score = torch.tensor(case['logits'], dtype=torch.float64)
    label = torch.tensor(case['target'])
    expected = (
        torch.tensor(case['expected_loss'], dtype=torch.float64),
        torch.tensor(case['expected_grad'], dtype=torch.float64),
    )

    actual = loss_and_grad(function, cls_score, label, **kwargs)
    with_eps = loss_and_grad(published, cls_score, label, eps=1e-7, **kwargs)
    without_eps = loss_and_grad(published, cls_score, label, eps=0.0, **kwargs)
    for ours, file, theirs, theirs_without in zip(actual, expected, with_eps, without_eps):
        torch.testing.assert_close(theirs, file, rtol=0, atol=1e-9)
        effect_of_eps = theirs_without - theirs
        assert effect_of_eps.abs().max() < 2e-6 * (1 + case['alpha'])
        torch.testing.assert_close(ours, file + effect_of_eps, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours, theirs_without, rtol=0, atol=1e-12)
