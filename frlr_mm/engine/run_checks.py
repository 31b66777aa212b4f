"""What a run is checked by where it starts: classes, bias, ratio, labels, tasks, checkpoint.

Its hooks are not part of any config: :func:`frlr_mm.engine.launch.build_run` adds them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.models import (
    AsymmetricLoss,
    CrossEntropyLoss,
    CSRAClsHead,
    FocalLoss,
    ImageClassifier,
    MultiLabelClsHead,
    MultiTaskHead,
)
from mmpretrain.structures import DataSample
from torch import nn

from ..functional._select import num_selected
from ..models.heads.bnneck_head import BNNeckHead
from ..models.losses import FocusRectifiedLoss, HSLRLoss
from ..models.sharded_linear import find_shards
from .config_checks import UNUSED_OUTPUTS
from .hooks.focus_annealing_hook import FocusAnnealingHook
from .hooks.prior_bias_hook import PriorBiasHook, check_num_classes, find_classifiers

# From how many classes on sigmoids that start at 1 / 2 and a single class selected are warned of.
_MANY_CLASSES = 20
_ENOUGH_CLASSES = 100


class LabelRangeError(ValueError):
    """A label of a training image does not fit the classifier."""


class CheckpointMisfitError(ValueError):
    """A checkpoint to test is of another model."""


class TrainingChecksHook(Hook):
    """Checks the start of training, and the labels of each batch before they reach the device."""

    priority = 'VERY_LOW'  # after PriorBiasHook, before DryRunHook

    def before_train(self, runner: Runner) -> None:
        """Compare the number of outputs with the data; warn of a poor start."""
        model = _unwrapped(runner.model)
        self.num_outputs = find_num_outputs(model)
        self.dataset = runner.train_dataloader.dataset
        hooks = runner.hooks
        if self.num_outputs and not any(isinstance(hook, PriorBiasHook) for hook in hooks):
            check_num_classes(
                model,
                self.dataset,
                self.num_outputs,
                allow_unused=type(self.dataset).__name__ in UNUSED_OUTPUTS,
            )
        if not runner._resume:
            _warn_of_bias(runner, model)
        _warn_of_ratio(runner, model, self.num_outputs)
        if runner.val_loop is not None:
            trained = getattr(self.dataset, 'metainfo', {}).get('classes')
            _warn_of_classes(runner, model, runner.val_loop, trained, 'training')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Find a label that no output stands for, where it is still on the CPU."""
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        if not self.num_outputs or not samples or not isinstance(samples[0], DataSample):
            return
        labels = [sample.gt_label for sample in samples if 'gt_label' in sample]
        if labels:
            joined = torch.cat(labels)
            # One look at all of them; which it was is looked for only if there is one.
            if joined.numel() and not 0 <= joined.min() <= joined.max() < self.num_outputs:
                for sample in samples:
                    self._refuse(sample, sample.gt_label, self.num_outputs)
        for sample in samples:
            if 'gt_score' in sample and len(sample.gt_score) != self.num_outputs:
                raise LabelRangeError(
                    f'Expected `gt_score` of {self._image(sample)} to have shape '
                    f'({self.num_outputs},), `num_classes` of the classifier, but got '
                    f'{tuple(sample.gt_score.shape)}'
                )

    def _refuse(self, sample: DataSample, label: torch.Tensor, num_outputs: int) -> None:
        if label.numel() and not 0 <= label.min() <= label.max() < num_outputs:
            values = label.tolist()
            raise LabelRangeError(
                f'Expected `gt_label` of {self._image(sample)} to be in [0, {num_outputs}), '
                f'`num_classes` of the classifier, but got '
                f'{values[0] if len(values) == 1 else values}'
            )

    def _image(self, sample: DataSample) -> str:
        image = sample.get('img_path') or f'image {sample.get("sample_idx")}'
        return f'{image} of {type(self.dataset).__name__}'


