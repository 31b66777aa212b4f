"""Draw loss and gradient against the logit of a positive and of a negative class.

Every curve comes from the loss itself, as a head calls it, by automatic differentiation.
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
from frlr_mm.reporting import line_style, save_figure
from frlr_mm.reporting.figures import picture_files

LOGITS = torch.linspace(-10, 10, 161, dtype=torch.float64)
FAR = 30.0  # a logit at which a right answer costs nothing
SPREAD = 2.0  # the standard deviation of the other logits
POSITIVE, NEGATIVE = 0, 1  # columns
# What each loss is at its best here or by default, as the recipes have it.
LOSSES = {
    'SR': dict(type='CrossEntropyLoss'),
    'LR': dict(type='SSLRLoss', gamma=0.0),
    'HS-LR, ratio 0.01': dict(type='HSLRLoss', ratio=0.01),
    'SS-LR, gamma 0.25': dict(type='SSLRLoss', gamma=0.25),
    'focal': dict(type='FocalLoss'),
    'asymmetric': dict(type='AsymmetricLoss'),
}


def alpha_type(text: str) -> float | str:
    """Read a number or 'sum'."""
    return text if text == 'sum' else float(text)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True, help='losses.png; an SVG comes with it')
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
    """Draw the logits (C,) of an image around the prior 1 / C; the positive's is 0."""
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


def draw_row(axes: list[Axes], losses: dict[str, dict], context: Tensor, column: int) -> None:
    """Draw a line for each loss: the loss at the left, the gradient at the right."""
    is_positive = column == POSITIVE
    # Lines that coincide (the positive class of LR, HS-LR, SS-LR) take turns with their markers.
    for i, (name, loss) in enumerate(losses.items()):
        value, gradient = compute(loss, context, column)
        style = line_style(i) | dict(markevery=(7 * i, 50), linewidth=1.6, label=name)
        axes[0].plot(LOGITS.numpy(), value.numpy(), **style)
        slope = -gradient if is_positive else gradient
        axes[1].plot(LOGITS.numpy(), slope.numpy(), **style)
    for axis in axes:
        axis.set_xlabel(f'logit of {"the positive" if is_positive else "a negative"} class')
        axis.grid(alpha=0.3)
        axis.set(xlim=(LOGITS[0].item(), LOGITS[-1].item()), xticks=range(-10, 11, 5))
    axes[0].set_ylabel('loss above its least, nats')
    axes[1].set_ylabel(f'{"-" if is_positive else ""}∂ loss / ∂ logit')
    axes[0].legend(loc='upper right' if is_positive else 'upper left', fontsize=9)


def draw(args: argparse.Namespace) -> Figure:
    """Draw all losses, then what ratio, gamma and alpha do to the negatives."""
    context = make_context(args.num_classes, args.seed)
    rows = (
        ('positive class, every loss', LOSSES, POSITIVE),
        ('negative class, every loss', LOSSES, NEGATIVE),
        (
            'HS-LR, each ratio',
            {f'ratio {ratio:g}': dict(type='HSLRLoss', ratio=ratio) for ratio in args.ratios},
            NEGATIVE,
        ),
        (
            'SS-LR, each gamma',
            {f'gamma {gamma:g}': dict(type='SSLRLoss', gamma=gamma) for gamma in args.gammas},
            NEGATIVE,
        ),
        *(
            (
                f'{name}, each alpha',
                {f'alpha {alpha}': LOSSES[name] | dict(alpha=alpha) for alpha in args.alphas},
                NEGATIVE,
            )
            for name in ('HS-LR, ratio 0.01', 'SS-LR, gamma 0.25')
        ),
    )
    figure = Figure(figsize=(10, 3.2 * len(rows) + 0.9), layout='constrained')
    prior = -math.log(args.num_classes - 1)
    figure.suptitle(
        f"One image of {args.num_classes:,} classes. The other negatives' logits are drawn from "
        f'a normal\ndistribution with mean {prior:.2f} (the prior 1 / C) and standard deviation '
        f'{SPREAD:g}, seed {args.seed};\nwhere a negative moves, the logit of the positive is 0. '
        "alpha is 'sum' unless it is said.",
        fontsize=11,
    )
    for axes, (title, losses, column) in zip(figure.subplots(len(rows), 2), rows):
        draw_row(axes, losses, context, column)
        axes[0].set_title(f'Loss: {title}', fontsize=11)
        axes[1].set_title(f'Gradient: {title}', fontsize=11)
        if column == NEGATIVE:
            # What a negative that is already low still gets shows on a logarithmic axis alone.
            for axis in axes[losses is LOSSES :]:
                axis.set_yscale('log')
                axis.set_ylim(1e-6)
    return figure


def main() -> None:
    """Read the command line, compute, draw."""
    with one_line_errors():
        args = parse_args()
        picture_files(args.out)
        figure = draw(args)
        print(*save_figure(figure, args.out), sep='\n')


if __name__ == '__main__':
    main()
