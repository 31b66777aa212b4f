"""The runs of the study: which recipe, which loss, which settings, which seed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from frlr_mm.datasets.glyphs.faces import TRAIN_FACES

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 4
# Settings are tuned on two of the training faces: upright and slanted, sans and serif.
VAL_FACES = ('DejaVuSans-Oblique', 'DejaVuSerif-Bold')
FIT_FACES = tuple(face for face in TRAIN_FACES if face not in VAL_FACES)
# The network of all runs: half as slow as the recipes' own and as good after four epochs.
BACKBONE = dict(
    _delete_=True, type='ResNet', depth=18, stem_channels=16, base_channels=16, style='pytorch'
)
BASE = dict(lr=0.2, weight_decay=5e-4)
FOCUS = {'hslr': dict(ratio=0.01), 'sslr': dict(gamma=0.5)}
# What the tuned settings are chosen by, and what is reported, by kind of job.
METRICS = {
    'categories': ('accuracy/top1', 'accuracy/top5'),
    'identification': ('reid/mAP', 'reid/rank-1', 'reid/mINP'),
    'attributes': ('attribute/mAP', 'attribute/recall@3', 'attribute/CF1', 'attribute/OF1'),
}
# Name of the job: its kind, its number of classes, its epochs.
JOBS = {
    # A tenth of the images: as many epochs more make half the steps.
    'categories-100': ('categories', 100, 5 * EPOCHS),
    'categories-1000': ('categories', 1000, EPOCHS),
    'categories-2162': ('categories', 2162, EPOCHS),
    'identification': ('identification', 1000, EPOCHS),
    'attributes': ('attributes', 35, EPOCHS),
}
LOSSES = {
    'categories': ('sr', 'lr', 'hslr', 'sslr'),
    'identification': ('sr', 'lr', 'hslr', 'sslr'),
    'attributes': ('lr', 'hslr', 'sslr', 'focal', 'asl'),
}
# The learning rates that every loss is tuned over: on to one beyond the best of each loss.
RATES = {
    'categories': (0.1, 0.2, 0.4, 0.8),
    'identification': (0.05, 0.1, 0.2, 0.4),
    'attributes': (0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
}
# The loss that the others are compared with.
BASELINE = {'categories': 'sr', 'identification': 'sr', 'attributes': 'lr'}


@dataclass(frozen=True)
class Run:
    """One training: on the split to tune on (`val`) or on the one to report (`test`)."""

    job: str
    loss: str
    split: str
    seed: int
    settings: dict = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return JOBS[self.job][0]

    @property
    def key(self) -> tuple:
        """What a row of the results is found by."""
        return self.job, self.loss, self.split, str(self.seed), self.settings_text

    @property
    def settings_text(self) -> str:
        return json.dumps(self.settings, sort_keys=True)

    @property
    def name(self) -> str:
        """A folder name."""
        settings = '_'.join(f'{name}={self.settings[name]}' for name in sorted(self.settings))
        return f'{self.job}_{self.split}_{self.loss}_{settings}_seed{self.seed}'


def tuning_settings(kind: str, loss: str) -> list[dict]:
    """Return the settings that a loss is tuned over, as many for each loss of a kind of job.

    The learning rates; beside them two values of the loss's own parameter, or, for losses
    without one, of the weight decay.
    """
    own: list[dict] = {
        ('categories', 'hslr'): [dict(ratio=0.01), dict(ratio=0.1)],
        ('categories', 'sslr'): [dict(gamma=0.25), dict(gamma=0.5)],
        ('identification', 'hslr'): [dict(ratio=0.01), dict(ratio=0.1)],
        ('identification', 'sslr'): [dict(gamma=0.25), dict(gamma=0.5)],
        ('attributes', 'hslr'): [dict(ratio=0.3), dict(ratio=0.6)],
        ('attributes', 'sslr'): [dict(gamma=0.1), dict(gamma=0.25)],
        ('attributes', 'focal'): [dict(gamma=1.0), dict(gamma=2.0)],
        ('attributes', 'asl'): [dict(gamma_neg=1.0), dict(gamma_neg=4.0)],
    }.get((kind, loss), [dict(weight_decay=5e-4), dict(weight_decay=1e-3)])
    return [BASE | dict(lr=lr) | more for more in own for lr in RATES[kind]]


def ablations(job: str) -> Iterator[Run]:
    """Yield the runs of the ablation, on the split to tune on; a loss's first is unchanged."""
    if job == 'categories-1000':
        yield from _category_ablations()
    if job == 'attributes':
        yield from _attribute_ablations()


def _attribute_ablations() -> Iterator[Run]:
    """Yield the weight decay that tuning offers to LR alone, and a rate for the focal loss."""
    for loss, focus in ('lr', {}), ('hslr', dict(ratio=0.6)), ('sslr', dict(gamma=0.1)):
        settings = BASE | focus
        yield Run('attributes', loss, 'val', 0, settings)
        for seed in SEEDS[:3]:
            yield Run('attributes', loss, 'val', seed, settings | dict(weight_decay=1e-3))
    # The focal loss was best at the largest rate of all, at which the others fail.
    for lr in 1.6, 3.2:
        yield Run('attributes', 'focal', 'val', 0, BASE | dict(gamma=2.0, lr=lr))


