"""Hard selection of class indices: the threshold of a row by counting, then one writing pass.

The numbers of a row become integers of the same order. The k-th largest is settled bit by bit: a
bit is set where k of them, at least, are as large then; half precision has 16 bits, float32 32.
Rows of up to 32,768 classes stay in registers meanwhile, longer ones come from the cache again.
What is selected follows from (least, ties), as everywhere: of equal numbers the first classes.
"""

import triton
import triton.language as tl
from torch import Tensor

from .._inputs import Terms
from ._arguments import factor_of_classes, on_device, outputs, row_major
from ._terms import negative_term, positive_term

# The most logits of a row that are held; how many of a longer row, and a step of the other passes.
_HELD = 32768
_HELD_OF_MORE = 16384
_BLOCK = 4096
_LEAST = tl.constexpr(-(2**31))


@triton.jit
def _order(x):
    """Return int32 of the same order as floats; those of half precision are in its upper half.

    NaN of either sign is the largest, and -0.0 is 0.0.
    """
    is_half: tl.constexpr = x.dtype.primitive_bitwidth == 16
    largest: tl.constexpr = 0x7FFF0000 if is_half else 0x7FFFFFFF
    if is_half:
        bits = x.to(tl.int16, bitcast=True).to(tl.int32) << 16
    else:
        bits = x.to(tl.int32, bitcast=True)
    bits = tl.where(bits == _LEAST, 0, bits)
    bits = tl.where(bits < 0, bits ^ largest, bits)
    number = x.to(tl.float32)
    return tl.where(number != number, largest, bits)


@triton.jit
def _keys(score, start, target, num_classes, BLOCK: tl.constexpr):
    """Return integers for logits, the least for the target and for what is beyond the row."""
    classes = start + tl.arange(0, BLOCK)
    inside = classes < num_classes
    key = _order(tl.load(score + classes, inside, 0.0))
    return tl.where(inside & (classes != target), key, _LEAST)


@triton.jit
def _kernel(
    score,
    row_stride,
    num_classes,
    loss,
    grad,
    pos_weight,
    index,
    k,
    scale,
    expected,
    BITS: tl.constexpr,
    HAS_POS_WEIGHT: tl.constexpr,
    WITH_GRAD: tl.constexpr,
    IS_HELD: tl.constexpr,
    HELD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(index + row).to(tl.int32)
    score += row * row_stride
    grad += row * num_classes

    # The largest integer that k of the row's are not below.
    least = tl.full((), _LEAST, tl.int32)
    held = _keys(score, 0, target, num_classes, HELD)
    for bit in range(BITS):
        candidate = least ^ (tl.full((), 1, tl.int32) << (31 - bit))
        found = (held >= candidate).to(tl.int32)
        if not IS_HELD:
            for start in range(HELD, num_classes, HELD):
                key = _keys(score, start, target, num_classes, HELD)
                found += (key >= candidate).to(tl.int32)
        least = tl.where(tl.sum(found) >= k, candidate, least)

    # How many of the equal ones are selected, and up to which class.
    greater, equal = (held > least).to(tl.int32), (held == least).to(tl.int32)
    if not IS_HELD:
        for start in range(HELD, num_classes, HELD):
            key = _keys(score, start, target, num_classes, HELD)
            greater += (key > least).to(tl.int32)
            equal += (key == least).to(tl.int32)
    ties = k - tl.sum(greater)
    last = num_classes
    if ties < tl.sum(equal):
        before = tl.zeros((), tl.int32)
        for start in range(0, num_classes, BLOCK):
            is_equal = (_keys(score, start, target, num_classes, BLOCK) == least).to(tl.int32)
            num_equal = tl.sum(is_equal)
            if (before < ties) & (ties <= before + num_equal):
                is_last = (is_equal == 1) & (before + tl.cumsum(is_equal) == ties)
                last = tl.sum(tl.where(is_last, start + tl.arange(0, BLOCK), 0))
            before += num_equal

    positive, positive_slope = positive_term(tl.load(score + target).to(tl.float32))
    if HAS_POS_WEIGHT:
        of_target = tl.load(pos_weight + target)
        positive, positive_slope = positive * of_target, positive_slope * of_target
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, num_classes, BLOCK):
        classes = start + tl.arange(0, BLOCK)
        inside = classes < num_classes
        value = tl.load(score + classes, inside, 0.0)
        key = _order(value)
        is_selected = (key > least) | ((key == least) & (classes <= last))
        is_selected = is_selected & (classes != target) & inside
        # -inf, of what is not selected, adds nothing.
        x = tl.where(is_selected, value.to(tl.float32), -float('inf'))
        term, slope = negative_term(x, 0.0, False)
        total += term
        if WITH_GRAD:
            tl.store(
                grad + classes, (slope * (scale * expected)).to(grad.dtype.element_ty), inside
            )
    tl.store(loss + row, positive + scale * tl.sum(total))
    if WITH_GRAD:
        tl.debug_barrier()  # what the target has got in the loop comes first
        tl.store(grad + target, (positive_slope * expected).to(grad.dtype.element_ty))


def hard_index_rows(
    score: Tensor, index: Tensor, terms: Terms, k: int, with_grad: bool, expected: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Take the k largest negatives of class indices.

    Args:
        score (Tensor): Logits (N, C), float16, bfloat16 or float32, on a CUDA device.
        index (Tensor): Class indices, int64 (N, 1).
        terms (Terms): ``alpha`` and the weights of the positives; no ``class_weight``.
        k (int): In [1, C - 1].
        with_grad (bool): Whether to make the gradient.
        expected (float): What the gradient is multiplied by. Defaults to 1.0.

    Returns:
        tuple[Tensor, Tensor]: As for ``soft_index_rows``.
    """
    score = row_major(score)
    loss, grad = outputs(score, with_grad)
    num_images, num_classes = score.shape
    room = triton.next_power_of_2(num_classes)
    held = room if room <= _HELD else _HELD_OF_MORE
    with on_device(score):
        _kernel[(num_images,)](
            score,
            score.stride(0),
            num_classes,
            loss,
            grad,
            factor_of_classes(terms.pos_weight, loss),
            index.contiguous(),
            k,
            1.0 if terms.alpha == 'sum' else float(terms.alpha) / k,
            expected,
            BITS=8 * score.element_size(),
            HAS_POS_WEIGHT=terms.pos_weight is not None,
            WITH_GRAD=with_grad,
            IS_HELD=held == room,
            HELD=held,
            BLOCK=min(_BLOCK, room),
            num_warps=max(4, held // 1024),
        )
    return loss, grad
