"""The one place that mends upstream; each function says what it mends and when it can go.

:func:`apply` runs when the plugin registers, and is harmless where upstream is fixed.
"""

import functools
import importlib.metadata
import importlib.util
import logging
import os
import pickle
import re
import types
import warnings
from typing import Any

import mmengine.config.config
import mmengine.config.utils
import mmengine.fileio.io
import mmengine.hub.hub
import mmengine.runner.checkpoint
import mmengine.utils.package_utils
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.fileio import register_backend
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import print_log

from ..engine import safe_load
from ..engine.checkpoints import AtomicLocalBackend
from ..engine.files import shipped_folder
from . import outputs


def apply() -> None:
    """Mend what can be mended once for the process."""
    _ignore_known_warnings()
    _find_packages_without_pkg_resources()
    _find_own_configs()
    _allow_checkpoint_types()
    _keep_checkpoints_from_running_code()
    _drop_code_and_explain_refusals()
    _write_files_atomically()
    _infer_rules_of_metrics()
    _say_how_to_concatenate_persons()
    _keep_subsets_apart()
    _keep_unknown_labels_in_mixed_images()
    outputs.show_rejected_images()
    outputs.decide_by_averaged_scores()
    outputs.export_windows_of_any_batch()
    outputs.build_visualizers_with_a_scope()
    outputs.draw_every_image()


def _ignore_known_warnings() -> None:
    """Ignore what every run on mmcv-lite warns of: operators that no recipe here uses."""
    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')


def ignore_known_log_lines(logger: logging.Logger) -> None:
    """Drop the two lines by which mmengine's own hooks warn of mmengine's own deprecations."""
    logger.addFilter(
        lambda record: (
            not str(record.msg).startswith(
                ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')
            )
        )
    )


