"""The losses with a linear classifier whose classes are spread over processes.

The processes join their features and labels, each computes what its classes make of the losses of
all images, and the sum over the processes comes back to the process of an image. No logit and no
weight crosses the network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import check_int, check_number
from ._collectives import AddLosses, GatherFeatures, gather_rows, gather_sizes
from ._inputs import (
    Alpha,
    AvgFactor,
    Terms,
    check_factor,
    check_inputs,
    check_tensors,
    is_eager_on_cpu,
    is_index_label,
)
from ._linear import check_classifier, linear_images_loss
from ._linear_once import linear_loss
from ._reduction import accumulation_dtype, reduce_loss
from ._torch import autocast_dtype
from .fused_linear import CHUNK_BUDGET
from .sharding import ClassShard


def sharded_linear_ss_lr_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    label: Tensor,
    shard: ClassShard,
    alpha: Alpha = 'sum',
    gamma: float = 0.25,
    sample_weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: AvgFactor = None,
    chunk_budget: int = CHUNK_BUDGET,
) -> Tensor:
    """Compute SS-LR of a linear classifier of which each process holds a share of the classes.

    Every process of the group has to call it, and its backward pass, with images of its own: any
    number of them. Averaged over the processes, by DistributedDataParallel for the features, the
    losses and their gradients are those of ``fused_linear_ss_lr_loss`` on the joined batch and the
    joined classifier. The gradient of ``weight`` and ``bias`` is that average; nothing is to be
    added to it.

    Args:
        features (Tensor): Inputs of the classifier (N, D), float16, bfloat16, float32 or float64,
            of the images of this process. D and the dtype are the same on every process.
        weight (Tensor): Weights of the classes of this process (C_r, D).
        bias (Tensor, optional): Their bias (C_r,), or None.
        label (Tensor): Class indices (N,) or (N, 1) of an integer dtype, in [0, C): those of all
            classes, whoever holds them.
        shard (ClassShard): Which of the C classes ``weight`` holds.
        alpha (float | 'sum'): As for :func:`ss_lr_loss`. Defaults to 'sum'.
        gamma (float): As for :func:`ss_lr_loss`. Defaults to 0.25.
        sample_weight (Tensor, optional): A factor for each image (N,). Defaults to None.
        class_weight (Tensor, optional): A factor for both terms of each of all classes (C,).
            Defaults to None.
        pos_weight (Tensor, optional): A factor for the positive term of each of all classes (C,).
            Defaults to None.
        reduction (str): 'none', 'mean' or 'sum', of the images of this process. Defaults to
            'mean'.
        avg_factor (int | float | Tensor, optional): What 'mean' divides by. None is the number of
            images per process, so that all images of the joined batch count alike. Defaults to
            None.
        chunk_budget (int): As for :func:`fused_linear_ss_lr_loss`. Defaults to 268435456.

    Returns:
        Tensor: float32, or float64 for float64 features. For 'none' the losses of the images of
        this process (N,), else a scalar.

    Raises:
        TypeError: If a number is not one, or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """
    check_number('gamma', gamma)
    terms = Terms(alpha, gamma=gamma, class_weight=class_weight, pos_weight=pos_weight)
    classifier = (features, weight, bias, label, shard)
    return _reduced_loss(*classifier, terms, sample_weight, reduction, avg_factor, chunk_budget)


def sharded_linear_hs_lr_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    label: Tensor,
    shard: ClassShard,
    alpha: Alpha = 'sum',
    ratio: float = 0.1,
    sample_weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: AvgFactor = None,
    chunk_budget: int = CHUNK_BUDGET,
) -> Tensor:
    """Compute HS-LR of a linear classifier of which each process holds a share of the classes.

    Selected are the k hardest of all classes, as by ``fused_linear_hs_lr_loss``: the processes
    search for the smallest selected value in a fixed number of rounds, and exchange as much for
    any k and any number of classes. Of equal values the first classes are selected.

    Args:
        features (Tensor): As for :func:`sharded_linear_ss_lr_loss`.
        weight (Tensor): As for :func:`sharded_linear_ss_lr_loss`.
        bias (Tensor, optional): As for :func:`sharded_linear_ss_lr_loss`.
        label (Tensor): As for :func:`sharded_linear_ss_lr_loss`.
        shard (ClassShard): As for :func:`sharded_linear_ss_lr_loss`.
        alpha (float | 'sum'): As for :func:`hs_lr_loss`. Defaults to 'sum'.
        ratio (float): As for :func:`hs_lr_loss`; the share of all C classes. Defaults to 0.1.
        sample_weight (Tensor, optional): As for :func:`sharded_linear_ss_lr_loss`. Defaults to
            None.
        class_weight (Tensor, optional): As for :func:`sharded_linear_ss_lr_loss`. Defaults to
            None.
        pos_weight (Tensor, optional): As for :func:`sharded_linear_ss_lr_loss`. Defaults to None.
        reduction (str): As for :func:`sharded_linear_ss_lr_loss`. Defaults to 'mean'.
        avg_factor (int | float | Tensor, optional): As for :func:`sharded_linear_ss_lr_loss`.
            Defaults to None.
        chunk_budget (int): As for :func:`fused_linear_ss_lr_loss`; the same on every process.
            Defaults to 268435456.

    Returns:
        Tensor: As for :func:`sharded_linear_ss_lr_loss`.

    Raises:
        TypeError: If a number is not one, or a dtype does not fit.
        ValueError: If a number, a shape, a reduction or, on the CPU, a label is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 5.
    """
    check_number('ratio', ratio, high=1.0, open_low=True)
    terms = Terms(alpha, ratio=ratio, class_weight=class_weight, pos_weight=pos_weight)
    classifier = (features, weight, bias, label, shard)
    return _reduced_loss(*classifier, terms, sample_weight, reduction, avg_factor, chunk_budget)


@torch.no_grad()
def sharded_linear_topk(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shard: ClassShard,
    k: int = 5,
    chunk_budget: int = CHUNK_BUDGET,
) -> tuple[Tensor, Tensor]:
    """Find the k classes of the largest logits, without ever holding the logits of all classes.

    Every process of the group has to call it, with images of its own: any number of them.

    Args:
        features (Tensor): As for :func:`sharded_linear_ss_lr_loss`.
        weight (Tensor): As for :func:`sharded_linear_ss_lr_loss`.
        bias (Tensor, optional): As for :func:`sharded_linear_ss_lr_loss`.
        shard (ClassShard): As for :func:`sharded_linear_ss_lr_loss`.
        k (int): How many classes, in [1, C]. Defaults to 5.
        chunk_budget (int): About how many bytes of logits are held at once. Defaults to 268435456.

    Returns:
        tuple[Tensor, Tensor]: The softmax over all classes of the k largest logits, in descending
        order and in the dtype of a loss, and their classes, int64; both (N, k).

    Raises:
        TypeError: If a dtype does not fit.
        ValueError: If a shape or ``k`` is out of range.
    """
    _check_classifier(features, weight, bias, shard)
    check_int('k', k, 1, shard.num_classes)
    check_number('chunk_budget', chunk_budget, open_low=True)
    device = features.device.type
    dtype = autocast_dtype(device) or features.dtype
    own = features.to(dtype)
    sizes = [features.shape[0]]
    if shard.world_size > 1:
        sizes = gather_sizes(features.shape[0], shard, features.device)
        own = gather_rows(own, sizes, shard)
    score = own.new_empty(own.shape[0], 0, dtype=accumulation_dtype(dtype))
    index = own.new_empty(own.shape[0], 0, dtype=torch.int64)
    total = score.new_full((own.shape[0], 1), -torch.inf)
    step = max(1, int(chunk_budget) // (8 * max(1, own.shape[0])))
    for start in range(0, shard.size, step):
        stop = min(start + step, shard.size)
        with torch.autocast(device, enabled=False):
            x = (own @ weight[start:stop].to(dtype).t()).to(score.dtype)
        x = x if bias is None else x + bias[start:stop]
        total = torch.logaddexp(total, x.logsumexp(1, keepdim=True))
        best, place = x.topk(min(k, stop - start), dim=1)
        place += shard.start + start
        score, index = _merge(torch.cat([score, best], 1), torch.cat([index, place], 1), k)
    if shard.world_size > 1:
        # As many on each process, whoever has one class less.
        missing = min(k, shard.max_size) - score.shape[1]
        score = F.pad(score, (0, missing), value=-torch.inf)
        index = F.pad(index, (0, missing))
        score, index, total = (_of_ranks(each, shard) for each in (score, index, total))
        score, index = _merge(score, index, k)
        total = total.logsumexp(1, keepdim=True)
    first = sum(sizes[: shard.rank]) if shard.world_size > 1 else 0
    mine = slice(first, first + features.shape[0])
    return (score[mine] - total[mine]).exp(), index[mine]


def _of_ranks(rows: Tensor, shard: ClassShard) -> Tensor:
    """Put what the processes have for the same images side by side: (N, K) to (N, W * K)."""
    every = gather_rows(rows, [rows.shape[0]] * shard.world_size, shard)
    return every.view(shard.world_size, *rows.shape).transpose(0, 1).flatten(1)


def _merge(score: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    score, place = score.topk(min(k, score.shape[1]), dim=1)
    return score, index.gather(1, place)


def _reduced_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    label: Tensor,
    shard: ClassShard,
    terms: Terms,
    sample_weight: Tensor | None,
    reduction: str,
    avg_factor: AvgFactor,
    chunk_budget: float,
) -> Tensor:
    check_number('chunk_budget', chunk_budget, open_low=True)
    _check_classifier(features, weight, bias, shard)
    check_tensors(label=label)
    if not is_index_label(label):
        raise ValueError(
            'Expected `label` to hold class indices (N,): a sharded classifier does not take '
            f'dense targets, but got shape {tuple(label.shape)}'
        )
    if sample_weight is not None:
        check_factor('sample_weight', sample_weight, features.shape[0], 'image')
    # The logits that there will never be, as far as their shape and dtype are asked for.
    cls_score = features.detach().new_empty(()).expand(features.shape[0], shard.num_classes)
    index = check_inputs(cls_score, label, None, terms, reduction, avg_factor)
    if shard.world_size == 1:
        whole = (features, weight, bias, index, terms)
        return linear_loss(*whole, chunk_budget, sample_weight, reduction, avg_factor)
    if not is_eager_on_cpu(index):
        # Of a class that nobody has, nothing else would tell; the host does not wait for it.
        torch._assert_async(((index >= 0) & (index < shard.num_classes)).all())
    sizes = gather_sizes(features.shape[0], shard, features.device)
    # Autocast computes in its own dtype, and no more than that has to be sent.
    own = features.to(autocast_dtype(features.device.type) or features.dtype)
    every = GatherFeatures.apply(own, sizes, shard)
    index = gather_rows(index, sizes, shard)
    loss = linear_images_loss(every, weight, bias, index, terms, chunk_budget, shard)
    loss = AddLosses.apply(loss, sizes, shard)
    if avg_factor is None and reduction == 'mean':
        avg_factor = max(1, sum(sizes)) / shard.world_size
    return reduce_loss(loss, sample_weight, reduction, avg_factor)


def _check_classifier(
    features: Tensor, weight: Tensor, bias: Tensor | None, shard: ClassShard
) -> None:
    if not isinstance(shard, ClassShard):
        raise TypeError(f'Expected `shard` to be a ClassShard, but got {shard!r:.200}')
    check_classifier(features, weight, None)
    if weight.shape[0] != shard.size:
        raise ValueError(
            f'Expected `weight` to have shape ({shard.size}, {features.shape[1]}), the classes of '
            f'rank {shard.rank} of {shard.world_size}, but got {tuple(weight.shape)}'
        )
    check_classifier(features, weight, bias)  # which would name the bias for a wrong weight
