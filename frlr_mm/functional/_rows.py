"""Loss and gradient of logits, image by image: the one place that chooses an implementation.

Each implementation keeps one contract, ``rows(score, label, terms, with_grad)``: it returns the
losses of the images (N,) and, if wanted, their gradient for the logits, as the arguments of
``DenseGradient`` or ``SparseGradient``.
"""

import torch
from torch import Tensor

from ._autograd import DenseGradient, KernelGradient, SparseGradient
from ._count import counts_ties, is_countable, is_counted_in
from ._dtensor import images_loss_of_dtensor, is_dtensor
from ._inputs import Terms, is_transformed
from ._lookup import all_numbers, is_looked_up, looked_up_dense_rows, places
from ._reduction import (
    accumulation_dtype,
    dense_scales,
    gradient_dtype,
    is_per_image,
    mean_over_ranks,
)
from ._select import (
    hardest,
    is_hardest,
    is_selected,
    least_and_ties,
    num_selected,
    num_selected_of_known,
)
from ._terms import (
    plain_loss,
    soft_slope,
    soft_terms,
    softplus,
    weigh_dense_label,
)
from ._torch import is_compiling
from .triton import has_kernel

# How many logits a CPU works on at once: a handful of float32 temporaries of this size stay in
# the cache, and hundreds of rows of a thousand classes share the cost of calling an operation.
BLOCK_NUMEL = 1 << 17
# The same for other devices: large enough to keep a GPU busy, and few enough that what is held
# beside the logits and their gradient stays small.
DEVICE_BLOCK_NUMEL = 1 << 23


def images_loss(
    cls_score: Tensor,
    label: Tensor,
    terms: Terms,
    scales: tuple[Tensor, Tensor] | None = None,
    expected: float = 1.0,
) -> Tensor:
    """Compute the losses of the images, differentiable for the logits.

    Args:
        cls_score (Tensor): Logits (N, C).
        label (Tensor): Class indices, int64 (N, 1), or dense targets (N, C).
        terms (Terms): The selection, ``alpha`` and the class factors.
        scales (tuple[Tensor, Tensor], optional): The factors of t and 1 - t for dense targets;
            None stands for those of this batch, or of the batch joined over ranks. Defaults to
            None.
        expected (float): What the gradient of each loss will most likely be: where it is, the
            backward pass of a kernel has nothing left to do. Not 0. Defaults to 1.0.

    Returns:
        Tensor: (N,), float32, or float64 for float64 logits.
    """
    if type(cls_score) is not Tensor and is_dtensor(cls_score):
        return images_loss_of_dtensor(cls_score, label, terms, images_loss, count_dense_label)
    if is_transformed():
        return _plain_rows(cls_score, label, terms)
    with_grad = torch.is_grad_enabled() and cls_score.requires_grad
    score, k = cls_score.detach(), cls_score.shape[1]
    attach = DenseGradient.apply
    gradient: tuple
    if label.shape == score.shape and scales is None:
        counts = mean_over_ranks(count_dense_label(label, score.dtype, terms), cls_score)
        scales = dense_scales(counts, score.shape[0], terms)
    if has_kernel(score, label, terms):
        loss, gradient = _rows_in_kernel(score, label, terms, scales, with_grad, expected)
        attach = KernelGradient.apply
    elif scales is not None:
        loss, gradient = _dense_rows(score, label, terms, scales, with_grad)
    else:
        if terms.ratio is not None:
            k = num_selected(k, terms.ratio)
        if k == score.shape[1]:  # nothing to select: soft selection with gamma 0
            loss, gradient = _soft_rows(score, label, terms, k, with_grad)
        elif is_compiling():
            loss, gradient = _compiled_hard_rows(score, label, terms, k, with_grad)
        else:
            loss, gradient = _hard_rows(score, label, terms, k, with_grad)
            attach = SparseGradient.apply
    return attach(cls_score, loss, *gradient) if with_grad else loss


