"""The study of the losses: its runs, the rows of those that have finished, what they choose."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .tables import Row, append_rows, read_rows

SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 4
BASE = dict(lr=0.2, weight_decay=5e-4)
FOCUS = {'hslr': dict(ratio=0.01), 'sslr': dict(gamma=0.5)}
PICTURE_FOCUS = FOCUS | {'sslr': dict(gamma=0.25)}
# The metric that chooses the tuned settings, and what else is reported, by kind of job.
METRICS = {
    'categories': ('accuracy/top1', 'accuracy/top5'),
    'identification': ('reid/mAP', 'reid/rank-1', 'reid/mINP'),
    'attributes': ('attribute/mAP', 'attribute/recall@3', 'attribute/CF1', 'attribute/OF1'),
}
# Channels of the first stage of the network.
WIDTH = 16
# A set of pictures that a run of --data takes has its name; 'glyphs' are rendered.
PICTURES = ('omniglot', 'kanji', 'fashion', 'cifar100', 'tiny-imagenet')


class Job(NamedTuple):
    """A job of the study: what all its runs have in common.

    Args:
        kind (str): 'categories', 'identification' or 'attributes'.
        num_classes (int): The number of classes to train on.
        epochs (int): The length of a run.
        data (str): 'glyphs' or one of ``PICTURES``. Defaults to 'glyphs'.
        seeds (int): The number of seeds on the test split. Defaults to 5.
        tuned_on (str, optional): The job whose settings are taken; None stands for this one.
            Defaults to None.
        val_interval (int): Epochs from one validation to the next. Defaults to 1.
        width (int): Channels of the first stage of the network. Defaults to 16.
        test_samples (int): Test images per glyph and face. Defaults to 1.
    """

    kind: str
    num_classes: int
    epochs: int
    data: str = 'glyphs'
    seeds: int = 5
    tuned_on: str | None = None
    val_interval: int = 1
    width: int = WIDTH
    test_samples: int = 1

    @property
    def takes_pictures(self) -> bool:
        """Whether the job needs --data."""
        return self.data != 'glyphs'


# In the order in which they run.
JOBS = {
    'omniglot': Job('categories', 1623, 24, 'omniglot', val_interval=4),
    'omniglot-short': Job('categories', 1623, 6, 'omniglot', tuned_on='omniglot'),
    'kanji': Job('categories', 6355, 12, 'kanji', 3, 'kanji-short', val_interval=3),
    'kanji-short': Job('categories', 6355, 3, 'kanji', 3),
    'categories-1000-long': Job(
        'categories', 1000, 4 * EPOCHS, tuned_on='categories-1000', val_interval=4, test_samples=3
    ),
    'omniglot-id': Job('identification', 964, 24, 'omniglot', val_interval=4),
    'omniglot-id-short': Job(
        'identification', 964, 6, 'omniglot', tuned_on='omniglot-id', val_interval=2
    ),
    'fashion': Job('attributes', 175, 20, 'fashion', val_interval=4),
    'fashion-short': Job('attributes', 175, 5, 'fashion', tuned_on='fashion'),
    'cifar100': Job('categories', 100, 24, 'cifar100', 5, 'cifar100-short', val_interval=4),
    'cifar100-short': Job('categories', 100, 6, 'cifar100', val_interval=2),
    'tiny-imagenet': Job(
        'categories', 200, 16, 'tiny-imagenet', 3, 'cifar100-short', val_interval=4
    ),
    'tiny-imagenet-short': Job('categories', 200, 4, 'tiny-imagenet', 3, 'cifar100-short'),
    'omniglot-wide': Job('categories', 1623, 24, 'omniglot', 3, 'omniglot', 4, 32),
    'cifar100-wide': Job('categories', 100, 24, 'cifar100', 3, 'cifar100-short', 4, 32),
    # A tenth of the images: five times as many epochs make half as many steps.
    'categories-100': Job('categories', 100, 5 * EPOCHS, tuned_on='categories-1000'),
    'categories-1000': Job('categories', 1000, EPOCHS),
    'categories-2162': Job('categories', 2162, EPOCHS, tuned_on='categories-1000'),
    'identification': Job('identification', 1000, EPOCHS),
    'attributes': Job('attributes', 35, EPOCHS),
}
# The losses of the paper's comparison, which run first, and what else is compared.
LOSSES = {
    'categories': ('sr', 'lr', 'hslr', 'sslr'),
    'identification': ('sr', 'lr', 'hslr', 'sslr'),
    'attributes': ('lr', 'hslr', 'sslr', 'focal', 'asl'),
}
MORE_LOSSES = {
    'categories': ('sr-smooth', 'focal'),
    'identification': ('sr-smooth', 'arcface'),
    'attributes': ('two-way',),
}
# The learning rates that every loss is tuned over, up to one beyond the best of each loss.
RATES = {
    'categories': (0.1, 0.2, 0.4, 0.8),
    'identification': (0.05, 0.1, 0.2, 0.4),
    'attributes': (0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
}
PICTURE_RATES = {
    'categories': (0.2, 0.4, 0.8),
    'identification': (0.05, 0.1, 0.2),
    'attributes': (0.1, 0.3, 0.9),
}
# The loss that the others are compared with.
BASELINE = {'categories': 'sr', 'identification': 'sr', 'attributes': 'lr'}


KEY = ('job', 'loss', 'split', 'seed', 'settings')
# What is kept apart from the rows: which test images a run gets right.
CORRECT = 'correct'
ABOUT = ('seconds', 'date', 'commit', 'machine', 'cores', 'threads', 'torch', 'python')


@dataclass(frozen=True)
class Run:
    """A training run of the study.

    Args:
        job (str): A key of ``JOBS``.
        loss (str): One of :func:`losses_of` the job.
        split (str): 'val', the split to tune on, or 'test', the one to report.
        seed (int): Seed of the run.
        settings (dict): Learning rate, weight decay, and what else differs from the recipe.
    """

    job: str
    loss: str
    split: str
    seed: int
    settings: dict

    @property
    def kind(self) -> str:
        """What the job is: categories, identification or attributes."""
        return JOBS[self.job].kind

    @property
    def key(self) -> tuple[str, ...]:
        """The values that identify the row of the run."""
        return self.job, self.loss, self.split, str(self.seed), self.settings_text

    @property
    def settings_text(self) -> str:
        """The settings as JSON, in alphabetical order."""
        return json.dumps(self.settings, sort_keys=True)

    @property
    def name(self) -> str:
        """The name of the folder of the run."""
        settings = '_'.join(f'{name}={self.settings[name]}' for name in sorted(self.settings))
        return f'{self.job}_{self.split}_{self.loss}_{settings}_seed{self.seed}'


def losses_of(job: str) -> tuple[str, ...]:
    """Return the losses of a job, those of the paper's comparison first."""
    kind = JOBS[job].kind
    has_more = JOBS[job].takes_pictures and JOBS[job].width == WIDTH
    return LOSSES[kind] + MORE_LOSSES[kind] * has_more