class CheckpointFitHook(Hook):
    """Refuses a checkpoint to test whose classifier, or half of whose keys, are of another model.

    mmengine loads what fits and leaves the rest at random. Where the classes have other names, a
    warning says so.
    """

    priority = 'LOWEST'  # after EMAHook has chosen what is loaded

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before anything is loaded into the model."""
        model = _unwrapped(runner.model)
        state = checkpoint.get('state_dict', checkpoint)
        found = {
            key.removeprefix('module.'): tuple(value.shape)
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        }
        own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        # A process has its share of the classes, the checkpoint all of them.
        for name, layer in find_shards(model).items():
            for key, value in layer.named_parameters(prefix=name):
                own[key] = (layer.out_features, *value.shape[1:])
        misfits = [key for key, shape in own.items() if found.get(key) != shape]
        classifier = [key for key in misfits if key in _classifier_keys(model)]
        if not classifier and 2 * len(misfits) < len(own):
            trained = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
            if 'classes' in trained:
                _warn_of_classes(
                    runner, model, runner.test_loop, trained['classes'], 'the checkpoint'
                )
            return
        key = (classifier or misfits)[0]
        theirs = f'has shape {found[key]}' if key in found else 'is missing'
        raise CheckpointMisfitError(
            f'Expected the checkpoint to be of this model, but {len(misfits)} of its {len(own)} '
            f'parameters do not fit: {key} {theirs} in the checkpoint and {own[key]} in the '
            'model; --allow-mismatch tests what fits'
        )


def refuse_no_batches(runner: Runner) -> None:
    """Raise a ValueError where an epoch would be over before it begins.

    Args:
        runner (Runner): With its training loop.
    """
    loader = runner.train_dataloader
    if len(loader) == 0:
        raise ValueError(
            'Expected `train_dataloader` to have at least one batch, but got none from '
            f'{len(loader.dataset)} images: is `drop_last` set, and `batch_size` larger?'
        )


def refuse_tasks_without_labels(runner: Runner) -> None:
    """Raise a ValueError where ranks could call the losses of dense labels unlike often.

    Each call adds up normalisers over the ranks, and MultiTaskHead leaves a task out where a
    rank's batch has no label of it: sums of different tasks would meet.

    Args:
        runner (Runner): With its model.
    """
    if runner.world_size == 1:
        return
    for module in runner.model.modules():
        tasks = module.task_heads.items() if isinstance(module, MultiTaskHead) else ()
        for name, head in tasks:
            loss = next((m for m in head.modules() if isinstance(m, FocusRectifiedLoss)), None)
            if isinstance(head, MultiLabelClsHead) and loss is not None:
                raise ValueError(
                    f'Expected one process where MultiTaskHead trains the multi-label task '
                    f'{name!r} with {type(loss).__name__}, whose normalisers every rank has to '
                    f'add up in each iteration, but got {runner.world_size}: take stock '
                    'CrossEntropyLoss(use_sigmoid=True) for that task, or one process'
                )


def find_num_outputs(model: nn.Module) -> int | None:
    """Return the number of classes that a model tells apart, None where it does not classify.

    Args:
        model (nn.Module): The model, not wrapped.

    Returns:
        int, optional: None, too, where there are several tasks.
    """
    head: Any = getattr(model, 'head', None)
    if isinstance(head, MultiTaskHead):
        return None
    if isinstance(head, CSRAClsHead):
        return head.csra_heads[0].head.out_channels
    number = getattr(head, 'num_classes', None)
    if isinstance(number, int):
        return number
    biases = _find_biases(model)
    return next(iter(biases.values())).out_features if biases else None


def _find_biases(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the classifiers by the names of their biases, none where none is known."""
    try:
        return {
            name: layer
            for _, classifiers in find_classifiers(model)
            for name, layer in classifiers.items()
        }
    except ValueError:
        return {}


def _classifier_keys(model: nn.Module) -> set[str]:
    """Return the names of all parameters of a head, or of the classifier in a backbone."""
    keys = {key for key in model.state_dict() if key.startswith('head.')}
    biases = _find_biases(model)
    return keys | biases.keys() | {name.removesuffix('bias') + 'weight' for name in biases}


def _warn_of_bias(runner: Runner, model: nn.Module) -> None:
    loss = _find_sigmoid_loss(model)
    for name, layer in _find_biases(model).items() if loss else ():
        if layer.out_features >= _MANY_CLASSES and layer.bias.detach().sigmoid().mean() > 0.25:
            runner.logger.warning(
                f'{loss} starts with {layer.out_features:,} sigmoids at 1 / 2 ({name} is 0): the '
                "negatives of all classes come first; add dict(type='PriorBiasHook') to "
                '`custom_hooks`'
            )


def _find_sigmoid_loss(model: nn.Module) -> str | None:
    head = getattr(model, 'head', None)
    for module in head.modules() if isinstance(head, nn.Module) else ():
        kinds = (FocusRectifiedLoss, CrossEntropyLoss, FocalLoss, AsymmetricLoss)
        if isinstance(module, kinds) and getattr(module, 'use_sigmoid', True):
            return type(module).__name__
    return None


def _warn_of_classes(
    runner: Runner, model: nn.Module, loop: Any, trained: Sequence[str] | None, where: str
) -> None:
    """Warn where data to evaluate numbers its classes unlike those that a model is trained on.

    One list may be longer: it may have classes that are not known. Of re-ID they have nothing in
    common.
    """
    if not isinstance(model, ImageClassifier) or isinstance(model.head, BNNeckHead):
        return
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    found = getattr(dataset, 'metainfo', {}).get('classes')
    for i, (name, expected) in enumerate(zip(found or (), trained or (), strict=False)):
        if name != expected:
            runner.logger.warning(
                f'Class {i} of the {type(dataset).__name__} to evaluate on is {name!r}, but '
                f'{expected!r} in {where}: labels that are numbered otherwise count as wrong'
            )
            return


def _warn_of_ratio(runner: Runner, model: nn.Module, num_outputs: int | None) -> None:
    ends = [
        hook.end_value
        for hook in runner.hooks
        if isinstance(hook, FocusAnnealingHook) and hook.param == 'ratio'
    ]
    ratios = {m.ratio for m in model.modules() if isinstance(m, HSLRLoss)}
    if ends and ratios and not ratios & set(ends):
        runner.logger.warning(
            f'HSLRLoss has ratio {min(ratios):g}, but FocusAnnealingHook ends at {ends[-1]:g}, '
            'which counts: change `end_value` of the hook as well'
        )
    for ratio in ends if ends and ratios else ratios:
        if not num_outputs or not 1 < num_outputs < _ENOUGH_CLASSES:
            return
        if num_selected(num_outputs, ratio) == 1:
            runner.logger.warning(
                f'HSLRLoss with ratio {ratio:g} selects 1 of {num_outputs} classes: an image '
                'pushes down one class at a time; raise `ratio`, and `end_value` of the hook that '
                'anneals it, to select several'
            )


def _unwrapped(model: Any) -> nn.Module:
    """Return the model that was or is trained, out of that of ``--tta``, too."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
