"""HS-LR and SS-LR as losses of Keras 3, on whatever backend Keras runs.

The equations, and what the parameters do, are those of :mod:`frlr_mm.functional`. Importing this
module imports Keras, and torch only where that is Keras' backend.
"""

import importlib.util
from typing import Any

import numpy as np

from ._checks import check_class_factor, check_number

if importlib.util.find_spec('keras') is None:
    raise ModuleNotFoundError("frlr_mm.keras needs keras: pip install 'frlr_mm[keras]'")

import keras  # not before the message above
from keras import ops

__all__ = ['FocusRectifiedLoss', 'HSLRLoss', 'SSLRLoss']


class FocusRectifiedLoss(keras.losses.Loss):
    """Base class: what the two losses are built with and called with.

    Half precision is computed in float32. Where a value of ``y_true`` is out of range, the loss is
    NaN if values cannot be read at once (in a graph, on a GPU), else an error.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0.
        class_weight (float | Sequence[float], optional): A factor for both terms of each class,
            one number for all or (C,).
        pos_weight (float | Sequence[float], optional): A factor for the positive term of each
            class, one number for all or (C,).
        reduction (str, optional): One of Keras' reductions.
        name (str, optional): The name of the loss.
        dtype (str | keras.DTypePolicy, optional): What is computed in; None stands for
            ``keras.config.floatx()``.

    Raises:
        TypeError: If a number is not one.
        ValueError: If a number or ``reduction`` is out of range.
    """

    def __init__(
        self,
        alpha: Any,
        class_weight: Any,
        pos_weight: Any,
        reduction: str | None,
        name: str | None,
        dtype: Any,
    ) -> None:
        dtype = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype
        super().__init__(name, reduction, dtype if dtype == 'float64' else 'float32')
        if alpha != 'sum':
            check_number('alpha', alpha)
        self.alpha = alpha
        self.class_weight = check_class_factor('class_weight', class_weight)
        self.pos_weight = check_class_factor('pos_weight', pos_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the losses of the images, which Keras then weights and reduces.

        Args:
            y_true (Tensor): Class indices (N,) or (N, 1), in [0, C), or dense targets (N, C), in
                [0, 1] or below 0 for unknown entries.
            y_pred (Tensor): Logits (N, C), of the dtype of ``y_true``.

        Returns:
            Tensor: The losses of the images (N,); their mean is L.

        Raises:
            ValueError: If a shape or, where it can be read at once, a value of ``y_true`` does not
                fit.
        """
        target = _dense_target(y_true, y_pred)
        unknown = target < 0
        positive, negative = ops.where(unknown, 0, target), ops.where(unknown, 0, 1 - target)
        positive = positive / _mean_count(positive)
        class_weight = self._class_factor('class_weight', y_pred)
        positive = positive * class_weight * self._class_factor('pos_weight', y_pred)
        loss = _masked(positive, ops.softplus(-y_pred))
        return ops.sum(loss, axis=1) + self._negative_term(
            _masked(negative * class_weight, ops.softplus(y_pred)), y_pred, negative, unknown
        )

    def _negative_term(self, terms: Any, y_pred: Any, negative: Any, unknown: Any) -> Any:
        """Return the selected terms of each image, added up and scaled (N,)."""
        raise NotImplementedError

    def _class_factor(self, name: str, y_pred: Any) -> Any:
        factor = getattr(self, name)
        if isinstance(factor, tuple) and len(factor) != y_pred.shape[1]:
            raise ValueError(
                f'Expected `{name}` to have shape ({y_pred.shape[1]},), one for each class, '
                f'but got ({len(factor)},)'
            )
        return ops.convert_to_tensor(1.0 if factor is None else factor, dtype=self.dtype)

    def get_config(self) -> dict:
        """Return the arguments that make an equal loss."""
        names = ('alpha', 'class_weight', 'pos_weight', 'dtype')
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable('frlr_mm')
class HSLRLoss(FocusRectifiedLoss):
    """Logistic regression with hard selection of the negative classes (HS-LR), for logits.

    See :func:`frlr_mm.functional.hs_lr_loss` for the equation.

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is k, the
            number selected, so that an image's selected terms are summed, not averaged. Defaults
            to 'sum'.
        ratio (float): The share of the classes that is selected, in (0, 1]. Defaults to 0.1.
        class_weight (float | Sequence[float], optional): A factor for both terms of each class,
            one number for all or (C,). Defaults to None.
        pos_weight (float | Sequence[float], optional): A factor for the positive term of each
            class, one number for all or (C,). Defaults to None.
        reduction (str, optional): One of Keras' reductions. Defaults to 'sum_over_batch_size'.
        name (str, optional): The name of the loss. Defaults to 'hs_lr_loss'.
        dtype (str | keras.DTypePolicy, optional): What is computed in; None stands for
            ``keras.config.floatx()``. Defaults to None.

    Raises:
        TypeError: If a number is not one.
        ValueError: If a number or ``reduction`` is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 5.
    """

    def __init__(
        self,
        alpha: Any = 'sum',
        ratio: float = 0.1,
        class_weight: Any = None,
        pos_weight: Any = None,
        reduction: str | None = 'sum_over_batch_size',
        name: str | None = 'hs_lr_loss',
        dtype: Any = None,
    ) -> None:
        super().__init__(alpha, class_weight, pos_weight, reduction, name, dtype)
        check_number('ratio', ratio, high=1.0, open_low=True)
        self.ratio = ratio

    def _negative_term(self, terms: Any, y_pred: Any, negative: Any, unknown: Any) -> Any:
        # k for each number of known classes. In float64: floor(100 * 0.29) is 28 without the
        # tolerance, which is that of `frlr_mm.functional.num_selected`.
        k = np.floor(np.arange(y_pred.shape[1] + 1) * self.ratio + 1e-6)
        k = np.maximum(1, k).astype('int32')
        num_known = ops.sum(ops.cast(~unknown, 'int32'), axis=1, keepdims=True)
        row_k = ops.take(ops.convert_to_tensor(k), num_known)
        value = ops.stop_gradient(terms)
        least = ops.take_along_axis(ops.top_k(value, int(k[-1]))[0], row_k - 1, axis=1)
        greater, tied = ~(value <= least), ops.equal(value, least)  # NaN is greater
        # Of equal terms the first classes.
        ties = row_k - ops.sum(ops.cast(greater, 'int32'), axis=1, keepdims=True)
        first = ops.cumsum(ops.cast(tied, 'int32'), axis=1) <= ties
        loss = ops.sum(_masked(ops.cast(greater | (tied & first), terms.dtype), terms), axis=1)
        if self.alpha == 'sum':
            return loss
        return loss * self.alpha / ops.cast(row_k[:, 0], terms.dtype)

    def get_config(self) -> dict:
        """Return the arguments that make an equal loss."""
        return {**super().get_config(), 'ratio': self.ratio}


@keras.saving.register_keras_serializable('frlr_mm')
class SSLRLoss(FocusRectifiedLoss):
    """Logistic regression with soft selection of the negative classes (SS-LR), for logits.

    See :func:`frlr_mm.functional.ss_lr_loss` for the equation. ``gamma=0`` is plain logistic
    regression (LR).

    Args:
        alpha (float | 'sum'): The weight of the negative term, >= 0. With 'sum' it is the number
            of negatives per image, averaged over the batch (C - 1 for single labels), so that
            an image's negative terms are summed, not averaged. Defaults to 'sum'.
        gamma (float): The temperature of the selection, >= 0; at 0 every negative counts the
            same. Defaults to 0.25.
        class_weight (float | Sequence[float], optional): A factor for both terms of each class,
            one number for all or (C,). Defaults to None.
        pos_weight (float | Sequence[float], optional): A factor for the positive term of each
            class, one number for all or (C,). Defaults to None.
        reduction (str, optional): One of Keras' reductions. Defaults to 'sum_over_batch_size'.
        name (str, optional): The name of the loss. Defaults to 'ss_lr_loss'.
        dtype (str | keras.DTypePolicy, optional): What is computed in; None stands for
            ``keras.config.floatx()``. Defaults to None.

    Raises:
        TypeError: If a number is not one.
        ValueError: If a number or ``reduction`` is out of range.

    Source: Dong, Zhu, Gong, "Single-Label Multi-Class Image Classification by Deep Logistic
    Regression", AAAI 2019, Eq. 6.
    """

    def __init__(
        self,
        alpha: Any = 'sum',
        gamma: float = 0.25,
        class_weight: Any = None,
        pos_weight: Any = None,
        reduction: str | None = 'sum_over_batch_size',
        name: str | None = 'ss_lr_loss',
        dtype: Any = None,
    ) -> None:
        super().__init__(alpha, class_weight, pos_weight, reduction, name, dtype)
        check_number('gamma', gamma)
        self.gamma = gamma

    def _negative_term(self, terms: Any, y_pred: Any, negative: Any, unknown: Any) -> Any:
        if self.gamma > 0:
            # p^gamma, as a power of p = 0 has an infinite derivative.
            terms = terms * ops.exp(-self.gamma * ops.softplus(-y_pred))
        loss = ops.sum(terms, axis=1)
        if self.alpha == 'sum':
            return loss
        return loss * self.alpha / _mean_count(negative)

    def get_config(self) -> dict:
        """Return the arguments that make an equal loss."""
        return {**super().get_config(), 'gamma': self.gamma}


def _mean_count(part: Any) -> Any:
    """Return the sum of each image, averaged over the batch; 1 where there is nothing to count."""
    # (On torch, ops.mean and ops.divide_no_nan turn float64 into float32.)
    count = ops.sum(part) / ops.cast(ops.shape(part)[0], part.dtype)
    return count + ops.cast(ops.equal(count, 0), count.dtype)


def _masked(factor: Any, terms: Any) -> Any:
    """Multiply, where the factor is not 0; a term may be infinite where it is."""
    return ops.where(ops.equal(factor, 0), 0, factor * terms)


def _dense_target(y_true: Any, y_pred: Any) -> Any:
    """Return the targets (N, C), NaN where a value of ``y_true`` is out of range."""
    if len(y_pred.shape) != 2 or y_pred.shape[1] is None:
        raise ValueError(
            f'Expected `y_pred` to have shape (N, C) of known C, but got {tuple(y_pred.shape)}'
        )
    num_images, num_classes = y_pred.shape
    is_dense = tuple(y_true.shape[1:]) == (num_classes,)
    is_index = num_classes > 1 and tuple(y_true.shape[1:]) in ((), (1,))
    sizes = {*y_true.shape[:1], num_images} - {None}  # None where a graph does not know it
    if not (is_dense or is_index) or len(y_true.shape) == 0 or len(sizes) > 1:
        raise ValueError(
            'Expected `y_true` to hold class indices (N,) or (N, 1), of at least 2 classes, or '
            f'targets (N, C) for `y_pred` of shape {tuple(y_pred.shape)}, '
            f'but got shape {tuple(y_true.shape)}'
        )
    if is_dense:
        is_valid = y_true <= 1
        wanted = 'targets in [0, 1], or below 0 for unknown entries'
        target = y_true
    else:
        y_true = ops.reshape(y_true, (-1, 1))
        is_valid = (y_true >= 0) & (y_true < num_classes) & ops.equal(ops.floor(y_true), y_true)
        wanted = f'class indices in [0, {num_classes})'
        classes = ops.arange(num_classes, dtype=y_true.dtype)
        target = ops.cast(ops.equal(y_true, classes), y_true.dtype)
    if _is_readable(y_true) and not bool(ops.all(is_valid)):
        value = ops.convert_to_numpy(y_true)[~ops.convert_to_numpy(is_valid)][0]
        raise ValueError(f'Expected `y_true` to hold {wanted}, but got {value:g}')
    return ops.where(is_valid, target, float('nan'))


def _is_readable(tensor: Any) -> bool:
    """Tell an eager tensor of torch or TensorFlow on the CPU: its values need no waiting for."""
    return hasattr(tensor, 'numpy') and 'cpu' in str(tensor.device).lower()
