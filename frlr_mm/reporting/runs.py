"""The logs of runs, joined over resumptions, and statistics over seeds."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats


class Series(NamedTuple):
    """The values of a key of a run: steps in rising order, and what the steps count."""

    steps: list[int]
    values: list[float]
    unit: str


class Summary(NamedTuple):
    """Mean, standard deviation and the interval of the mean over ``num`` values."""

    mean: float
    std: float
    low: float
    high: float
    num: int


def read_run(path: Path) -> dict[str, Series]:
    """Read what mmengine logged of a run.

    A run that was resumed has a log for each start. A later one takes over at its first step:
    what an earlier one logged from there on was trained again.

    Args:
        path (Path): A working directory, with ``<timestamp>/vis_data/scalars.json``, or a log.

    Returns:
        dict[str, Series]: Each key that holds numbers. Training is logged by iteration,
        validation by epoch or iteration. A key of both is that of training.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If a line is broken or no line holds anything.
    """
    logs = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not logs:
        what = 'has no */vis_data/scalars.json' if path.is_dir() else 'does not exist'
        raise FileNotFoundError(f'{path} {what}: expected the working directory of a run')
    train: dict[int, dict] = {}
    val: dict[int, dict] = {}
    for log in logs:
        rows = _read_log(log)
        for joined, is_train in ((train, True), (val, False)):
            part = {row['step']: row for row in rows if ('iter' in row) == is_train}
            for step in [step for step in joined if part and step >= min(part)]:
                del joined[step]
            joined.update(part)
    last_epoch = max((row.get('epoch', 0) for row in train.values()), default=0)
    units = ('epoch' if max(val, default=0) <= last_epoch else 'iteration', 'iteration')
    series: dict[str, Series] = {}
    for part, unit in zip((val, train), units, strict=True):
        mine: dict[str, Series] = {}
        for step in sorted(part):
            for key, value in part[step].items():
                if key not in ('step', 'iter', 'epoch') and isinstance(value, (int, float)):
                    steps, values, _ = mine.setdefault(key, Series([], [], unit))
                    steps.append(step)
                    values.append(float(value))
        series |= mine
    if not series:
        raise ValueError(f'{logs[-1]} holds no values: the run has logged nothing yet')
    return series


def _read_log(path: Path) -> list[dict]:
    rows = []
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get('step'), int):
                raise ValueError('expected an object with an integer `step`')
        except ValueError as error:
            raise ValueError(f'{path}, line {number}: {error}, but got {line[:60]!r}') from None
        rows.append(row)
    return rows


def align(runs: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Bring the runs of a group to the steps that all of them have.

    Args:
        runs (Sequence[Series]): One key of each run.

    Returns:
        tuple[np.ndarray, np.ndarray]: Steps (S,) and values (R, S) of R runs.

    Raises:
        ValueError: If they have no step in common.
    """
    steps = sorted(set.intersection(*(set(run.steps) for run in runs)))
    if not steps:
        raise ValueError('the runs have no step in common: were they logged at other intervals?')
    lookup = [dict(zip(run.steps, run.values, strict=True)) for run in runs]
    return np.array(steps), np.array([[run[step] for step in steps] for run in lookup])


def summarize(values: Sequence[float], level: float = 0.95) -> Summary:
    """Summarise the values of several seeds.

    Args:
        values (Sequence[float]): One of each seed, at least one.
        level (float): The probability that the interval covers the mean, by the t-distribution.
            Defaults to 0.95.

    Returns:
        Summary: Standard deviation (of a sample) and interval are NaN for a single value.
    """
    num, mean = len(values), float(np.mean(values))
    if num == 1:
        return Summary(mean, math.nan, math.nan, math.nan, num)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, num - 1)) * std / math.sqrt(num)
    return Summary(mean, std, mean - half, mean + half, num)