def _find_packages_without_pkg_resources() -> None:
    """Let ``mmpretrain::...`` in ``_base_`` be found.

    mmengine looks packages up through pkg_resources, which setuptools 82 no longer has and earlier
    versions warn of; onedl-mmengine does not. Can go when mmengine uses importlib.metadata.
    """
    if 'pkg_resources' not in mmengine.utils.package_utils.is_installed.__code__.co_names:
        return
    for module in (
        mmengine.utils.package_utils,
        mmengine.utils,
        mmengine.config.config,
        mmengine.hub.hub,
    ):
        for name, function in (
            ('is_installed', _is_installed),
            ('get_installed_path', _get_installed_path),
        ):
            if hasattr(module, name):
                setattr(module, name, function)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def _get_installed_path(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None:
        # A distribution whose module has another name: mmcv-lite, mmcv.
        top_level = importlib.metadata.distribution(package).read_text('top_level.txt')
        spec = importlib.util.find_spec(top_level.split()[0]) if top_level else None
    if spec is None or spec.origin is None:
        raise RuntimeError(f'{package} has no module with a path')
    return os.path.dirname(spec.origin)


def _find_own_configs() -> None:
    """Let ``frlr_mm::...`` name a recipe of this package, as ``mmpretrain::...`` one of the stock.

    mmengine has a fixed list of packages, and looks for configs in ``.mim`` alone, which a clone
    has not. What it inherits from another package it builds in that package's scope; this one has
    none, and its recipes are built in mmpretrain's. Can go when mmengine asks the package.
    """
    original = mmengine.config.config.Config._get_cfg_path
    if hasattr(original, '__wrapped__'):
        return
    mmengine.config.utils.MODULE2PACKAGE.setdefault('frlr_mm', 'frlr_mm')

    @functools.wraps(original)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition('::')
        if package != 'frlr_mm':
            return original(cfg_path, filename)
        return _find_own_config(name), None

    mmengine.config.config.Config._get_cfg_path = staticmethod(get_cfg_path)
    of_hub = mmengine.hub.hub._get_cfg_metainfo

    @functools.wraps(of_hub)
    def get_cfg_metainfo(package_path: str, cfg_path: str) -> dict:
        if os.path.realpath(package_path) != os.path.realpath(os.path.dirname(__path__[0])):
            return of_hub(package_path, cfg_path)
        return dict(Config=_find_own_config(cfg_path))  # an absolute path is joined to as it is

    mmengine.hub.hub._get_cfg_metainfo = get_cfg_metainfo


def _find_own_config(name: str) -> str:
    path = shipped_folder() / 'configs' / name
    if not path.is_file():
        raise FileNotFoundError(f'config not found: frlr_mm::{name}')
    return str(path)


def _allow_checkpoint_types() -> None:
    """Let resume, test and load_from read mmengine's checkpoints as torch >= 2.6 loads them.

    torch then refuses all but tensors and plain containers, since a pickle can run code;
    mmengine's checkpoints also hold the history of the log. Can go when mmengine stores its log in
    plain types.
    """
    if safe_load.TORCH_RESTRICTS:
        torch.serialization.add_safe_globals(
            [(each, name) for name, each in safe_load.CHECKPOINT_TYPES.items()]
        )


class _SafelyLoadingTorch(types.ModuleType):
    """torch with another ``load``."""

    load = staticmethod(safe_load.load)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _keep_checkpoints_from_running_code() -> None:
    """Let no loader of mmengine run what a pickle says, whatever it asks torch for.

    mmengine leaves it to torch's default, which is to run it before torch 2.6, and so does
    torch.hub, by which it loads from http(s); onedl-mmengine catches torch's refusal and loads
    again without restriction. Can go when both ask for ``weights_only=True`` and nothing else.
    """
    module = mmengine.runner.checkpoint
    module.torch = _SafelyLoadingTorch('torch')
    module.load_url = safe_load.load_url


def _drop_code_and_explain_refusals() -> None:
    """Drop the text of a config in a checkpoint, and say what was refused and how to allow it.

    - Resuming, mmengine runs ``meta['config']`` of a checkpoint as Python, to compare its
      ``gpu_ids`` with the number of processes. It has not written that entry since its first
      version, so it is dropped.
    - torch's own refusal advises to load without restriction.

    Can go when mmengine no longer runs that text.
    """
    loader = mmengine.runner.checkpoint.CheckpointLoader
    original = loader.load_checkpoint.__func__
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def load_checkpoint(
        cls: type, filename: str, map_location: Any = None, logger: Any = 'current'
    ) -> Any:
        try:
            checkpoint = original(cls, filename, map_location, logger)
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(_explain_refusal(filename, error)) from None
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if isinstance(meta, dict) and meta.pop('config', None) is not None:
            print_log(f'Ignored the config inside of {filename}', logger, logging.WARNING)
        return checkpoint

    loader.load_checkpoint = classmethod(load_checkpoint)


def _explain_refusal(filename: str, error: pickle.UnpicklingError) -> str:
    """Return what a checkpoint was refused for, and how to allow it on purpose."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(filename)
    except Exception:  # of an older format, from http, made to confuse: torch names the first one
        names = re.findall(r'(?:GLOBAL|class) ([\w.]+)', str(error))[:1]
    if not names:
        reason = ' '.join(
            str(error).split('WeightsUnpickler error:')[-1].split('Check the')[0].split()
        )
        return f'Refused the checkpoint {filename}, which holds more than tensors: {reason}'
    return (
        f'Refused the checkpoint {filename}, which can run code: it holds '
        f'{", ".join(sorted(names))} besides tensors and plain values. If you trust it, allow '
        f'these by {safe_load.HOW_TO_ALLOW} in a module of your own that '
        '`custom_imports` of the config names'
    )


def _write_files_atomically() -> None:
    """Let checkpoints and what ``mmengine.dump`` writes be whole or not there.

    mmengine writes into the file itself: a process killed meanwhile, or a full disk, leaves half a
    file in place of the last good one. Can go when its local backend renames.
    """
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
    mmengine.fileio.io.backend_instances.clear()  # those made before, of the old class


# What the metrics of this package report, behind a prefix; a type of attributes may have any name.
_RULES = {
    'greater': re.compile(
        r'(?:.*/)?(?:(?:mAP|recall@\d+)(?:_.+)?|mINP|rank-\d+|CP|CR|CF1|OP|OR|OF1'
        r'|(?:auroc|aupr_in|aupr_out|oscr)_\w+)',
        re.DOTALL,
    ),
    'less': re.compile(
        r'(?:.*/)?(?:queries_left_out|num_no_positive|(?:fpr95_in|fpr95_out|aurc)_\w+'
        r'|ece|ece_equal_mass|ece_classwise|brier|nll|bce)',
        re.DOTALL,
    ),
}


def _rule_of_metric(name: str) -> str | None:
    """Return the rule of a value of this package's metrics, None for any other."""
    return next((rule for rule, names in _RULES.items() if names.fullmatch(name)), None)


def _infer_rules_of_metrics() -> None:
    """Let `save_best` and `monitor` be any value of this package's metrics, without a `rule`.

    mmengine infers from fragments of the name whether more or less is better: none is in `rank-1`,
    and `recall@3_gloss` holds 'loss'. Can go when a metric can say what is better.
    """
    checkpoint, stopping = CheckpointHook._init_rule, EarlyStoppingHook._init_rule
    if hasattr(checkpoint, '__wrapped__'):
        return

    @functools.wraps(checkpoint)
    def init_rules(self: CheckpointHook, rules: list, key_indicators: list[str]) -> None:
        if self.greater_keys is self._default_greater_keys and (
            self.less_keys is self._default_less_keys
        ):
            rules = rules * len(key_indicators) if len(rules) == 1 else rules
            rules = [
                _rule_of_metric(name) if rule is None else rule
                for rule, name in zip(rules, key_indicators, strict=True)
            ]
        checkpoint(self, rules, key_indicators)

    @functools.wraps(stopping)
    def init_rule(self: EarlyStoppingHook, monitor: str) -> str:
        return _rule_of_metric(monitor) or stopping(self, monitor)

    CheckpointHook._init_rule = init_rules
    EarlyStoppingHook._init_rule = init_rule


def _say_how_to_concatenate_persons() -> None:
    """Let ConcatDataset say why it refuses several re-ID data sets, and what does take them.

    mmengine only says that meta information does not match. Can go when it says which.
    """
    original = ConcatDataset.__init__
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def init(
        self: ConcatDataset, datasets: Any, lazy_init: bool = False, ignore_keys: Any = None
    ) -> None:
        try:
            original(self, datasets, lazy_init, ignore_keys)
        except ValueError:
            persons = {
                each for dataset in self.datasets for each in dataset.metainfo.get('persons', ())
            }
            if len(persons) < 2 or 'persons' in self.ignore_keys:
                raise
            raise ValueError(
                'Expected the data sets of ConcatDataset to have persons in common, but got '
                f'{", ".join(sorted(persons))}: use ConcatReID, which keeps them apart, or add '
                "'persons' to `ignore_keys` if a label is one person in all of them"
            ) from None

    ConcatDataset.__init__ = init


def _keep_subsets_apart() -> None:
    """Let the subset of a data set, as in a fold, be a copy of that data set alone.

    mmengine remembers what it has copied by its address for as long as the process lives: an
    object at the address of one that is gone is taken for it, and a fold gets the pipeline or the
    meta information of another data set. Can go when its memory is that of one call.
    """
    original = BaseDataset._copy_without_annotation
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def copy_without_annotation(self: BaseDataset, memo: dict | None = None) -> BaseDataset:
        return original(self, {} if memo is None else memo)

    BaseDataset._copy_without_annotation = copy_without_annotation


def _keep_unknown_labels_in_mixed_images() -> None:
    """Let a label that is unknown (below 0) in one of two mixed images be unknown in the mixture.

    mmpretrain's batch augmentations average labels, and a -1 with them, into soft targets that
    nobody gave. NaN takes its place while they do, since it survives any average. Can go when they
    know unknown labels.
    """
    from mmpretrain.models import RandomBatchAugment  # not before the rest is mended

    original = RandomBatchAugment.__call__
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def call(
        self: Any, batch_input: torch.Tensor, batch_score: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        score = batch_score.float().masked_fill(batch_score < 0, torch.nan)
        inputs, score = original(self, batch_input, score)
        return inputs, score.nan_to_num(-1.0)

    RandomBatchAugment.__call__ = call