def tuning_settings(job: str, loss: str) -> list[dict]:
    """Return the settings that a loss is tuned over, equally many for each loss of a job.

    Each learning rate goes with two values of the loss's own parameter or, for a loss without
    one, of the weight decay.
    """
    kind, pictures = JOBS[job].kind, JOBS[job].takes_pictures
    own: list[dict[str, float]] = {
        ('categories', 'hslr'): [dict(ratio=0.01), dict(ratio=0.1)],
        ('categories', 'sslr'): [dict(gamma=0.25), dict(gamma=0.5)],
        ('categories', 'focal'): [dict(gamma=1.0), dict(gamma=2.0)],
        ('identification', 'hslr'): [dict(ratio=0.01), dict(ratio=0.1)],
        ('identification', 'sslr'): [dict(gamma=0.25), dict(gamma=0.5)],
        ('identification', 'arcface'): [dict(margins=0.2), dict(margins=0.5)],
        ('attributes', 'hslr'): [dict(ratio=0.3), dict(ratio=0.6)],
        ('attributes', 'sslr'): [dict(gamma=0.1), dict(gamma=0.25)],
        ('attributes', 'focal'): [dict(gamma=1.0), dict(gamma=2.0)],
        ('attributes', 'asl'): [dict(gamma_neg=1.0), dict(gamma_neg=4.0)],
        ('attributes', 'two-way'): [dict(temperature=1.0), dict(temperature=4.0)],
    }.get((kind, loss), [dict(weight_decay=5e-4), dict(weight_decay=1e-3)])
    rates = (PICTURE_RATES if pictures else RATES)[kind]
    return [BASE | dict(lr=lr) | more for more in own for lr in rates]


def ablations(job: str) -> Iterator[Run]:
    """Yield the runs of the ablation, on the split to tune on; a loss comes unchanged first."""
    if job == 'categories-1000':
        yield from _category_ablations()
    if job in ('omniglot', 'cifar100-short'):
        yield from _picture_ablations(job)
    if job == 'attributes':
        yield from _attribute_ablations()


def default_runs(job: str) -> Iterator[Run]:
    """Yield three seeds of the recipes' own settings on the test split, for Omniglot alone."""
    if job == 'omniglot':
        for seed in SEEDS[:3]:
            for loss in LOSSES[JOBS[job].kind]:
                yield Run(job, loss, 'test', seed, BASE | PICTURE_FOCUS.get(loss, {}))


