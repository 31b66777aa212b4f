"""A few images through the loss and the metrics, before the first step."""

import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.amp import autocast
from mmpretrain.evaluation import Accuracy, AveragePrecision, MultiLabelMetric, SingleLabelMetric
from mmpretrain.models import (
    AverageClsScoreTTA,
    CrossEntropyLoss,
    ImageClassifier,
    MultiLabelClsHead,
)
from torch import nn
from torch.utils.data import DataLoader

from ..._checks import check_int
from ...datasets.transforms import LoadCheckedImage, UnreadableImageError
from ...evaluation.attribute_metric import AttributeMetric
from ...evaluation.reid_metric import ReIDMetric
from ...models.heads.bnneck_head import BNNeckHead
from ...models.heads.fused_linear_cls_head import FusedLinearClsHead
from ..config_checks import describe_unreadable_image
from ..run_checks import TrainingChecksHook
from .finite_loss_hook import NonFiniteLossError

# What can be computed for any two images, and writes no file.
_ANY_IMAGES = (Accuracy, AveragePrecision, AttributeMetric, MultiLabelMetric, SingleLabelMetric)


@HOOKS.register_module()
class DryRunHook(Hook):
    """End a run before its first step where model, data and metrics do not fit together.

    The first and the last image of the training data go through the loss, those of the validation
    or test data through the model and the metrics. Weights, statistics and the state of random
    numbers stay as they are. For re-identification, the annotations are asked for queries, a
    gallery and a match. `save_best`, and what a hook for early stopping monitors, have to be among
    the values of the metrics; where the latter hook is not strict, that is a warning. Images go
    through an ``ImageClassifier`` alone, which has to be on a device of its own or in
    ``MMDistributedDataParallel``.

    Raises:
        ValueError: Before training, validation or testing, if something does not fit.
    """

    # Last, after whatever hooks have changed.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Try the loss and what validation takes."""
        loader: DataLoader = runner.train_dataloader
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            _refuse_endless_sampler('train_dataloader', loader, 'training by epochs')
        model = _classifier(runner)
        if model is not None:
            _refuse_too_few_outputs(model, loader)
            _refuse_soft_labels(model)
            _refuse_softmax_of_several_labels(model)
            with _leaving_no_trace(model), _noting_nothing(loader.dataset):
                _try_loss(runner, model, loader)
        if runner.val_loop is not None:
            check_int('train_cfg.val_interval', runner.train_loop.val_interval, 1)
            names = _try_metrics(runner, 'val', runner.val_loop)
            if names is not None:
                _check_monitored(runner, names)

    def before_test(self, runner: Runner) -> None:
        """Try what testing takes."""
        _try_metrics(runner, 'test', runner.test_loop)


def _classifier(runner: Runner) -> Any:
    """Return the model where it is one that takes any image at any time."""
    model: Any = runner.model
    if is_model_wrapper(model):
        if type(model).__name__ != 'MMDistributedDataParallel':
            return None  # its parameters are in pieces
        model = model.module
    inner = getattr(model, 'module', model)  # of test-time augmentation
    return model if isinstance(inner, ImageClassifier) else None


@contextmanager
def _leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Bring back statistics, modes and random numbers."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = {module: module.training for module in model.modules()}
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (what transforms draw from)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for module, mode in training.items():
            module.training = mode
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])


@contextmanager
def _noting_nothing(dataset: Any) -> Iterator[None]:
    """Let unreadable images be skipped without a note: none of this is training.

    (A note could not be taken back: other processes write to the same file.)
    """
    records = [(transform, transform.record) for transform in _find_recorders(dataset)]
    try:
        for transform, _ in records:
            transform.record = None
        yield
    finally:
        for transform, record in records:
            transform.record = record


def _find_recorders(node: Any) -> Iterator[LoadCheckedImage]:
    """Yield what loads the images of a data set, inside what wraps data sets and transforms."""
    if isinstance(node, LoadCheckedImage):
        yield node
    elif isinstance(node, (list, tuple)):
        for part in node:
            yield from _find_recorders(part)
    else:
        for name in ('dataset', 'datasets', 'pipeline', 'transforms'):
            if hasattr(node, name):
                yield from _find_recorders(getattr(node, name))


