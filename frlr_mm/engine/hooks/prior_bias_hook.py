"""Start a classifier from the label frequencies of its training data."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models import ClsHead, MultiLabelClsHead, MultiTaskHead
from torch import nn

from frlr_mm.datasets.label_counts import count_labels
from frlr_mm.engine._unwrapped import unwrapped

# The layers of stock heads with two classifiers side by side. Their features may have as many
# channels as there are classes; then nothing in the shapes tells them from a hidden layer.
CLASSIFIER_PAIRS = (
    ('layers.head', 'layers.head_dist'),  # DeiTClsHead
    ('conv_cls_head', 'trans_cls_head'),  # ConformerHead
    ('head.linear', 'head_dist.linear'),  # LeViTClsHead
    ('head', 'head_dist'),  # LeViTClsHead, deployed
    ('head', 'dist_head'),  # EfficientFormerClsHead
)


@HOOKS.register_module()
class PriorBiasHook(Hook):
    r"""Set the bias of the classifier to the log-odds of each class in the training data.

    Before training, the labels of the training data set are counted, single labels as well as
    several per image, and the bias of each linear classifier of ``model.head`` becomes

    .. math:: b_j = \log \frac{p_j}{1 - p_j},\quad p_j = \frac{n_j + m}{N_j + 1}

    where :math:`n_j` of the :math:`N_j` known labels of class j are positive, and m is the share
    of positives among the known labels of all classes. With single labels, as many of each of the
    C classes, it is :math:`-\log(C - 1)`. The weights stay as they are. Weight decay pulls the
    bias back to 0, unless ``optim_wrapper.paramwise_cfg`` leaves it out, as in re-identification.

    A head may have two classifiers side by side, as those of DeiT, Conformer and LeViT have, or
    one per task; hidden layers are left alone. Where the head holds no layer, as in VGG and
    InceptionV3, the classifier is the last layer of the backbone. The log names each bias that is
    set.

    A classifier that comes from a checkpoint, by ``load_from`` or ``resume``, keeps its bias.
    Weights for the backbone alone do not touch the classifier, which then starts from the prior.
    A checkpoint in ``init_cfg`` of the model or the head is refused: what it sets is not known.

    Args:
        allow_unused (bool): Whether the classifier may have more outputs than the data set has
            classes. Defaults to False.

    Raises:
        TypeError: Before training, if the training data set shows no annotations.
        ValueError: Before training, if the head has no linear layer with a bias for each class;
            if the head, the data set's classes, the labels and, where it makes dense targets, the
            data preprocessor do not agree about the number of classes; if none or all labels are
            positive; or if the model or its head has an ``init_cfg`` of type 'Pretrained'.
    """

    def __init__(self, allow_unused: bool = False) -> None:
        self.allow_unused = allow_unused
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
        """Set the biases, after weights are initialised and loaded and before any averaging."""
        model = unwrapped(runner)
        dataset = runner.train_dataloader.dataset
        for task, classifiers in find_classifiers(model):
            num_classes = next(iter(classifiers.values())).out_features
            if task is None:
                hint = ', or PriorBiasHook(allow_unused=True)'
                check_num_classes(model, dataset, num_classes, self.allow_unused, hint)
            missing = {}
            for name, layer in classifiers.items():
                if self._loaded.get(name) == (layer.out_features,):
                    runner.logger.info(
                        f'PriorBiasHook: {name} is from a checkpoint and stays as it is'
                    )
                else:
                    missing[name] = layer
            if not missing:
                continue
            _refuse_pretrained(model, next(iter(missing)).split('.')[0])
            counts = count_labels(dataset, num_classes, task)
            prior = counts.prior()
            log_odds = torch.from_numpy(np.log(prior) - np.log1p(-prior))
            with torch.no_grad():
                for layer in missing.values():
                    # A process may hold a share of the classes.
                    layer.bias.copy_(log_odds[getattr(layer, 'rows', slice(None))])
            runner.logger.info(
                f'PriorBiasHook: {" and ".join(missing)} from {counts.num_images:,} images, '
                f'{num_classes:,} classes, prior between {prior.min():.3g} and {prior.max():.3g} '
                f'(mean {prior.mean():.3g})'
            )


def check_num_classes(
    model: nn.Module, dataset: Any, num_classes: int, allow_unused: bool = False, hint: str = ''
) -> None:
    """Raise unless classifier, data set and preprocessor agree about the number of classes.

    Args:
        model (nn.Module): The model, not wrapped.
        dataset (Dataset): Its training data; the classes are those of its ``metainfo``, if any.
        num_classes (int): The number of outputs of the classifier.
        allow_unused (bool): Whether there may be more outputs than classes. Defaults to False.
        hint (str): What the error names besides, where there are more. Defaults to ''.

    Raises:
        ValueError: If they do not.
    """
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if classes is not None and (
        len(classes) > num_classes or (len(classes) < num_classes and not allow_unused)
    ):
        hint = '' if len(classes) > num_classes else hint
        raise ValueError(
            f'Expected `model.head.num_classes` to be {len(classes)}, the number of classes '
            f'of {type(dataset).__name__}{hint}, but got {num_classes}'
        )
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    # Without dense targets, which mixup and cutmix need, it makes no use of the number.
    if getattr(preprocessor, 'to_onehot', False) and preprocessor.num_classes not in (
        None,
        num_classes,
    ):
        raise ValueError(
            f'Expected `data_preprocessor.num_classes` to be {num_classes}, the number of '
            f'outputs of the classifier, but got {preprocessor.num_classes}'
        )


def find_classifiers(model: nn.Module) -> Iterator[tuple[str | None, dict[str, nn.Linear]]]:
    """Find the linear classifiers of a model's head, or that of a backbone with one.

    Args:
        model (nn.Module): The model, not wrapped.

    Yields:
        tuple[str | None, dict[str, nn.Linear]]: The task, None where there is one alone, and its
        classifiers by the names of their biases in the model.

    Raises:
        ValueError: If a head has no linear layer with C outputs, or a classifier has no bias.
    """
    head: nn.Module | None = getattr(model, 'head', None)
    if head is None:
        raise ValueError(
            'Expected `model.head` to have a linear classifier with a bias for PriorBiasHook, but '
            f'the model has no head ({type(model).__name__})'
        )
    if isinstance(head, MultiTaskHead):
        for task, sub_head in head.task_heads.items():
            yield task, _find_biases(sub_head, f'head.task_heads.{task}')
    elif type(head) in (ClsHead, MultiLabelClsHead):  # they hold no layer
        yield None, _find_bias_of_backbone(model)
    else:
        yield None, _find_biases(head, 'head')


def _find_bias_of_backbone(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the last linear layer, which makes the logits, by the name of its bias."""
    backbone: Any = getattr(model, 'backbone', nn.Identity())
    named = backbone.named_modules()
    if not hasattr(backbone, 'num_classes'):  # InceptionV3: not a layer deep inside
        named = backbone.named_children()
    layers = [(name, layer) for name, layer in named if isinstance(layer, nn.Linear)]
    out_features = layers[-1][1].out_features if layers else None
    if (
        not layers
        or layers[-1][1].bias is None
        or getattr(backbone, 'num_classes', out_features) != out_features
    ):
        raise ValueError(
            'Expected `model.head` to have a linear classifier with a bias for PriorBiasHook, or '
            'the backbone to end with one of its `num_classes`, but the head has no linear layer '
            f'({type(model.head).__name__}), nor is there one in {type(backbone).__name__}'
        )
    name, layer = layers[-1]
    return {f'backbone.{name}.bias': layer}