def _category_ablations() -> Iterator[Run]:
    """Yield the prior, the annealing, and sweeps of all settings."""

    def run(loss: str, seed: int = 0, **changes: object) -> Run:
        settings = BASE | FOCUS.get(loss, {}) | changes
        return Run('categories-1000', loss, 'val', seed, settings)

    for seed in SEEDS[:3]:  # the prior and the annealing
        for loss in ('sr', 'lr', 'hslr', 'sslr'):
            yield run(loss, seed)
            if loss != 'sr':
                yield run(loss, seed, prior=False)
        yield run('hslr', seed, anneal='none')
        yield run('hslr', seed, anneal='none', ratio=0.1)
    for changes in (
        *(dict(ratio=ratio) for ratio in (0.003, 0.03, 0.1, 0.3)),
        *(dict(anneal=anneal) for anneal in ('linear', 'cosine')),
        *(dict(anneal_end=end) for end in (0.5, 1.0)),
        *(dict(alpha=alpha, ratio=0.02) for alpha in (1.0, 10.0, 100.0)),
    ):
        yield run('hslr', **changes)
    for changes in (
        *(dict(gamma=gamma) for gamma in (0.25, 1.0, 2.0)),
        dict(gamma=1.0, anneal='linear'),
        *(dict(alpha=alpha) for alpha in (1.0, 100.0)),
        dict(alpha=100.0, anneal_alpha=999.0),
    ):
        yield run('sslr', **changes)
    for loss in ('sr', 'lr', 'hslr', 'sslr'):
        for changes in (
            *(dict(weight_decay=decay) for decay in (1e-4, 2e-3)),
            *(dict(lr=lr) for lr in (0.05, 0.1, 0.4, 0.8)),
        ):
            yield run(loss, **changes)


def quick_runs() -> Iterator[Run]:
    """Yield a few runs that show what the prior and the annealing are worth."""
    for loss, changes in (
        ('sr', {}),
        ('lr', {}),
        ('lr', dict(prior=False)),
        ('hslr', {}),
        ('hslr', dict(anneal='none')),
        ('sslr', {}),
    ):
        settings = BASE | FOCUS.get(loss, {}) | changes
        yield Run('categories-1000', loss, 'val', 0, settings)


def make_config(run: Run, data_root: str) -> Config:
    """Return the config of a run: the recipe of its job and loss, and what the run changes."""
    settings = dict(run.settings)
    epochs = JOBS[run.job][2]
    suffix = dict(categories='', identification='-id', attributes='-attr')[run.kind]
    cfg = Config.fromfile(ROOT / f'configs/glyphs/resnet18_b128-{run.loss}_glyphs{suffix}.py')
    # A copy: merging takes `_delete_` out of it.
    cfg.merge_from_dict(dict(model=dict(backbone=dict(BACKBONE))))
    cfg.optim_wrapper.optimizer.update(
        lr=settings.pop('lr'), weight_decay=settings.pop('weight_decay')
    )
    cfg.train_cfg.update(max_epochs=epochs, val_interval=1)
    cfg.param_scheduler[1].update(T_max=epochs - 1, end=epochs)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.randomness = dict(seed=run.seed)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = data_root
    if run.kind == 'attributes':
        cfg.val_dataloader.dataset.split = run.split
    else:
        _set_classes(cfg, run, settings.pop('prior', True))
    _set_loss(cfg, settings, epochs)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    return cfg


def _set_classes(cfg: Config, run: Run, prior: bool) -> None:
    """Set the number of classes and, to tune, hold a part of the training data out."""
    num_classes = JOBS[run.job][1]
    train, val, head = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.model.head
    if run.split == 'val':
        train.faces = FIT_FACES
        val.update(split='train', faces=VAL_FACES)
    if run.kind == 'categories':
        val.num_classes = num_classes
    elif run.split == 'val':
        # A fifth of the training identities is to be found again.
        val.indices = -num_classes // 5 * len(VAL_FACES) * 3
        num_classes = num_classes * 4 // 5
    train.num_classes = head.num_classes = num_classes
    cfg.data_preprocessor.num_classes = num_classes
    if run.loss != 'sr':
        head.init_cfg.bias_prob = 1 / num_classes if prior else 0.5


def _set_loss(cfg: Config, settings: dict, epochs: int) -> None:
    """Set the parameters of the loss and how they move."""
    anneal = settings.pop('anneal', None)
    end = round(settings.pop('anneal_end', 0.8) * epochs)
    end_alpha = settings.pop('anneal_alpha', None)
    loss = cfg.model.head.loss
    loss.update(settings)
    hooks = [hook for hook in cfg.get('custom_hooks', ()) if hook.type != 'FocusAnnealingHook']
    if loss.type == 'HSLRLoss' and anneal != 'none':
        hooks.append(_annealing('ratio', 1.0, loss.ratio, anneal or 'exponential', end))
    if loss.type == 'SSLRLoss' and anneal:
        hooks.append(_annealing('gamma', 0.0, loss.gamma, anneal, end))
    if end_alpha:
        hooks.append(_annealing('alpha', loss.alpha, end_alpha, 'exponential', end))
    cfg.custom_hooks = hooks


def _annealing(param: str, start: float, to: float, schedule: str, end: int) -> dict:
    values = dict(start_value=start, end_value=to, schedule=schedule)
    return dict(type='FocusAnnealingHook', param=param, end=end, **values)
