"""Scale and shift of logits, fitted on a validation set and folded into a checkpoint."""

import torch
import torch.nn.functional as F
from mmpretrain.models import ConformerHead
from torch import Tensor, nn

from .hooks.prior_bias_hook import find_classifiers

# What is computed at a time, in images.
_ROWS = 4096
# Nats per image, below which the likelihood has no maximum, only one out of reach.
_SEPARATED = 1e-6


def fit(logits: Tensor, label: Tensor, logistic: bool) -> tuple[float, float]:
    """Fit scale and shift of logits by the likelihood of labels, which is concave in both.

    Args:
        logits (Tensor): Logits (N, C).
        label (Tensor): Classes, int64 (N,), in [0, C); or for several labels (N, C), in [0, 1] or
            below 0 where unknown, with ``logistic`` alone.
        logistic (bool): Whether scores are sigmoids, of C yes-or-no answers; else they are a
            softmax, of which a shift changes nothing and is 0.

    Returns:
        tuple[float, float]: Scale (1 / temperature) and shift: calibrated logits are
        ``scale * logits + shift``.

    Raises:
        ValueError: If there is no image, or the likelihood is the greatest for no finite scale
            above 0: the logits say nothing of the labels, or separate them without an error.
    """
    if not len(logits):
        raise ValueError('Expected images with known labels to calibrate on, but got none')
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=200,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn='strong_wolfe',
    )

    def closure() -> float:
        optimizer.zero_grad()
        total = 0.0
        for rows, truth in zip(logits.split(_ROWS), label.split(_ROWS), strict=True):
            scale, shift = parameters
            loss = _loss(rows.double() * scale + shift, truth, logistic).sum() / len(logits)
            loss.backward()
            total += loss.item()
        return total

    optimizer.step(closure)
    scale, shift = parameters.tolist()
    if not scale > 0 or likelihood_loss(logits * scale + shift, label, logistic) < _SEPARATED:
        raise ValueError(
            f'Expected logits that can be calibrated, but got a scale of {scale:.3g}: either they '
            'say nothing of the labels, or they separate all of them, as those of training images '
            'may'
        )
    return scale, shift if logistic else 0.0


@torch.no_grad()
def likelihood_loss(logits: Tensor, label: Tensor, logistic: bool) -> float:
    """Return the negative log-likelihood that :func:`fit` makes as small as it can, in nats.

    Args:
        logits (Tensor): As for :func:`fit`.
        label (Tensor): As for :func:`fit`.
        logistic (bool): As for :func:`fit`.

    Returns:
        float: The mean over images.
    """
    parts = zip(logits.split(_ROWS), label.split(_ROWS), strict=True)
    total = sum(_loss(rows.double(), truth, logistic).sum().item() for rows, truth in parts)
    return total / len(logits)


def _loss(logits: Tensor, label: Tensor, logistic: bool) -> Tensor:
    """Return the negative log-likelihood of each image."""
    if not logistic:
        return F.cross_entropy(logits, label, reduction='none')
    if label.ndim == 1:
        return F.softplus(logits).sum(1) - logits.gather(1, label[:, None])[:, 0]
    return ((F.softplus(logits) - label * logits) * (label >= 0)).sum(1)


@torch.no_grad()
def fold(model: nn.Module, scale: float, shift: float) -> dict[str, Tensor]:
    """Scale and shift the logits of a model by its classifier's weights and biases, in place.

    So every reader of the weights gets them, and no parameter is new.

    Args:
        model (nn.Module): A classifier whose head ends in a linear layer with a bias, or two side
            by side.
        scale (float): The factor of the logits.
        shift (float): What is added to them.

    Returns:
        dict[str, Tensor]: What has changed of the model's state.

    Raises:
        ValueError: If the head has no such layer.
    """
    ((_, layers),) = find_classifiers(model)
    # The two branches of Conformer are added up, those of other heads averaged.
    share = shift / len(layers) if isinstance(model.head, ConformerHead) else shift
    changed = {}
    for name, layer in layers.items():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale).add_(share)
        for part in ('weight', 'bias'):
            changed[name.removesuffix('bias') + part] = getattr(layer, part).detach()
    return changed