def _find_biases(head: nn.Module, prefix: str) -> dict[str, nn.Linear]:
    """Return the classifiers of a head of one task by the names of their biases."""
    layers = {n: m for n, m in head.named_modules() if isinstance(m, nn.Linear)}
    if isinstance(head, MultiTaskHead):
        raise ValueError(
            f'Expected `model.{prefix}` to be a head of one task, but got {type(head).__name__}'
        )
    owner = f'({type(head).__name__})'
    expected = (
        f'Expected `model.{prefix}` to have a linear classifier with a bias for PriorBiasHook'
    )
    if not layers:
        raise ValueError(f'{expected}, but it has no linear layer {owner}')
    names = list(layers)
    last = layers[names[-1]]
    num_classes = getattr(head, 'num_classes', last.out_features)
    if last.out_features != num_classes:
        raise ValueError(
            f'{expected} and {num_classes} outputs, its `num_classes`, but its last linear layer '
            f'has {last.out_features} {owner}'
        )
    found = (
        next((pair for pair in CLASSIFIER_PAIRS if layers.keys() >= set(pair)), None)
        or [
            name
            for i, name in enumerate(names)
            if layers[name].out_features == num_classes
            # What a later layer could take for its input is hidden.
            and all(layers[later].in_features != num_classes for later in names[i + 1 :])
        ]
    )
    biases = {}
    for name in found:
        if layers[name].bias is None:
            raise ValueError(f'{expected}, but its linear layer has no bias {owner}')
        biases['.'.join(filter(None, (prefix, name, 'bias')))] = layers[name]
    return biases


def _refuse_pretrained(model: nn.Module, part: str) -> None:
    """Refuse a checkpoint that the part with the classifier, or the whole model, starts from."""
    for name, module in model.named_modules():
        if name and name.split('.')[0] != part:  # a backbone may start from a checkpoint
            continue
        owner = '.'.join(filter(None, ('model', name)))
        init_cfg = getattr(module, 'init_cfg', None) or []
        for cfg in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
            if cfg.get('type') == 'Pretrained':
                raise ValueError(
                    f'Expected `{owner}.init_cfg` to hold no checkpoint beside a PriorBiasHook, '
                    "but got 'Pretrained': name it as `load_from`"
                )
