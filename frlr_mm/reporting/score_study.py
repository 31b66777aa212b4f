"""The study of scores: what its runs train, and what they measure of known and unknown classes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from frlr_mm.engine.calibration import fit
from frlr_mm.evaluation.calibration_metric import CalibrationMetric
from frlr_mm.evaluation.open_set_metric import SCORES, OpenSetMetric

from .rivals import PLAIN_LR, LastPhaseHook
from .study import Results, best_settings
from .study_configs import set_decoded
from .study_jobs import JOBS

SEEDS = (0, 1, 2, 3, 4)
# '-lr': the last fifth of training is plain LR.
LOSSES = ('sr', 'lr', 'hslr', 'sslr', 'hslr-lr', 'sslr-lr')
OPEN_SET = ('auroc', 'fpr95_in', 'fpr95_out', 'aupr_in', 'aupr_out', 'oscr', 'aurc')
MEASURES = (
    'accuracy',
    'ece',
    'ece_equal_mass',
    'ece_classwise',
    'brier',
    'nll',
    'bce',
    'scale',
    'shift',
    *(f'{name}_{score}' for score in SCORES for name in OPEN_SET),
)


@dataclass(frozen=True)
class Data:
    """Data with known and unknown classes.

    Args:
        recipe (str): The recipe of a loss, with {} in its place, below configs/.
        known (int): The number of known classes, the first ones.
        epochs (int): How long a run trains.
    """

    recipe: str
    known: int
    epochs: int


GLYPHS = 'glyphs/resnet18_b128-{}_glyphs.py'
DATA = {
    'glyphs': Data(GLYPHS, 1000, 6),
    'omniglot': Data('omniglot/resnet18_b128-{}_omniglot.py', 964, 12),
    'cifar100': Data(GLYPHS, 50, 12),
}


def tuned_settings(results: Path, name: str, loss: str) -> dict[str, float]:
    """Return the settings that the study of accuracy has tuned on 1,000 glyphs.

    A ratio is a share of the classes: with fewer of them it is made larger, so that hard selection
    keeps as many negatives.

    Args:
        results (Path): The folder of its CSV files.
        name (str): A key of ``DATA``.
        loss (str): One of ``LOSSES``.

    Returns:
        dict[str, float]: Learning rate, weight decay, and ``ratio`` or ``gamma``.

    Raises:
        ValueError: If the study has not tuned the loss.
    """
    settings = best_settings(Results(results), 'categories-1000', loss.removesuffix('-lr'))
    if settings is None:
        raise ValueError(f'Expected {results} to hold the tuning of {loss} by study.py')
    if 'ratio' in settings:
        share = JOBS['categories-1000'].num_classes / DATA[name].known
        settings['ratio'] = round(settings['ratio'] * share, 2)
    return settings


def make_config(
    name: str, loss: str, seed: int, epochs: int, settings: dict, configs: Path, data: Path
) -> Config:
    """Return the config of a run, whose test set holds known and unknown classes.

    Args:
        name (str): A key of ``DATA``.
        loss (str): One of ``LOSSES``.
        seed (int): The seed.
        epochs (int): How long it trains.
        settings (dict): From :func:`tuned_settings`.
        configs (Path): The folder of the recipes.
        data (Path): The folder of the data sets; glyphs are rendered into it.

    Returns:
        Config: A config for tools/train.py.
    """
    about, settings = DATA[name], dict(settings)
    cfg = Config.fromfile(configs / about.recipe.format(loss.removesuffix('-lr')))
    optimizer = {key: settings.pop(key) for key in ('lr', 'weight_decay')}
    cfg.optim_wrapper.optimizer.update(optimizer)
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = about.known
    cfg.model.head.loss.update(settings)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler[1].update(T_max=epochs - 1, end=epochs)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.randomness = dict(seed=seed)
    train, test = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    if name == 'cifar100':
        data = data.resolve()
        _set_cifar(cfg, data)
        train, test = (
            dict(
                type='CustomDataset',
                data_root=str(data / 'cifar100' / split),
                pipeline=pipeline,
            )
            for split, pipeline in (('train', cfg.train_pipeline), ('test', cfg.test_pipeline))
        )
    else:
        train.data_root = test.data_root = str(data / name)
        if name == 'glyphs':
            train.num_classes, test.num_classes = about.known, 2 * about.known
    subset = dict(type='ClassSubset', classes=about.known)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset = dict(subset, dataset=train)
    cfg.val_dataloader.dataset = dict(subset, dataset=test)
    cfg.test_dataloader = dict(cfg.val_dataloader, dataset=dict(subset, dataset=test))
    cfg.test_dataloader.dataset.others = 'unknown'
    for hook in cfg.get('custom_hooks', ()):
        if hook.type == 'FocusAnnealingHook':
            # Exponential, as for the accuracy of the settings; the recipe may have another.
            hook.update(end_value=cfg.model.head.loss[hook.param], schedule='exponential')
    if loss.endswith('-lr'):
        cfg.custom_imports.imports += [LastPhaseHook.__module__]
        param, value = PLAIN_LR[cfg.model.head.loss.type]
        last = dict(type='LastPhaseHook', param=param, value=value, begin=0.8)
        cfg.custom_hooks = [*cfg.custom_hooks, last]
    return cfg


def _set_cifar(cfg: Config, data: Path) -> None:
    """Replace images of glyphs by photographs: their colours and flips, and what makes it fast."""
    load = set_decoded(cfg, 'cifar100', data)
    cfg.custom_imports.imports += ['frlr_mm.reporting.decoded']
    cfg.default_hooks.memory_format = dict(type='ChannelsLastHook')
    flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
    crop, pack = cfg.train_pipeline
    cfg.train_pipeline = [load, dict(crop, padding=4), flip, pack]
    cfg.test_pipeline = [load, pack]


def measure(logits: Tensor, label: Tensor, logistic: bool) -> dict[str, dict[str, float]]:
    """Measure scores before and after calibration.

    Every other image of the known classes is to calibrate on, the others are measured, with all
    of the unknown classes.

    Args:
        logits (Tensor): Logits of the test images (N, C).
        label (Tensor): Their labels, int64 (N,), -1 for an unknown class.
        logistic (bool): Whether scores are sigmoids.

    Returns:
        dict[str, dict[str, float]]: ``MEASURES`` by state: 'raw'; 'calibrated', of a softmax by
        its temperature, of sigmoids by that of the predicted class; and 'calibrated-all', of
        sigmoids by those of all classes.
    """
    places = torch.arange(len(label))[label >= 0]
    to_fit, known = places[::2], places[1::2]
    reported = torch.cat([known, torch.arange(len(label))[label < 0]])
    x, y = logits[to_fit], label[to_fit]
    states = {'raw': (1.0, 0.0)}
    if logistic:
        largest, predicted = x.max(1, keepdim=True)
        is_right = (predicted == y[:, None]).float()
        states['calibrated'] = fit(largest, is_right, True)
        states['calibrated-all'] = fit(x, y, True)
    else:
        states['calibrated'] = fit(x, y, False)
    found = {}
    for state, (scale, shift) in states.items():
        calibrated = (logits[reported] * scale + shift).float()
        score = calibrated.sigmoid() if logistic else calibrated.softmax(1)
        truth = label[reported].tolist()
        pairs = list(zip(score.numpy(), truth, strict=True))
        by_score = dict(
            probability=score.amax(1), logit=calibrated.amax(1), energy=calibrated.logsumexp(1)
        )
        correct = (calibrated.argmax(1) == label[reported]).tolist()
        values = torch.stack([by_score[name] for name in SCORES], 1).tolist()
        samples = zip(truth, correct, values, strict=True)
        results = [(each >= 0, right, of_scores) for each, right, of_scores in samples]
        found[state] = dict(
            **CalibrationMetric().compute_metrics(pairs),
            **OpenSetMetric(tuple(SCORES)).compute_metrics(results),
            scale=scale,
            shift=shift,
        )
    return found