def _explain(what: str, call: Callable, *args: Any) -> Any:
    """Call, and say of an error what was tried."""
    try:
        return call(*args)
    except (NonFiniteLossError, UnreadableImageError):
        raise
    except Exception as error:
        if describe_unreadable_image(error) is not None:
            raise  # the line of its own
        text = ' '.join(str(error).split())
        if text.startswith(('Expected ', 'ReIDMetric ', 'AttributeMetric ')):
            raise  # one of this package's own says it all
        # Many of mmpretrain's assertions say nothing.
        text = text or traceback.extract_tb(error.__traceback__)[-1].line or ''
        raise ValueError(f'{what}, but got {type(error).__name__}: {text}') from error


def _batches(field: str, loader: DataLoader, together: bool) -> Iterator[Any]:
    """Yield the first and the last image, as the loader would."""
    dataset: Any = loader.dataset
    if not hasattr(dataset, '__getitem__') or not hasattr(dataset, '__len__'):
        return
    batch_sampler: Any = loader.batch_sampler
    size = loader.batch_size or getattr(batch_sampler, 'batch_size', None) or 1
    what = f'Expected the data set of `{field}` to load its images'
    items = [_explain(what, dataset.__getitem__, i) for i in sorted({0, len(dataset) - 1})]
    for batch in [items] if together and size > 1 else [[item] for item in items]:
        yield _explain(f'Expected `{field}` to make batches', loader.collate_fn, batch)


def _try_loss(runner: Runner, model: Any, loader: DataLoader) -> None:
    def compute(batch: Any) -> None:
        with runner.optim_wrapper.optim_context(model):
            model(**model.data_preprocessor(batch, True), mode='loss')

    checks = [hook for hook in runner.hooks if isinstance(hook, TrainingChecksHook)]
    model.train()
    for batch in _batches('train_dataloader', loader, together=True):
        for hook in checks:
            hook.before_train_iter(runner, 0, batch)
        _explain('Expected the model to take the images of `train_dataloader`', compute, batch)


def _try_metrics(runner: Runner, split: str, loop: Any) -> list[str] | None:
    """Try the metrics of a loop; return the names of their values, None if they are not known."""
    loader, evaluator = loop.dataloader, loop.evaluator
    _refuse_endless_sampler(f'{split}_dataloader', loader, 'evaluation')
    metrics: list[BaseMetric] = evaluator.metrics if isinstance(evaluator, Evaluator) else []
    model = _classifier(runner)
    if model is None or not metrics:
        return None
    inner = getattr(model, 'module', model)
    if isinstance(model, AverageClsScoreTTA) and isinstance(inner.head, BNNeckHead):
        raise ValueError(
            'Expected a model that scores classes for AverageClsScoreTTA, which --tta takes, but '
            'got BNNeckHead, which gives features: test without --tta, or name a `tta_model` and '
            'a `tta_pipeline` in the config'
        )
    with _leaving_no_trace(model), autocast(enabled=getattr(loop, 'fp16', False)):
        model.eval()
        outputs = []
        for batch in _batches(f'{split}_dataloader', loader, together=False):
            what = f'Expected the model to take the images of `{split}_dataloader`'
            samples = _explain(what, model.test_step, batch)
            outputs.append((batch, [sample.to_dict() for sample in samples]))
    names: list[str] | None = []
    for metric in metrics:
        values = _try_metric(metric, f'{split}_evaluator', outputs)
        if isinstance(metric, ReIDMetric):
            _check_persons(loader.dataset, split)
        if names is not None:
            names = None if values is None else names + values
    return names