def row_blocks(cls_score: Tensor) -> list[slice]:
    """Return slices that cover the rows of (N, C): cache-sized on a CPU, large on a GPU.

    A compiler, which fuses the operations by itself, gets a single one.
    """
    num_images, num_classes = cls_score.shape
    numel = BLOCK_NUMEL if cls_score.device.type == 'cpu' else DEVICE_BLOCK_NUMEL
    if is_compiling() or num_images * num_classes <= numel:
        return [slice(0, num_images)]
    step = max(1, numel // max(1, num_classes))
    return [slice(start, min(start + step, num_images)) for start in range(0, num_images, step)]


def _plain_rows(cls_score: Tensor, label: Tensor, terms: Terms) -> Tensor:
    """The same in plain operations, which any transform of torch.func sees through."""
    x = cls_score.to(accumulation_dtype(cls_score.dtype))
    num_classes, row_k = x.shape[1], None
    if label.shape != x.shape:
        # By comparison: one_hot reads values.
        target = (label == torch.arange(num_classes, device=x.device)).to(x.dtype)
        if terms.alpha == 'sum':
            scale = 1.0
        elif terms.ratio is None:
            scale = float(terms.alpha) / (num_classes - 1)
        else:
            scale = float(terms.alpha) / num_selected(num_classes, terms.ratio)
        scales: tuple = (1.0, scale)
    else:
        target = label
        counts = mean_over_ranks(count_dense_label(label, x.dtype, terms), cls_score)
        scales = dense_scales(counts, x.shape[0], terms)
        if terms.ratio is not None:
            row_k = num_selected_of_known(label, terms.ratio)
            if terms.alpha != 'sum':
                scales = (scales[0], scales[1] / row_k.to(x.dtype))
    positive, negative = weigh_dense_label(target, x.dtype, scales, terms)
    return plain_loss(x, positive, negative, terms, row_k)


@torch.no_grad()
def _rows_in_kernel(
    score: Tensor,
    label: Tensor,
    terms: Terms,
    scales: tuple[Tensor, Tensor] | None,
    with_grad: bool,
    expected: float,
) -> tuple[Tensor, tuple]:
    """Do all of it on a GPU; scales are those of dense labels."""
    from .triton.hard import hard_index_rows
    from .triton.soft import soft_dense_rows, soft_index_rows

    if scales is not None:
        loss, grad = soft_dense_rows(score, label, terms, scales, with_grad, expected)
    else:
        k = score.shape[1] if terms.ratio is None else num_selected(score.shape[1], terms.ratio)
        rows = soft_index_rows if k == score.shape[1] else hard_index_rows
        loss, grad = rows(score, label, terms, k, with_grad, expected)
    return loss, (grad, expected)


def _index_positive(score: Tensor, index: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """Return the positive term of each image for class indices, and its derivative; (N, 1)."""
    x = score.gather(1, index)
    x = x if x.dtype == torch.float64 else x.float()
    positive, slope = softplus(-x), (-x).sigmoid_().neg_()
    for class_factor in (terms.class_weight, terms.pos_weight):
        if class_factor is not None:
            factor = class_factor.to(x)[index]
            positive, slope = positive.mul_(factor), slope.mul_(factor)
    return positive, slope


@torch.no_grad()
def _soft_rows(
    score: Tensor, index: Tensor, terms: Terms, k: int, with_grad: bool
) -> tuple[Tensor, tuple]:
    """Take every negative of class indices, weighted by p^gamma."""
    divisor = score.shape[1] - 1 if terms.ratio is None else k
    scale = 1.0 if terms.alpha == 'sum' else terms.alpha / divisor
    positive, positive_slope = _index_positive(score, index, terms)
    if is_looked_up(score):
        return _looked_up_soft_rows(
            score, index, terms, scale, positive.squeeze(1), positive_slope, with_grad
        )
    loss, dtype = positive.squeeze(1), positive.dtype
    grad = torch.empty_like(score, dtype=gradient_dtype(score)) if with_grad else None
    for rows in row_blocks(score):
        x, target = score[rows].to(dtype), index[rows]
        p, focus, each = soft_terms(x, terms.gamma, _room(grad, rows, dtype))
        if terms.class_weight is not None or scale != 1:
            factor = scale if terms.class_weight is None else scale * terms.class_weight.to(x)
            focus, each = focus.mul_(factor), each.mul_(factor)
        if is_compiling():  # a comparison is fused with the rest, a scatter is not
            is_target = target == torch.arange(score.shape[1], device=score.device)
            loss[rows] += each.masked_fill(is_target, 0).sum(1)
        else:
            loss[rows] += each.scatter_(1, target, 0).sum(1)
        if grad is not None:
            slope = soft_slope(p, focus, each, terms.gamma)
            if is_compiling():
                slope = torch.where(is_target, positive_slope[rows], slope)
            else:
                slope.scatter_(1, target, positive_slope[rows])
            if grad.dtype != dtype or is_compiling():
                grad[rows] = slope
        del p, focus, each  # before the next block's are made
    return loss, (grad,)


def _looked_up_soft_rows(
    score: Tensor,
    index: Tensor,
    terms: Terms,
    scale: float,
    loss: Tensor,
    positive_slope: Tensor,
    with_grad: bool,
) -> tuple[Tensor, tuple]:
    """Do the same by two tables of the terms and slopes of all half-precision numbers."""
    p, focus, each_of = soft_terms(all_numbers(score), terms.gamma)
    each_of, focus = each_of.mul_(scale), focus.mul_(scale)
    slope_of = soft_slope(p, focus, each_of.clone(), terms.gamma).to(gradient_dtype(score))
    grad = score.new_empty(score.shape, dtype=slope_of.dtype) if with_grad else None
    class_weight = None if terms.class_weight is None else terms.class_weight.to(loss)
    for rows in row_blocks(score):
        place, target = places(score[rows]), index[rows]
        each = each_of.index_select(0, place).view(score[rows].shape)
        if class_weight is not None:
            each.mul_(class_weight)
        loss[rows] += each.scatter_(1, target, 0).sum(1)
        del each  # before the next block's is made
        if grad is not None:
            slope = grad[rows]
            torch.index_select(slope_of, 0, place, out=slope.view(-1))
            if class_weight is not None:
                slope.mul_(class_weight)
            slope.scatter_(1, target, positive_slope[rows].to(slope.dtype))
    return loss, (grad,)


def _room(grad: Tensor | None, rows: slice, dtype: torch.dtype) -> Tensor | None:
    """Return where the gradient of some rows can be computed in place, if it can."""
    return None if grad is None or grad.dtype != dtype else grad[rows]


@torch.no_grad()
def _hard_rows(
    score: Tensor, index: Tensor, terms: Terms, k: int, with_grad: bool
) -> tuple[Tensor, tuple]:
    """Take the k largest negatives of class indices, k < C."""
    scale = 1.0 if terms.alpha == 'sum' else terms.alpha / k
    positive, positive_slope = _index_positive(score, index, terms)
    loss, dtype = positive.squeeze(1), positive.dtype
    slope = positive.new_empty(score.shape[0], k if with_grad else 0)
    chosen = torch.empty_like(slope, dtype=torch.int64)
    for rows in row_blocks(score):
        x, target = score[rows], index[rows]
        if x.device.type == 'cpu' or terms.class_weight is not None:
            x = x.to(dtype)  # (Elsewhere, half precision is selected from as it is.)
        if terms.class_weight is None:
            # softplus is monotone: select first, and take it of k values in place of C.
            picked = hardest(x, k, target)
            x = x.gather(1, picked).to(dtype)
            each, p = softplus(x), x.sigmoid_()
        else:
            class_weight = terms.class_weight.to(x)
            each = softplus(x).mul_(class_weight)
            picked = hardest(each, k, target)
            each = each.gather(1, picked)
            p = x.gather(1, picked).sigmoid_().mul_(class_weight[picked])
        loss[rows] += each.sum(1).mul_(scale)
        if with_grad:
            chosen[rows], slope[rows] = picked, p.mul_(scale)
    return loss, (chosen, slope, index, positive_slope)


@torch.no_grad()
def _compiled_hard_rows(
    score: Tensor, index: Tensor, terms: Terms, k: int, with_grad: bool
) -> tuple[Tensor, tuple]:
    """Do the same by a mask, which a compiler fuses with the rest.

    Where k changes between calls it becomes a symbol, which cannot be the size of what autograd
    keeps.
    """
    scale = 1.0 if terms.alpha == 'sum' else terms.alpha / k
    positive, positive_slope = _index_positive(score, index, terms)
    x = score.to(positive.dtype)
    each, p = softplus(x), x.sigmoid()
    value = x
    if terms.class_weight is not None:
        class_weight = terms.class_weight.to(x)
        value = each = each * class_weight
        p = p * class_weight
    elif is_countable(score):
        value = score  # half precision is selected from as it is, and settled in four rounds
    if is_countable(value):
        selected = is_counted_in(value, k, index)
    else:
        value = value.scatter(1, index, -torch.inf)
        selected = is_selected(value, *least_and_ties(value, k))
    loss = positive.squeeze(1) + scale * each.masked_fill(~selected, 0).sum(1)
    grad = scale * p * selected
    if counts_ties(score):  # a comparison is fused with the rest, a scatter is not
        is_target = index == torch.arange(score.shape[1], device=score.device)
        grad = torch.where(is_target, positive_slope, grad)
    else:
        grad = grad.scatter(1, index, positive_slope)
    return loss, (grad.to(gradient_dtype(score)),)


@torch.no_grad()
def _dense_rows(
    score: Tensor, label: Tensor, terms: Terms, scales: tuple, with_grad: bool
) -> tuple[Tensor, tuple]:
    """Take what is selected of the negative parts of dense labels."""
    dtype = accumulation_dtype(score.dtype)
    loss = score.new_empty(score.shape[0], dtype=dtype)
    grad = torch.empty_like(score, dtype=gradient_dtype(score)) if with_grad else None
    if is_looked_up(score):
        blocks = row_blocks(score)
        return looked_up_dense_rows(score, label, terms, scales, blocks, loss, grad), (grad,)
    for rows in row_blocks(score):
        x, out = score[rows].to(dtype), _room(grad, rows, dtype)
        if terms.ratio is None:
            positive, negative = weigh_dense_label(label[rows], dtype, scales, terms)
            p, focus, each = soft_terms(x, terms.gamma, out)
            focus, each = focus.mul_(negative), each.mul_(negative)
        else:
            # Selected before they are scaled, as `plain_loss` does it.
            positive, negative = weigh_dense_label(label[rows], dtype, (scales[0], 1.0), terms)
            focus, each = _select_dense(x, negative, label[rows], scales[1], terms)
            p = torch.sigmoid(x, out=out)
        # (0 times -inf, of a class that is masked out, is not 0.)
        of_positive = softplus(-x).mul_(positive).masked_fill_(positive == 0, 0)
        loss[rows] = each.sum(1) + of_positive.sum(1)
        del of_positive
        if grad is not None:
            slope = soft_slope(p, focus, each, terms.gamma)
            slope.sub_(positive.mul_((-x).sigmoid_()))
            if grad.dtype != dtype:
                grad[rows] = slope
            del slope
        del p, focus, each, positive, negative  # before the next block's are made
    return loss, (grad,)


def _select_dense(
    x: Tensor, negative: Tensor, label: Tensor, scale: Tensor, terms: Terms
) -> tuple[Tensor, Tensor]:
    """Return the factor of each negative, 0 where it is not selected, and the selected terms."""
    assert terms.ratio is not None
    value = softplus(x).mul_(negative)
    row_k = num_selected_of_known(label, terms.ratio)
    selected = is_hardest(value, num_selected(x.shape[1], terms.ratio), row_k)
    if terms.alpha != 'sum':
        scale = scale / row_k.to(x.dtype)
    return negative.mul_(selected).mul_(scale), value.masked_fill_(~selected, 0).mul_(scale)


def count_dense_label(label: Tensor, dtype: torch.dtype, terms: Terms) -> Tensor:
    """Return the normalisers of dense targets.

    Args:
        label (Tensor): Dense targets (N, C).
        dtype (torch.dtype): That of the logits.
        terms (Terms): The selection and ``alpha``.

    Returns:
        Tensor: The sums of t and of 1 - t over the known entries, and N (3,); 0 for the sum of
        1 - t where it divides nothing.
    """
    dtype = accumulation_dtype(dtype)
    positive = negative = torch.zeros((), dtype=dtype, device=label.device)
    for rows in row_blocks(label):
        t = label[rows].detach().to(dtype)
        positive = positive + t.clamp(min=0).sum()
        if not is_per_image(terms):
            negative = negative + (1 - t).masked_fill(t < 0, 0).sum()
    return torch.stack([positive, negative, torch.full_like(positive, label.shape[0])])
