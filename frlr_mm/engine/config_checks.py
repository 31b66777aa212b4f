"""What is wrong with a config, in one line, before a run starts or where building it fails."""

import difflib
import inspect
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import LOOPS, METRICS, OPTIMIZERS, PARAM_SCHEDULERS
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS, HOOKS, MODELS, TRANSFORMS

from .checkpoints import read_meta

_REGISTRIES = (MODELS, DATASETS, TRANSFORMS, HOOKS, METRICS, OPTIMIZERS, PARAM_SCHEDULERS, LOOPS)
# What stock data sets look for below `data_root`, in the words of this package's pages.
_LAYOUTS = {
    'CustomDataset': 'a folder of images per class, or `ann_file` with lines such as "a.jpg 0"',
    'ImageNet': 'train/n01440764/*.JPEG and val/n01440764/*.JPEG',
    'ImageNet21k': 'train/n00004475/*.JPEG',
    'CIFAR10': 'cifar-10-batches-py with data_batch_1 to 5, test_batch and batches.meta',
    'CIFAR100': 'cifar-100-python with train, test and meta',
    'MNIST': 'train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k',
    'FashionMNIST': 'train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k',
    'VOC': 'JPEGImages, Annotations and ImageSets/Main with lists such as trainval.txt',
    'CUB': 'images, images.txt, image_class_labels.txt and train_test_split.txt',
    'MultiLabelDataset': '`ann_file`, a JSON file, and the images that it names',
}
# Data sets with fewer classes than the recipes for them have outputs.
UNUSED_OUTPUTS = ('ImageNet21k',)
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_files(cfg: Config) -> None:
    """Raise a FileNotFoundError where a checkpoint that the config names is not there.

    Args:
        cfg (Config): The config of a run.
    """
    named = [('load_from', cfg.get('load_from'))]
    for path, node in walk(cfg.get('model'), 'model'):
        if type_name(node.get('type')) == 'Pretrained':
            named.append((f'{path}.checkpoint', node.get('checkpoint')))
    for key, checkpoint in named:
        if checkpoint and '://' not in checkpoint and not os.path.isfile(checkpoint):
            raise FileNotFoundError(f'checkpoint not found: {key} = {checkpoint!r}')


def uses_plugin(cfg: Config) -> str | None:
    """Return the first type of a config that is registered by this package, None without any."""
    for _, node in walk(cfg.to_dict()):
        kind = _find_class(node.get('type'))
        if kind is not None and kind.__module__.partition('.')[0] == 'frlr_mm':
            return type_name(node['type'])
    return None


def describe_finished(cfg: Config) -> str | None:
    """Return a line where the run to resume has come to its end already, else None.

    Args:
        cfg (Config): With ``resume`` and, as ``load_from``, the checkpoint to go on from.

    Returns:
        str, optional: What there is, and how to go on all the same.
    """
    checkpoint, train_cfg = cfg.get('load_from'), cfg.get('train_cfg') or {}
    if not cfg.get('resume') or not checkpoint or '://' in checkpoint:
        return None
    meta = read_meta(checkpoint)
    for unit in ('epoch', 'iter'):
        last, done = train_cfg.get(f'max_{unit}s'), meta.get(unit)
        if last is not None and done is not None and done >= last:
            return (
                f'{checkpoint} is the end of its run, {unit} {done} of {last}: nothing left to '
                f'do; to train on, raise train_cfg.max_{unit}s, and the lengths in '
                'param_scheduler'
            )
    return None


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Raise what is wrong in words of the config, where building a run from it fails.

    Args:
        cfg (Config): The config of the run.

    Raises:
        ValueError: In place of a misspelt key or type, with the nearest name, and of data that is
            missing, with the data set and its layout. All else stays what it is.
    """
    missing = list(_find_missing_roots(cfg))  # before a data set makes the folder of a download
    try:
        yield
    except (TypeError, KeyError, ValueError, OSError, RuntimeError, AssertionError) as error:
        if isinstance(error, (TypeError, KeyError)):
            line = _describe_misspelling(cfg, error)
        elif isinstance(error, ValueError):
            line = _describe_list_line(error)
        else:
            line = missing[0] if missing else _describe_missing_file(cfg, error)
        if line is None:
            raise
        raise ValueError(line) from error


def refuse_unknown_optimizer(cfg: Config) -> None:
    """Raise a KeyError that names the optimizer; mmengine's says 'None is not callable'.

    Args:
        cfg (Config): The config of a run.
    """
    kind = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('type')
    with OPTIMIZERS.switch_scope_and_registry(None) as registry:
        if not isinstance(kind, str) or registry.get(kind) is not None:
            return
        known = {*OPTIMIZERS.module_dict, *registry.module_dict}
    raise KeyError(
        f'Expected `optim_wrapper.optimizer.type` to be an optimizer, but got {kind!r}'
        f'{_did_you_mean(kind, known)}'
    )


def describe_unreadable_image(error: Exception) -> str | None:
    """Return a line where the stock loader of images raised an error, else None."""
    path, reason = None, str(error).strip().splitlines()[-1:] or ['']
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.endswith(os.path.join('mmcv', 'transforms', 'loading.py')):
            path = frame.f_locals.get('results', {}).get('img_path')
    # A worker of a data loader hands its error on as text.
    in_worker = 'DataLoader worker' in str(error) and re.search(
        r'mmcv.transforms.loading\.py', str(error)
    )
    if path is None and not in_worker:
        return None
    named = path or 'an image'
    return (
        f"{named} cannot be read ({reason[0]}): dict(type='LoadCheckedImage', on_error='skip') in "
        "place of dict(type='LoadImageFromFile') names such images and trains on others instead"
    )


def _describe_misspelling(cfg: Config, error: Exception) -> str | None:
    text = str(error.args[0]) if error.args else ''
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    unregistered = re.match(r'(\S+) is not in the (?:\S+::)?(.+?) registry', text)
    for path, node in walk(cfg.to_dict()):
        if unknown and unknown[2] in node:
            # (A loop of `train_cfg` needs no type.)
            kind = _find_class(node.get('type', unknown[1]))
            if kind is not None and unknown[1] in [each.__name__ for each in kind.__mro__]:
                hint = _did_you_mean(unknown[2], _arguments(kind))
                return f'{path}.{unknown[2]}: {kind.__name__} has no such argument{hint}'
        if unregistered and type_name(node.get('type')) == unregistered[1].rpartition('.')[2]:
            names: set[str] = set()
            for registry in _REGISTRIES:
                while registry is not None and registry.name == unregistered[2]:
                    names |= registry.module_dict.keys()
                    registry = registry.parent
            hint = _did_you_mean(unregistered[1], names)
            hint = hint or '; what registers it has to be among `custom_imports`'
            return f'{path}.type: {unregistered[1]!r} is not registered{hint}'
    return None


def _did_you_mean(word: str, names: set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(names), n=1)
    return f'; did you mean {close[0]!r}?' if close else ''


def _arguments(kind: type) -> set[str]:
    """Return the names of what a class and those that it passes further arguments to take."""
    return {
        name
        for each in kind.__mro__
        if '__init__' in vars(each) and each is not object
        for name in inspect.signature(vars(each)['__init__']).parameters
        if name not in ('self', 'args', 'kwargs')
    }


def _find_datasets(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield path and config of each stock data set of a run; ours speak for themselves."""
    for loader in _LOADERS:
        for path, node in walk((cfg.get(loader) or {}).get('dataset'), f'{loader}.dataset'):
            kind = _find_class(node.get('type'), DATASETS)
            if kind is not None and not kind.__module__.startswith('frlr_mm.'):
                yield path, node


