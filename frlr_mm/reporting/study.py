"""The study of the losses: its runs, the rows of those that have finished, what they choose."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .correct import unpack_bits
from .study_jobs import BASE, BASELINE, JOBS, METRICS, PICTURE_RATES, RATES, SEEDS
from .tables import Row, append_rows, read_rows

KEY = ('job', 'loss', 'split', 'seed', 'settings')
# What is kept apart from the rows: which test images a run gets right.
CORRECT = 'correct'
CORRECT_FILE = 'study_correct.csv'
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


def tuning_settings(job: str, loss: str) -> list[dict]:
    """Return the settings that a loss is tuned over, equally many for each loss of a job.

    Each learning rate goes with two values of the loss's own parameter or, for a loss without
    one, of the weight decay.
    """
    kind, pictures = JOBS[job].kind, JOBS[job].takes_pictures
    own: list[dict[str, Any]] = {
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
    if pictures and loss == 'hslr':
        own = [each | dict(anneal='cosine') for each in own]
    rates = (PICTURE_RATES if pictures else RATES)[kind]
    return [BASE | dict(lr=lr) | more for more in own for lr in rates]


class Results:
    """The rows of finished runs, in a CSV file for each kind of job.

    Args:
        folder (Path): The folder of ``study_categories.csv``, ``study_identification.csv`` and
            ``study_attributes.csv``; what is not there has no rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = {kind: read_rows(self.path(kind)) for kind in METRICS}
        self._by_key = {
            tuple(row[name] for name in KEY): row for rows in self.rows.values() for row in rows
        }
        self._correct: dict[tuple[str, ...], str] | None = None

    def path(self, kind: str) -> Path:
        """Return the file of a kind of job."""
        return self.folder / f'study_{kind}.csv'

    def find(self, run: Run) -> Row | None:
        """Return the row of a run, None where it has not finished."""
        return self._by_key.get(run.key)

    def correct(self, run: Run) -> np.ndarray | None:
        """Return which test images a run got right, bools (N,), None where nothing says so."""
        if self._correct is None:
            rows = read_rows(self.folder / CORRECT_FILE)
            self._correct = {tuple(row[name] for name in KEY): row[CORRECT] for row in rows}
        text = self._correct.get(run.key)
        return None if text is None else unpack_bits(text)

    def add(self, run: Run, row: Row) -> None:
        """Append the row of a run to its file, and which images it got right to another."""
        key = dict(zip(KEY, run.key, strict=True))
        if row.get(CORRECT):
            append_rows(self.folder / CORRECT_FILE, [key | {CORRECT: row[CORRECT]}])
            self._correct = None
        names = (*KEY, *METRICS[run.kind], 'curve', *ABOUT)
        row = {name: (key | row)[name] for name in names}
        append_rows(self.path(run.kind), [row])
        self.rows[run.kind].append(row)
        self._by_key[run.key] = row


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
