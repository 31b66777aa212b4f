"""A recipe turned FRLR: a config in, a plain config out, and the lines that changed."""

from .. import registration  # noqa: F401 (first: it mends what is imported here)

# isort: split
import copy
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmpretrain.models import ArcFaceClsHead, ClsHead, MultiLabelClsHead, MultiTaskHead
from mmpretrain.registry import MODELS

from .._checks import check_choice
from .config_checks import UNUSED_OUTPUTS, type_name, walk

LOSSES: dict[str, dict[str, Any]] = {
    'hslr': dict(type='HSLRLoss', alpha='sum'),
    'sslr': dict(type='SSLRLoss', alpha='sum', gamma=0.25),
    'lr': dict(type='SSLRLoss', alpha='sum', gamma=0.0),
}
_FRLR = ('HSLRLoss', 'SSLRLoss')
_SMOOTHED = ('LabelSmoothLoss', 'LabelSmoothFRLRLoss')
# Of these, `alpha`, `gamma` and `ratio` are ours, as an option of the command line may set them;
# FocalLoss has an `alpha` and a `gamma` of other meaning.
_PLAIN = ('CrossEntropyLoss', *_FRLR, *_SMOOTHED)
_REPLACED = (*_PLAIN, 'FocalLoss', 'AsymmetricLoss', 'SeesawLoss')
_SMOOTHING = ('label_smooth_val', 'num_classes', 'mode')
# What stays where its value is not the default.
_KEPT: dict[str, Any] = dict(loss_weight=1.0, reduction='mean', class_weight=None, pos_weight=None)
# Heads whose classifier has no bias, which could start at the prior.
_WITHOUT_BIAS = ('CSRAClsHead',)


def convert(cfg: Config, loss: str) -> tuple[Config, list[str]]:
    """Turn a recipe FRLR, and keep all that has nothing to do with it.

    - Each classification loss of ``model.head``, in a LabelSmoothLoss, in the heads of a
      MultiTaskHead, and of a SwitchRecipeHook too, becomes the new one, with its ``loss_weight``,
      ``reduction``, ``class_weight`` and ``pos_weight``; smoothed labels stay smoothed.
    - PriorBiasHook sets the prior, but in CSRAClsHead, whose classifier has no bias, and
      FocusAnnealingHook anneals the ratio of HS-LR.
    - PosWeightHook lets each of several labels of an image count as much as a negative, as the
      binary cross-entropy does: our losses take the mean over positives.
    - An ImageClassifier with one such head becomes a LogisticClassifier, whose predictions carry
      sigmoid probabilities.
    - Labels that a training set is told to take for negative, being unknown, stay unknown.
    - ``cal_acc`` of a head, which miscounts logits of logistic losses, is off.
    - Validation and test of which mmengine would miss a part are gone without data, and get their
      ``val_cfg`` or ``test_cfg`` with it: several stock recipes do not start without.

    Args:
        cfg (Config): The recipe; it stays as it is.
        loss (str): 'hslr', 'sslr' or 'lr', which is SS-LR with gamma 0.

    Returns:
        tuple[Config, list[str]]: The converted config, without bases and with a file name that
        says the loss, and what changed, as lines that begin with '-' and '+'.

    Raises:
        ValueError: If ``loss`` is none of these, or the recipe has no classification loss.
    """
    check_choice('loss', loss, LOSSES)
    plain = copy.deepcopy(cfg.to_dict())
    heads = list(_find_heads(plain))
    ratios = [_find_ratio(plain, head, kind) for _, head, kind in heads]
    # One hook moves all of them: what suits the head of the fewest classes.
    ratio = max(ratios)
    several_labels = [_has_several_labels(head, kind) for _, head, kind in heads]
    sums_positives = [
        not _is_frlr(_find_loss(head, kind))
        for (_, head, kind), several in zip(heads, several_labels, strict=True)
        if several
    ]
    for (_, head, kind), several in zip(heads, several_labels, strict=True):
        head['loss'] = _convert_loss(_find_loss(head, kind), loss, ratio, several)
        if head.get('cal_acc'):
            head['cal_acc'] = False
    if type_name(plain['model']['type']) == 'ImageClassifier' and heads[0][0] == 'model.head':
        plain['model']['type'] = 'LogisticClassifier'
    has_bias = all(type_name(head['type']) not in _WITHOUT_BIAS for _, head, _ in heads)
    _convert_switched(plain, loss, ratio, any(several_labels))
    # (One hook serves all heads.)
    sums = bool(sums_positives) and all(sums_positives)
    _convert_hooks(plain, loss, ratio, has_bias, sums)
    for _, dataset in walk((plain.get('train_dataloader') or {}).get('dataset')):
        if dataset.get('unknown') == 'negative':
            dataset['unknown'] = 'keep'
    _complete_loops(plain)
    imports = add_custom_import(plain)
    lines = _diff(cfg.to_dict(), plain)
    if imports:
        lines.append("+ custom_imports.imports: 'frlr_mm'")
    converted = Config(
        plain,
        cfg_text=cfg.text or '\n',
        filename=converted_name(cfg.filename or 'config.py', loss),
        env_variables=cfg.env_variables,
    )
    return converted, lines


