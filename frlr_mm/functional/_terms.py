"""The maths of the losses: the terms of each logit, and their derivatives.

With x a logit, p = sigmoid(x) and s(x) = log(1 + exp(x)):

    positive term  s(-x) = -log p          derivative  -(1 - p) = -sigmoid(-x)
    negative term  s(x) = -log(1 - p)      derivative  p
    soft selection p^gamma s(x)            derivative  p^gamma (p + gamma (1 - p) s(x))
    hard selection [j is selected] s(x)    derivative  [j is selected] p
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._inputs import Terms
from ._select import is_selected, least_and_ties, num_selected

# torch's vectorised log1p has a masked load for -0.0, and where AVX-512 masks a load from a page
# that is not mapped yet, AMD's Zen 4 takes a slow detour each time: log1p and softplus then run
# ten times slower. One real -0.0 maps the page for the life of the process.
torch.log1p(torch.full((64,), -0.0, device='cpu'))


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), exact to rounding at both ends in float32 and float64."""
    return F.softplus(x, threshold=40.0)


def soft_terms(
    x: Tensor, gamma: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return p, the focus p^gamma and the terms p^gamma * softplus(x) of logits.

    ``out`` is where p goes; it may be ``x``.
    """
    terms = softplus(x)
    p = torch.sigmoid(x, out=out)
    # The default without a power, which takes eight times as long; torch's reciprocal of a square
    # root is twice as fast as its square root.
    focus = p.rsqrt().rsqrt_() if gamma == 0.25 else p.pow(gamma)
    return p, focus, terms.mul_(focus)


def soft_slope(p: Tensor, focus: Tensor, terms: Tensor, gamma: float) -> Tensor:
    """Overwrite p by the derivative of the terms, p * focus + (1 - p) * gamma * terms."""
    if gamma == 0:
        return p.mul_(focus)
    return torch.lerp(terms.mul_(gamma), focus, p, out=p)


def split_dense_label(label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split dense labels into the weight of the positive and of the negative term of each entry.

    Args:
        label (Tensor): (N, C) in [0, 1], or below 0 where unknown.
        dtype (torch.dtype): The dtype of what is returned.

    Returns:
        tuple[Tensor, Tensor]: t and 1 - t, both (N, C) and both 0 where the label is unknown. A
        NaN stays one.
    """
    target = label.detach().to(dtype)
    unknown = target < 0
    return target.masked_fill(unknown, 0), (1 - target).masked_fill(unknown, 0)


def weigh_dense_label(
    label: Tensor, dtype: torch.dtype, scales: tuple, terms: Terms
) -> tuple[Tensor, Tensor]:
    """Return the factor of each entry's positive and of its negative term.

    Args:
        label (Tensor): (N, C) in [0, 1], or below 0 where unknown.
        dtype (torch.dtype): The dtype of what is returned.
        scales (tuple): A factor for t and one for 1 - t.
        terms (Terms): Its class factors are multiplied in.

    Returns:
        tuple[Tensor, Tensor]: Both (N, C).
    """
    positive, negative = split_dense_label(label, dtype)
    positive, negative = positive.mul_(scales[0]), negative.mul_(scales[1])
    if terms.class_weight is not None:
        class_weight = terms.class_weight.to(positive)
        positive, negative = positive.mul_(class_weight), negative.mul_(class_weight)
    if terms.pos_weight is not None:
        positive.mul_(terms.pos_weight.to(positive))
    return positive, negative


def plain_loss(
    x: Tensor, positive: Tensor, negative: Tensor, terms: Terms, row_k: Tensor | None = None
) -> Tensor:
    """Compute the images' losses in plain operations, which autograd differentiates.

    It is what the gradients written by hand are tested against, and what torch.func transforms
    and forward-mode differentiation get.

    Args:
        x (Tensor): Logits (N, C).
        positive (Tensor): The factor of each positive term (N, C).
        negative (Tensor): The factor of each negative term (N, C); 0 is never selected.
        terms (Terms): How negatives are selected.
        row_k (Tensor, optional): How many negatives of each row are selected (N, 1), int64. None
            stands for floor(C * ratio). Defaults to None.

    Returns:
        Tensor: The images' losses (N,).
    """
    loss = negative * softplus(x)
    if terms.ratio is None:
        # p^gamma as exp(gamma log p): a power of p = 0 has an infinite derivative.
        loss = loss * torch.exp(-terms.gamma * softplus(-x))
    else:
        value = loss.detach()
        chosen = least_and_ties(value, num_selected(x.shape[1], terms.ratio), row_k)
        loss = loss * is_selected(value, *chosen)
    # (0 times -inf, of a class that is masked out, is not 0.)
    of_positive = positive * softplus(-x.masked_fill(positive == 0, 0))
    return (of_positive + loss).sum(1)
