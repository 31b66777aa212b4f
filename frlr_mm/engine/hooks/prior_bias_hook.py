"""Start a classifier from the label frequencies of its training data."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from frlr_mm.datasets.label_counts import count_labels


@HOOKS.register_module()
class PriorBiasHook(Hook):
    r"""Set the bias of the classifier to the log-odds of each class in the training data.

    Before training, the labels of the training data set are counted, and the bias of the last
    linear layer of ``model.head`` becomes

    .. math:: b_j = \log \frac{p_j}{1 - p_j},\quad p_j = \frac{n_j + m}{N_j + 1}

    where :math:`n_j` of the :math:`N_j` known labels of class j are positive, and m is the share
    of positives among the known labels of all classes. The weights stay as they are.

    A classifier that comes from a checkpoint, by ``load_from`` or ``resume``, keeps its bias.
    Weights for the backbone alone don't touch the classifier, which then starts from the prior.
    A checkpoint in ``init_cfg`` of the model or the head is refused: what it sets is not known.

    Raises:
        TypeError: Before training, if the training data set shows no annotations.
        ValueError: Before training, if the head has no linear layer with a bias for each class,
            the labels don't fit the classes, none or all of them are positive, or the model or
            its head has an ``init_cfg`` of type 'Pretrained'.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, torch.Size] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember what the checkpoint holds; a shape that does not fit is not loaded."""
        state = checkpoint.get('state_dict', checkpoint)
        self._loaded = {
            key.removeprefix('module.'): value.shape
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        }

    def before_train(self, runner: Runner) -> None:
        """Set the bias, after weights are initialised and loaded and before any averaging."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        name, classifier = find_classifier(model)
        bias = classifier.bias
        if self._loaded.get(name) == bias.shape:
            runner.logger.info(f'PriorBiasHook: {name} is from a checkpoint and stays as it is')
            return
        for owner, module in (('model', model), ('model.head', model.head)):
            init_cfg = getattr(module, 'init_cfg', None) or []
            for cfg in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
                if cfg.get('type') == 'Pretrained':
                    raise ValueError(
                        f'Expected `{owner}.init_cfg` to hold no checkpoint beside a '
                        "PriorBiasHook, but got 'Pretrained': name it as `load_from`"
                    )
        counts = count_labels(runner.train_dataloader.dataset, bias.numel())
        prior = counts.prior()
        log_odds = torch.from_numpy(np.log(prior) - np.log1p(-prior))
        with torch.no_grad():
            bias.copy_(log_odds)
        runner.logger.info(
            f'PriorBiasHook: bias from {counts.num_images:,} images, {bias.numel():,} classes, '
            f'prior between {prior.min():.3g} and {prior.max():.3g} (mean {prior.mean():.3g})'
        )


def find_classifier(model: nn.Module) -> tuple[str, nn.Linear]:
    """Find the last linear layer of a model's head.

    Args:
        model (nn.Module): The model, not wrapped.

    Returns:
        tuple[str, nn.Linear]: The name of its bias in the model, and the layer.

    Raises:
        ValueError: If there is none, or it has no bias.
    """
    head: nn.Module | None = getattr(model, 'head', None)
    layers = [
        (name, module)
        for name, module in (head.named_modules() if head is not None else ())
        if isinstance(module, nn.Linear)
    ]
    if not layers or layers[-1][1].bias is None:
        owner = type(model if head is None else head).__name__
        problem = 'its linear layer has no bias' if layers else 'it has no linear layer'
        raise ValueError(
            'PriorBiasHook expected `model.head` to have a linear classifier with a bias, but '
            f'{"the model has no head" if head is None else problem} ({owner})'
        )
    name, classifier = layers[-1]
    return '.'.join(filter(None, ('head', name, 'bias'))), classifier
