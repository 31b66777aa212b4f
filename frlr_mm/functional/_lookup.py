"""Functions of half-precision numbers by lookup: there are only 65,536 such numbers.

A device that runs operation by operation then reads a logit as a place in a table, in place of
writing and reading a float32 matrix for each step of the arithmetic.
"""

import torch
from torch import Tensor

from ._inputs import Terms
from ._select import is_hardest, num_selected, num_selected_of_known
from ._terms import soft_slope, soft_terms, softplus
from ._torch import is_compiling

_COUNT = 1 << 16


def is_looked_up(score: Tensor) -> bool:
    """Tell whether a table is worth it: not on a CPU, not where a compiler fuses the steps."""
    return (
        score.dtype in (torch.bfloat16, torch.float16)
        and score.device.type != 'cpu'
        and not is_compiling()
        and score.numel() >= 2 * _COUNT
    )


def all_numbers(score: Tensor) -> Tensor:
    """Return all numbers of the half-precision dtype of ``score``, in float32 (65,536,)."""
    bits = torch.arange(-_COUNT // 2, _COUNT // 2, dtype=torch.int32, device=score.device)
    return bits.to(torch.int16).view(score.dtype).float()


def places(score: Tensor) -> Tensor:
    """Return where the numbers of ``score`` stand in ``all_numbers``, int32, one after another."""
    # (A tensor of one dimension: int16 plus a number would stay int16.)
    offset = torch.full((1,), _COUNT // 2, dtype=torch.int32, device=score.device)
    return torch.add(score.view(torch.int16), offset).flatten()


def looked_up_dense_rows(
    score: Tensor,
    label: Tensor,
    terms: Terms,
    scales: tuple[Tensor, Tensor],
    blocks: list[slice],
    loss: Tensor,
    grad: Tensor | None,
) -> Tensor:
    """Compute losses and gradient for dense targets from tables of both terms and their slopes.

    With t a target, an entry's term is between that of a negative (t = 0) and that of a positive
    (t = 1), its slope alike. An unknown entry looks both up where they are 0.

    Args:
        score (Tensor): Logits (N, C), float16 or bfloat16.
        label (Tensor): Dense targets (N, C).
        terms (Terms): The selection, ``alpha`` and the class factors.
        scales (tuple[Tensor, Tensor]): The factors of t and 1 - t.
        blocks (list[slice]): The rows to work on at once.
        loss (Tensor): Where the losses of the images go (N,), float32.
        grad (Tensor, optional): Where the gradient goes (N, C).

    Returns:
        Tensor: ``loss``.
    """
    x = all_numbers(score)
    if terms.ratio is None:
        p, focus, each = soft_terms(x, terms.gamma)
        slope = soft_slope(p, focus, each.clone(), terms.gamma)
    else:
        each, slope = softplus(x), x.sigmoid()
    # (Of hard selection, `scales[1]` may differ from row to row.)
    scale = scales[1] if terms.ratio is None or terms.alpha == 'sum' else 1.0
    tables = [each, scales[0] * softplus(-x), slope * scale, scales[0] * -(-x).sigmoid_()]
    if terms.ratio is None:
        tables[0] = each * scale
    negative, positive, negative_slope, positive_slope = (
        torch.cat([table, table.new_zeros(1)]) for table in tables
    )

    def look_up(table: Tensor) -> Tensor:
        return table.index_select(0, place).view(t.shape)

    def positive_part(table: Tensor) -> Tensor:
        found = look_up(table)
        return found if pos_weight is None else found.mul_(pos_weight)

    class_weight = None if terms.class_weight is None else terms.class_weight.to(x)
    pos_weight = None if terms.pos_weight is None else terms.pos_weight.to(x)
    for rows in blocks:
        t = label[rows].detach().to(x.dtype).clamp(min=-1)  # (0 times -inf is not 0.)
        place = places(score[rows])
        place.masked_fill_((t < 0).flatten(), x.numel())
        if terms.ratio is None:
            each = look_up(negative).lerp_(positive_part(positive), t)
            loss[rows] = _weigh(each, class_weight).sum(1)
            del each  # before the slopes are made
            if grad is not None:
                slope = look_up(negative_slope).lerp_(positive_part(positive_slope), t)
                grad[rows] = _weigh(slope, class_weight)
            continue
        rest = 1 - t
        value = _weigh(look_up(negative).mul_(rest), class_weight)
        row_k = num_selected_of_known(label[rows], terms.ratio)
        selected = is_hardest(value, num_selected(t.shape[1], terms.ratio), row_k)
        row_scale = scales[1] if terms.alpha == 'sum' else scales[1] / row_k.to(x.dtype)
        loss[rows] = (value.mul_(selected).sum(1, keepdim=True) * row_scale).squeeze(1)
        del value
        loss[rows] += _weigh(positive_part(positive).mul_(t), class_weight).sum(1)
        if grad is not None:
            slope = look_up(negative_slope).mul_(rest).mul_(selected)
            slope = slope if terms.alpha == 'sum' else slope.mul_(row_scale)
            grad[rows] = _weigh(slope.addcmul_(positive_part(positive_slope), t), class_weight)
        del rest, selected
    return loss


def _weigh(each: Tensor, class_weight: Tensor | None) -> Tensor:
    return each if class_weight is None else each.mul_(class_weight)