def converted_name(path: str, loss: str) -> str:
    """Return the file name of a converted recipe: the loss is in the field of the training.

    Args:
        path (str): The file of the recipe, such as 'resnet/resnet50_8xb32_in1k.py'.
        loss (str): 'hslr', 'sslr' or 'lr'.

    Returns:
        str: Such as 'resnet50_8xb32-hslr_in1k.py'.
    """
    fields = Path(path).stem.split('_')
    i = 1 if len(fields) > 2 else -1
    others = [f'-{name}' for name in ('sr', *LOSSES) if fields[i].endswith(f'-{name}')]
    fields[i] = fields[i].removesuffix(max(others, key=len, default='')) + f'-{loss}'
    return '_'.join(fields) + '.py'


def add_custom_import(cfg: Any) -> bool:
    """Let a config import the plugin wherever it is read; return whether it did not.

    Args:
        cfg (Config | dict): Changed in place.

    Returns:
        bool: Whether ``custom_imports`` lacked it.
    """
    custom = dict(cfg.get('custom_imports') or {})
    imports = custom.get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    if any(str(name).split('.')[0] == 'frlr_mm' for name in imports):
        return False
    cfg['custom_imports'] = custom | dict(imports=[*imports, 'frlr_mm'])
    return True


def default_ratio(num_classes: int, multi_label: bool) -> float:
    """Return the ratio of HS-LR for a number of classes.

    That of ten classes, and of at least 1 % and at most 30 % of them, as in the recipes of this
    package; with several labels per image 60 %, the best of the study on attributes. It selects
    two classes or more.

    Args:
        num_classes (int): The number of classes C, >= 1.
        multi_label (bool): Whether an image may have several.

    Returns:
        float: In (0, 1], with two decimals or three.
    """
    ratio = 0.6 if multi_label else min(max(10 / num_classes, 0.01), 0.3)
    ratio = max(ratio, min(2 / num_classes, 1))
    return math.ceil(round(ratio * 1000, 6)) / 1000


def _find_heads(plain: dict) -> Iterator[tuple[str, dict, type]]:
    """Yield path, config and class of each head that classifies; refuse what has none."""
    model = plain.get('model') or {}
    head = model.get('head')
    if not isinstance(head, dict):
        owner = type_name(model['type']) if 'type' in model else 'the config'
        raise ValueError(_refusal(plain, f'{owner} has no head that classifies'))
    yield from _find_heads_of(plain, 'model.head', head)


def _find_heads_of(plain: dict, path: str, head: dict) -> Iterator[tuple[str, dict, type]]:
    kind = head.get('type')
    kind = kind if isinstance(kind, type) else MODELS.get(str(kind))
    name = type_name(head.get('type'))
    if kind is None:
        raise ValueError(f'Expected `{path}.type` to be a registered head, but got {name!r}')
    if issubclass(kind, MultiTaskHead):
        shared = {k: v for k, v in head.items() if k not in ('type', 'task_heads', 'init_cfg')}
        for task, sub_head in head['task_heads'].items():
            for key, value in shared.items():  # as MultiTaskHead itself hands them on
                sub_head.setdefault(key, copy.deepcopy(value))
            yield from _find_heads_of(plain, f'{path}.task_heads.{task}', sub_head)
        head.pop('loss', None)
        return
    if not issubclass(kind, (ClsHead, MultiLabelClsHead)):
        raise ValueError(_refusal(plain, f'{name} does not classify'))
    if issubclass(kind, ArcFaceClsHead):
        raise ValueError(_refusal(plain, f'{name} is a margin head, whose loss is a softmax'))
    if name != 'DeiTClsHead' and _argument(head, kind, 'distillation'):
        raise ValueError(_refusal(plain, f'mmpretrain does not train {name} with distillation'))
    old = type_name(_find_loss(head, kind).get('type'))
    if old not in _REPLACED:
        raise ValueError(
            _refusal(plain, f'{path}.loss is {old}, not one of {", ".join(_REPLACED)}')
        )
    yield path, head, kind


def _refusal(plain: dict, reason: str) -> str:
    return f'Expected a recipe with a classification loss to replace, but {reason}'


def _argument(head: dict, kind: type, name: str) -> Any:
    """Return an argument of a head, or the default of the class that has it."""
    if name in head:
        return head[name]
    for each in kind.__mro__:
        init = vars(each).get('__init__')
        parameter = inspect.signature(init).parameters.get(name) if init else None
        if parameter is not None and parameter.default is not inspect.Parameter.empty:
            return parameter.default
    return None


def _find_loss(head: dict, kind: type) -> dict:
    return _argument(head, kind, 'loss') or {}


