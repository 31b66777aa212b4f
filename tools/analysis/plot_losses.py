"""Draw loss and gradient against the logit of a positive and of a negative class.

Two figures: gradient_on_negatives is the gradient of a negative's logit for each loss; losses is
the rest. Every curve comes from the loss itself, as a head calls it, by automatic differentiation.
"""

import argparse
import math
from pathlib import Path

import mmpretrain.models  # noqa: F401 (registers the stock losses)
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmpretrain.registry import MODELS
from torch import Tensor

import frlr_mm  # noqa: F401 (registers the losses)
from frlr_mm.engine.launch import one_line_errors
from frlr_mm.reporting.figures import line_styles, save_figure, variant_styles

LOGITS = torch.linspace(-10, 10, 161, dtype=torch.float64)
FAR = 30.0  # a logit at which a right answer costs nothing
SPREAD = 2.0  # the standard deviation of the other logits
POSITIVE, NEGATIVE = 0, 1  # columns
# Each loss as the recipes have it, or else by default.
HS_LR, SS_LR = dict(type='HSLRLoss', ratio=0.01), dict(type='SSLRLoss', gamma=0.25)
LOSSES = {
    'SR': dict(type='CrossEntropyLoss'),
    'LR': dict(type='SSLRLoss', gamma=0.0),
    'HS-LR, ratio 0.01': HS_LR,
    'SS-LR, gamma 0.25': SS_LR,
    'focal': dict(type='FocalLoss'),
    'ASL': dict(type='AsymmetricLoss'),
}


def alpha_type(text: str) -> float | str:
    """Read a number or 'sum'."""
    return text if text == 'sum' else float(text)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='the folder of both figures, PNG and SVG'
    )
    parser.add_argument('--num-classes', type=int, default=1000, help='C (default: 1000)')
    parser.add_argument('--ratios', type=float, nargs='+', default=[1, 0.1, 0.01], help='of HS-LR')
    parser.add_argument(
        '--gammas', type=float, nargs='+', default=[0, 0.25, 1, 2], help='of SS-LR'
    )
    parser.add_argument(
        '--alphas',
        type=alpha_type,
        nargs='+',
        default=['sum', 100, 1],
        help="of both, numbers or 'sum'",
    )
    parser.add_argument('--seed', type=int, default=0, help='of the other logits (default: 0)')
    args = parser.parse_args()
    if args.num_classes < 3:
        parser.error(f'expected --num-classes to be at least 3, but got {args.num_classes}')
    return args