def _find_missing_roots(cfg: Config) -> Iterator[str]:
    for path, node in _find_datasets(cfg):
        root = node.get('data_root')
        if root and '://' not in root and not os.path.isdir(os.path.expanduser(root)):
            yield f'{path}: {_expectation(node)}, which is missing'


def _expectation(node: dict) -> str:
    name = type_name(node['type'])
    layout = _LAYOUTS.get(name, 'what its docstring describes')
    return f'{name} expects {layout} in `data_root` = {node.get("data_root")!r}'


def _describe_missing_file(cfg: Config, error: Exception) -> str | None:
    """Return the line of a file that is not there below the root of a data set."""
    file = getattr(error, 'filename', None)
    if not isinstance(error, FileNotFoundError) or not isinstance(file, str):
        return None
    for path, node in _find_datasets(cfg):
        root = os.path.abspath(os.path.expanduser(node.get('data_root') or '.'))
        if os.path.abspath(file).startswith(root + os.sep):
            return f'{path}: {_expectation(node)}, but {file} is missing'
    return None


def _describe_list_line(error: ValueError) -> str | None:
    """Return the line where mmpretrain could not read a list of images with labels."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = frame.f_locals
        if isinstance(found.get('self'), CustomDataset) and {'lines', 'sample'} <= found.keys():
            number = found['samples'].index(found['sample']) + 1
            return (
                f'{found["self"].ann_file}:{number}: expected a path and the number of a class, '
                f'such as "a.jpg 0", but got {found["lines"][number - 1]!r}'
            )
    return None


def refuse_skipped_images(cfg: Config, loader: str) -> None:
    """Raise a ValueError where images to evaluate would be skipped: others would take their place.

    Args:
        cfg (Config): The config of a run.
        loader (str): 'val_dataloader' or 'test_dataloader'.
    """
    for path, node in walk(cfg.get(loader), loader):
        if type_name(node.get('type')) == 'LoadCheckedImage' and node.get('on_error') == 'skip':
            raise ValueError(
                f"Expected `on_error` of {path} to be 'error', but got 'skip', which evaluates "
                'other images in place of those that cannot be read'
            )


def walk(value: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Yield the dictionaries in a config, or in a part of it, with their paths.

    Args:
        value (Any): The config or the part.
        path (str): Where it stands. Defaults to ''.

    Yields:
        tuple[str, dict]: Such as 'model.head.loss' and what is there.
    """
    if isinstance(value, dict):
        yield path, value
        items: Any = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        yield from walk(item, f'{path}.{key}' if path else str(key))


def type_name(kind: Any) -> str:
    """Return the last name of a type: a class, or a string with or without scope and module."""
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _find_class(kind: Any, *registries: Any) -> type | None:
    if isinstance(kind, str):
        for registry in registries or _REGISTRIES:
            found = registry.get(kind)
            if inspect.isclass(found):
                return found
    return kind if inspect.isclass(kind) else None