def _find_ratio(plain: dict, head: dict, kind: type) -> float:
    """Return the ratio that the loss of a head has, or the default one."""
    old = _find_loss(head, kind)
    inner = old.get('loss') or old
    if type_name(old.get('type')) in _PLAIN and 'ratio' in inner:
        return inner['ratio']
    # Some heads hold no classifier: it is the last layer of the backbone.
    num_classes = _argument(head, kind, 'num_classes') or plain['model']['backbone'].get(
        'num_classes'
    )
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(
            'Expected `model.head.num_classes`, or that of the backbone, to be the number of '
            f'classes, but got {num_classes}'
        )
    return default_ratio(num_classes, _has_several_labels(head, kind))


def _has_several_labels(head: dict, kind: type) -> bool:
    is_multi = issubclass(kind, MultiLabelClsHead)
    return is_multi and not _find_loss(head, kind).get('use_soft')


def _is_frlr(loss: dict) -> bool:
    inner = loss.get('loss') or loss
    return type_name(inner.get('type')) in _FRLR


def _convert_loss(old: dict, loss: str, ratio: float, several_labels: bool) -> dict:
    """Return the loss that takes the place of another."""
    kind, inner = type_name(old.get('type')), old.get('loss') or old
    new: dict[str, Any] = dict(LOSSES[loss])
    if loss == 'sslr' and several_labels:
        new['gamma'] = 0.1  # the best of the study on attributes
    if kind in _PLAIN:
        new.update({key: inner[key] for key in ('alpha', 'gamma') if key in inner})
        if loss != 'sslr':
            new.pop('gamma', None)
    if loss == 'hslr':
        new['ratio'] = ratio
    if loss == 'lr':
        new['gamma'] = 0.0
    new.update({key: inner[key] for key, value in _KEPT.items() if inner.get(key, value) != value})
    if kind not in _SMOOTHED:
        return new
    smoothing = {key: old[key] for key in _SMOOTHING if old.get(key) is not None}
    return dict(type='LabelSmoothFRLRLoss', **smoothing, loss=new)


def _convert_switched(plain: dict, loss: str, ratio: float, several_labels: bool) -> None:
    """Convert the losses that a hook switches to."""
    for hook in plain.get('custom_hooks') or []:
        for recipe in hook['schedule'] if type_name(hook['type']) == 'SwitchRecipeHook' else ():
            if recipe.get('loss'):
                recipe['loss'] = _convert_loss(recipe['loss'], loss, ratio, several_labels)


def _convert_hooks(
    plain: dict, loss: str, ratio: float, has_bias: bool, sums_positives: bool
) -> None:
    """Set prior, weights of positives and schedule."""
    params = ('alpha', 'ratio') if loss == 'hslr' else ('alpha', 'gamma')
    hooks = [
        hook
        for hook in plain.get('custom_hooks') or []
        if type_name(hook['type']) != 'FocusAnnealingHook' or hook.get('param') in params
    ]
    if has_bias and not any(type_name(hook['type']) == 'PriorBiasHook' for hook in hooks):
        prior: dict[str, Any] = dict(type='PriorBiasHook')
        datasets = walk((plain.get('train_dataloader') or {}).get('dataset'))
        if any(type_name(each.get('type')) in UNUSED_OUTPUTS for _, each in datasets):
            prior['allow_unused'] = True
        hooks.append(prior)
    if sums_positives and not any(type_name(hook['type']) == 'PosWeightHook' for hook in hooks):
        hooks.append(dict(type='PosWeightHook', exponent=0.0, per_image=True))
    if loss == 'hslr' and not any(hook.get('param') == 'ratio' for hook in hooks):
        hooks.append(
            dict(
                type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=ratio, end=0.8
            )
        )
    plain['custom_hooks'] = hooks


def _complete_loops(plain: dict) -> None:
    for split in ('val', 'test'):
        loader, loop, evaluator = (
            f'{split}_{name}' for name in ('dataloader', 'cfg', 'evaluator')
        )
        if plain.get(loader) is None:
            plain.update({name: None for name in (loader, loop, evaluator) if name in plain})
        elif plain.get(evaluator) is not None and plain.get(loop) is None:
            plain[loop] = {}


def _diff(old: Any, new: Any, path: str = '') -> list[str]:
    """Return what differs between two configs; a dictionary with another type is shown whole."""
    is_same_kind = (
        isinstance(old, dict)
        and isinstance(new, dict)
        and (old.get('type') == new.get('type') or path == 'model')
    )
    if is_same_kind and path != 'custom_imports':
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in _diff(old.get(key), new.get(key), '.'.join(filter(None, (path, str(key)))))
        ]
    if old == new or path == 'custom_imports':
        return []
    if path == 'custom_hooks':
        return [
            *(f'- custom_hooks: {_text(hook)}' for hook in old or [] if hook not in new),
            *(f'+ custom_hooks: {_text(hook)}' for hook in new if hook not in (old or [])),
        ]
    return [f'- {path} = {_text(old)}', f'+ {path} = {_text(new)}']


def _text(value: Any) -> str:
    """Return a value as configs write it."""
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_text(item)}" for key, item in value.items())})'
    if isinstance(value, (list, tuple)):
        ends = '[]' if isinstance(value, list) else '()'
        return ends[0] + ', '.join(map(_text, value)) + ends[1]
    return repr(value)
