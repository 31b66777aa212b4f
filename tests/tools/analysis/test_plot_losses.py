"""The curves are those of the losses."""

import runpy

import pytest
import torch

from tests.tools.conftest import ROOT

SCRIPT = ROOT / 'tools/analysis/plot_losses.py'


def test_curves_against_the_formulas():
    tool = runpy.run_path(str(SCRIPT))
    context = tool['make_context'](50, 0)
    x = tool['LOGITS']
    lr = tool['LOSSES']['LR']
    value, gradient = tool['compute'](lr, context, tool['POSITIVE'])
    torch.testing.assert_close(value, torch.nn.functional.softplus(-x), atol=1e-9, rtol=0)
    torch.testing.assert_close(gradient, x.sigmoid() - 1)
    value, gradient = tool['compute'](lr, context, tool['NEGATIVE'])
    torch.testing.assert_close(value, torch.nn.functional.softplus(x), atol=1e-9, rtol=0)
    torch.testing.assert_close(gradient, x.sigmoid())
    # Softmax: the gradient of a class is its probability.
    logits = context.repeat(len(x), 1)
    logits[:, tool['NEGATIVE']] = x
    _, gradient = tool['compute'](tool['LOSSES']['SR'], context, tool['NEGATIVE'])
    torch.testing.assert_close(gradient, logits.softmax(1)[:, tool['NEGATIVE']])


def test_writes_two_figures(run_tool, tmp_path):
    args = ('--ratios', 0.1, '--gammas', 1, '--alphas', 'sum', '--num-classes', 20)
    status, output = run_tool('analysis/plot_losses.py', '--out', 'figures', *args)
    assert status == 0, output
    names = {path.name for path in (tmp_path / 'figures').iterdir()}
    assert names == {
        f'{name}{suffix}'
        for name in ('gradient_on_negatives', 'losses')
        for suffix in ('.png', '.svg')
    }


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('--num-classes', 2), 'expected --num-classes to be at least 3, but got 2'),
        (('--ratios', 2), '`ratio` to be in (0, 1], but got 2'),
    ],
)
def test_wrong_arguments_are_one_line(run_tool, args, message):
    status, output = run_tool('analysis/plot_losses.py', '--out', 'figures', *args)
    assert status != 0 and message in output and 'Traceback' not in output