def make_context(num_classes: int, seed: int) -> Tensor:
    """Draw the logits (C,) of an image at random around the prior 1 / C; the positive's is 0."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(num_classes, generator=generator, dtype=torch.float64)
    context = context * SPREAD - math.log(num_classes - 1)
    context[POSITIVE] = 0
    return context


def compute(loss: dict, context: Tensor, column: int) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of an image for each logit of a column.

    The loss is what exceeds its value where the logit is far on the right side: what the other
    classes cost whatever this logit is would only shift the curve.
    """
    far = FAR if column == POSITIVE else -FAR
    x = torch.cat([LOGITS, LOGITS.new_tensor([far])]).requires_grad_()
    cls_score = context.repeat(len(x), 1)
    cls_score[:, column] = x
    label = torch.full((len(x),), POSITIVE)
    # Losses of entries (N, C) or of images (N,): heads average their sum over the images.
    value = MODELS.build(loss)(cls_score, label, reduction_override='none')
    value = value.reshape(len(x), -1).sum(1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return (value[:-1] - value[-1]).detach(), gradient[:-1]


Lines = list[tuple[str, dict, dict]]  # label, loss, style


def draw_lines(axis: Axes, lines: Lines, context: Tensor, column: int, gradient: bool) -> None:
    """Draw a line for each loss: the loss, or its gradient."""
    positive = column == POSITIVE
    # Lines that coincide (the positive class of LR, HS-LR, SS-LR) take turns with their markers.
    for i, (label, loss, style) in enumerate(lines):
        value, slope = compute(loss, context, column)
        y = (-slope if positive else slope) if gradient else value
        axis.plot(
            LOGITS.numpy(), y.numpy(), label=label, linewidth=1.8, markevery=(7 * i, 50), **style
        )
    axis.set_xlabel(f'logit of {"the positive" if positive else "a negative"} class')
    slope_name = f'{"-" if positive else ""}∂ loss / ∂ logit'
    axis.set_ylabel(slope_name if gradient else 'loss above its least value, nats')
    axis.grid(alpha=0.3)
    axis.set(xlim=(LOGITS[0].item(), LOGITS[-1].item()), xticks=range(-10, 11, 5))
    if gradient and not positive:
        # The gradient that a negative gets when it is low already shows on this axis alone.
        axis.set(yscale='log', ylim=1e-6)


def every_loss() -> Lines:
    styles = line_styles(list(LOSSES))
    return [(name, LOSSES[name], style) for name, style in zip(LOSSES, styles, strict=True)]


def variants(name: str, loss: dict, key: str, values: list) -> Lines:
    """Return a loss with each value of a parameter."""
    return [
        (f'{key} {value}', loss | {key: value}, style)
        for value, style in zip(values, variant_styles(name, len(values)), strict=True)
    ]


def describe(args: argparse.Namespace) -> str:
    prior = -math.log(args.num_classes - 1)
    return (
        f"One image of {args.num_classes:,} classes. The other negatives' logits are normal with "
        f'mean {prior:.2f} (the prior 1 / C) and\nstandard deviation {SPREAD:g}, seed '
        f'{args.seed}; where a negative moves, the logit of the positive is 0.'
    )


def draw_message(args: argparse.Namespace, context: Tensor) -> Figure:
    """Draw the gradient on a negative for each loss."""
    figure = Figure(figsize=(8, 4.8), layout='constrained')
    axis = figure.subplots()
    draw_lines(axis, every_loss(), context, NEGATIVE, gradient=True)
    axis.legend(loc='lower right', fontsize=10)
    axis.set_title(
        'An easy negative gets less gradient from SS-LR than from LR, and none from HS-LR;\n'
        'a hard one gets as much from all three',
        fontsize=12,
    )
    figure.supxlabel(describe(args), fontsize=9)
    return figure


def draw_rest(args: argparse.Namespace, context: Tensor) -> Figure:
    """Draw the positive class, the loss of a negative, and what ratio, gamma and alpha do."""
    ratios = variants('HS-LR', HS_LR, 'ratio', args.ratios)
    gammas = variants('SS-LR', SS_LR, 'gamma', args.gammas)
    alphas = [
        (f'{name}, {label}', *rest)
        for name, loss in (('HS-LR', HS_LR), ('SS-LR', SS_LR))
        for label, *rest in variants(name, loss, 'alpha', args.alphas)
    ]
    panels = (
        ('Positive: LR, HS-LR, SS-LR and ASL are equal', every_loss(), POSITIVE, False),
        ("Positive: softmax's gradient lasts longest", every_loss(), POSITIVE, True),
        ("Negative: ASL's loss alone levels off", every_loss(), NEGATIVE, False),
        ('HS-LR: the ratio sets a threshold', ratios, NEGATIVE, True),
        ('SS-LR: gamma spares easy negatives', gammas, NEGATIVE, True),
        ('Both: alpha scales the gradient', alphas, NEGATIVE, True),
    )
    figure = Figure(figsize=(8, 9.6), layout='constrained')
    figure.suptitle(f"{describe(args)} alpha is 'sum' unless stated.", fontsize=9.5)
    for axis, (title, lines, column, gradient) in zip(figure.subplots(3, 2).flat, panels):
        draw_lines(axis, lines, context, column, gradient)
        axis.set_title(title, fontsize=11)
        if lines is alphas:
            axis.set_ylim(1e-9)  # room for the legend
        if lines != panels[0][1] or (column == POSITIVE and not gradient):
            place = 'upper right' if column == POSITIVE else 'lower right'
            axis.legend(fontsize=8.5, loc=place)
    return figure


def main() -> None:
    """Read the command line, compute, draw."""
    with one_line_errors():
        args = parse_args()
        context = make_context(args.num_classes, args.seed)
        figures = {
            'gradient_on_negatives.png': draw_message(args, context),
            'losses.png': draw_rest(args, context),
        }
        for name, figure in figures.items():
            print(*save_figure(figure, args.out / name, dpi=150), sep='\n')


if __name__ == '__main__':
    main()