def _picture_ablations(job: str) -> Iterator[Run]:
    """Yield what prior, annealing and selection add one by one, three seeds each."""
    for seed in SEEDS[:3]:
        for loss, changes in (
            ('lr', {}),
            ('lr', dict(prior=False)),
            ('hslr', {}),
            ('hslr', dict(prior=False)),
            ('hslr', dict(anneal='none')),
            ('sslr', {}),
            ('sslr', dict(prior=False)),
        ):
            yield Run(job, loss, 'val', seed, BASE | PICTURE_FOCUS.get(loss, {}) | changes)


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

    def run(loss: str, seed: int = 0, **changes: Any) -> Run:
        settings = BASE | FOCUS.get(loss, {}) | changes
        return Run('categories-1000', loss, 'val', seed, settings)

    for seed in SEEDS[:3]:  # the prior and the annealing
        for loss in ('sr', 'lr', 'hslr', 'sslr'):
            yield run(loss, seed)
            if loss != 'sr':
                yield run(loss, seed, prior=False)
        yield run('hslr', seed, anneal='none')
        yield run('hslr', seed, anneal='none', ratio=0.1)
    changes: dict[str, list[dict[str, Any]]] = {
        'hslr': [
            *(dict(ratio=ratio) for ratio in (0.003, 0.03, 0.1, 0.3)),
            *(dict(anneal=anneal) for anneal in ('linear', 'cosine')),
            *(dict(anneal_end=end) for end in (0.5, 1.0)),
            *(dict(alpha=alpha, ratio=0.02) for alpha in (1.0, 10.0, 100.0)),
        ],
        'sslr': [
            *(dict(gamma=gamma) for gamma in (0.25, 1.0, 2.0)),
            dict(gamma=1.0, anneal='linear'),
            *(dict(alpha=alpha) for alpha in (1.0, 100.0)),
            dict(alpha=100.0, anneal_alpha=999.0),
        ],
    }
    for loss, own in changes.items():
        for each in own:
            yield run(loss, **each)
    for loss in ('sr', 'lr', 'hslr', 'sslr'):
        for decay in (1e-4, 2e-3):
            yield run(loss, weight_decay=decay)
        for lr in (0.05, 0.1, 0.4, 0.8):
            yield run(loss, lr=lr)


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


class Results:
    """The rows of finished runs, in a CSV file for each kind of job.

    Args:
        folder (Path): The folder of ``study_categories.csv``, ``study_identification.csv`` and
            ``study_attributes.csv``; what is not there has no rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = {kind: read_rows(self.path(kind)) for kind in METRICS}

    def path(self, kind: str) -> Path:
        """Return the file of a kind of job."""
        return self.folder / f'study_{kind}.csv'

    def find(self, run: Run) -> Row | None:
        """Return the row of a run, None where it has not finished."""
        for row in self.rows[run.kind]:
            if tuple(row[name] for name in KEY) == run.key:
                return row
        return None

    def add(self, run: Run, row: Row) -> None:
        """Append the row of a run to its file, and which images it got right to another."""
        key = dict(zip(KEY, run.key, strict=True))
        if row.get(CORRECT):
            append_rows(self.folder / 'study_correct.csv', [key | {CORRECT: row[CORRECT]}])
        names = (*KEY, *METRICS[run.kind], 'curve', *ABOUT)
        row = {name: (key | row)[name] for name in names}
        append_rows(self.path(run.kind), [row])
        self.rows[run.kind].append(row)


def tuning_runs(job: str, loss: str) -> list[Run]:
    """Return the runs that tune a loss; those of one job may serve others.

    On pictures each setting has two seeds, one after the other.
    """
    tuned_on = JOBS[job].tuned_on or job
    return [
        Run(tuned_on, loss, 'val', seed, settings)
        for seed in range(1 + JOBS[job].takes_pictures)
        for settings in tuning_settings(tuned_on, loss)
    ]


def best_settings(results: Results, job: str, loss: str) -> dict[str, float] | None:
    """Return the settings with the best mean over the seeds, None before all have been tried."""
    metric = METRICS[JOBS[job].kind][0]
    values: dict[str, list[float]] = {}
    for run in tuning_runs(job, loss):
        row = results.find(run)
        if row is None:
            return None
        values.setdefault(row['settings'], []).append(float(row[metric]))
    return json.loads(max(values, key=lambda each: sum(values[each])))


def reported(results: Results, job: str, loss: str) -> list[Row]:
    """Return the rows of a loss's tuned settings on the test split, by seed."""
    settings = best_settings(results, job, loss)
    if settings is None:
        return []
    seeds = SEEDS[: JOBS[job].seeds]
    rows = [results.find(Run(job, loss, 'test', seed, settings)) for seed in seeds]
    return [row for row in rows if row]


def values_by_seed(results: Results, job: str, loss: str) -> dict[str, float]:
    """Return the first metric of a loss's tuned settings on the test split, by seed."""
    metric = METRICS[JOBS[job].kind][0]
    return {row['seed']: float(row[metric]) for row in reported(results, job, loss)}


def differences(results: Results, job: str, loss: str) -> list[float]:
    """Return how far each seed of a loss is above the same seed of the baseline, in points."""
    base = values_by_seed(results, job, BASELINE[JOBS[job].kind])
    values = values_by_seed(results, job, loss)
    return [values[seed] - base[seed] for seed in values if seed in base]