def _try_metric(metric: BaseMetric, field: str, outputs: list) -> list[str] | None:
    what = f'Expected {type(metric).__name__} in `{field}` to take what the model predicts'
    before = metric.results
    metric.results = []
    try:
        for batch, samples in outputs:
            _explain(what, metric.process, batch, samples)
        if isinstance(metric, ReIDMetric):
            feature, label, camera, _ = metric.results[0]
            metric.results = [(feature, label, camera, True), (feature, label, camera + 1, False)]
        elif type(metric) not in _ANY_IMAGES:
            return None
        values = _explain(what, metric.compute_metrics, metric.results)
    finally:
        metric.results = before
    return [f'{metric.prefix}/{name}' if metric.prefix else name for name in values]


def _refuse_endless_sampler(field: str, loader: DataLoader, what: str) -> None:
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    if isinstance(sampler, InfiniteSampler):
        raise ValueError(
            f'Expected the sampler of `{field}` to end, for {what}, but got InfiniteSampler: use '
            'DefaultSampler'
        )


def _refuse_too_few_outputs(model: Any, loader: DataLoader) -> None:
    """Labels above the outputs would come up at any iteration."""
    head = getattr(model, 'head', None)
    outputs = getattr(head, 'num_classes', None)
    classes = getattr(loader.dataset, 'metainfo', {}).get('classes')
    if isinstance(outputs, int) and classes is not None and len(classes) > outputs > 0:
        raise ValueError(
            f'Expected `model.head.num_classes` to be at least {len(classes)}, the number of '
            f'classes of {type(loader.dataset).__name__}, but got {outputs}'
        )


def _refuse_soft_labels(model: Any) -> None:
    """Batch augmentations may leave the first batches alone."""
    if isinstance(model.head, FusedLinearClsHead) and model.data_preprocessor.batch_augments:
        raise ValueError(
            f'Expected `model.train_cfg.augments` to be None beside {type(model.head).__name__}, '
            'which takes class indices alone, but got batch augmentations: use LinearClsHead with '
            'them'
        )


def _refuse_softmax_of_several_labels(model: Any) -> None:
    """They would train, while the head predicts by sigmoids."""
    loss = getattr(model.head, 'loss_module', None)
    if (
        isinstance(model.head, MultiLabelClsHead)
        and isinstance(loss, CrossEntropyLoss)
        and not loss.use_sigmoid
    ):
        raise ValueError(
            f'Expected the loss of {type(model.head).__name__} to have a sigmoid for each class, '
            'but got CrossEntropyLoss with a softmax: set `use_sigmoid=True`'
        )


def _check_persons(dataset: Any, split: str) -> None:
    """Ask the annotations for what the metric would miss once all features are there."""
    get_info = getattr(dataset, 'get_data_info', None)
    infos = [get_info(i) for i in range(len(dataset))] if get_info is not None else []
    if not infos or any(key not in infos[0] for key in ('gt_label', 'camera_id', 'is_query')):
        return  # a transform may set them
    queries: set[tuple[int, int]] = set()
    gallery: set[tuple[int, int]] = set()
    for info in infos:
        (queries if info['is_query'] else gallery).add((int(info['gt_label']), info['camera_id']))
    for name, part in (('queries', queries), ('gallery', gallery)):
        if not part:
            raise ValueError(
                f'Expected `{split}_dataloader` to hold queries and a gallery, for ReIDMetric, '
                f"but got no {name}: use split 'test'"
            )
    cameras: dict[int, set] = {}
    for label, camera in gallery:
        cameras.setdefault(label, set()).add(camera)
    if not any(cameras.get(label, set()) - {camera} for label, camera in queries):
        raise ValueError(
            f'Expected `{split}_dataloader` to hold a match in the gallery, of the same person '
            'and another camera, for at least one query, but none has one'
        )


def _check_monitored(runner: Runner, names: list[str]) -> None:
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            field, wanted = 'save_best', hook.save_best or []
        elif isinstance(hook, EarlyStoppingHook):
            field, wanted = 'monitor', [hook.monitor]
        else:
            continue
        for name in wanted:
            if name == 'auto' or name in names:
                continue
            line = (
                f'Expected `{field}` of {type(hook).__name__} to be one of {names}, but got '
                f'{name!r}'
            )
            if getattr(hook, 'strict', True):
                raise ValueError(line)
            runner.logger.warning(f'{line}: it never stops this run')
