"""Paired comparisons of two losses of a job, corrected for how many there are."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from .runs import Summary, summarize
from .study import Results, Run, best_settings
from .study_jobs import JOBS, METRICS, SEEDS, losses_of

# Within so many points, on either side of 0, two losses count as equal.
MARGIN = 0.5
LEVEL = 0.05
_DRAWS = 2000


class Comparison(NamedTuple):
    """A loss against another, over the seeds that both have.

    Args:
        loss (str): The loss.
        base (str): What it is compared with.
        shift (Summary): How far it is above, in points: mean and 95 % interval over seeds.
        images (float | None): Half of the 95 % interval of the mean over draws of test images.
        p (float): Of a paired t-test, after Holm's correction.
        verdict (str): 'above', 'below', 'no difference' or 'open'.
    """

    loss: str
    base: str
    shift: Summary
    images: float | None
    p: float
    verdict: str


def planned(job: str) -> list[tuple[str, str]]:
    """Return the comparisons of a job, which are corrected together: loss and baseline."""
    losses = losses_of(job)
    if JOBS[job].kind == 'attributes':
        return [(loss, 'lr') for loss in losses if loss != 'lr']
    with_softmax = [(loss, 'sr') for loss in losses if loss != 'sr']
    return [*with_softmax, ('hslr', 'lr'), ('sslr', 'lr')]


def compare(
    results: Results, job: str, settings: dict[str, dict | None] | None = None
) -> list[Comparison]:
    """Compare the losses of a job on its test split.

    Args:
        results (Results): The rows.
        job (str): The job.
        settings (dict[str, dict | None], optional): The settings of each loss; None stands for
            the tuned ones. Defaults to None.

    Returns:
        list[Comparison]: Those of :func:`planned` with at least two seeds. Where some wait, the
        correction counts them as if they had p = 1.
    """
    if settings is None:
        settings = {loss: best_settings(results, job, loss) for loss in losses_of(job)}
    runs = {
        loss: {
            seed: Run(job, loss, 'test', seed, chosen)
            for seed in SEEDS[: JOBS[job].seeds]
            if chosen is not None
        }
        for loss, chosen in settings.items()
    }
    metric = METRICS[JOBS[job].kind][0]
    found: list[tuple[str, str, Summary, float | None, float] | None] = []
    for loss, base in planned(job):
        ours, theirs = runs.get(loss, {}), runs.get(base, {})
        seeds = [
            seed
            for seed in ours.keys() & theirs.keys()
            if results.find(ours[seed]) and results.find(theirs[seed])
        ]
        if len(seeds) < 2:
            found.append(None)
            continue
        pairs = [(results.find(ours[seed]), results.find(theirs[seed])) for seed in sorted(seeds)]
        shifts = [float(a[metric]) - float(b[metric]) for a, b in pairs if a and b]
        images = _image_interval(results, [(ours[seed], theirs[seed]) for seed in seeds])
        p = float(stats.ttest_1samp(shifts, 0).pvalue) if np.ptp(shifts) else float(not shifts[0])
        found.append((loss, base, summarize(shifts), images, p))
    corrected = holm([1.0 if each is None else each[-1] for each in found])
    return [
        Comparison(*each[:-1], p, _verdict(each[2], p))
        for each, p in zip(found, corrected, strict=True)
        if each is not None
    ]


def holm(values: list[float]) -> list[float]:
    """Return p-values after Holm's correction, in the order given.

    Args:
        values (list[float]): The p-values of all comparisons of a table.

    Returns:
        list[float]: The least level of the whole table at which each is significant.
    """
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(np.argsort(values, kind='stable')):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = largest
    return corrected


def _verdict(shift: Summary, p: float) -> str:
    if p < LEVEL:
        return 'above' if shift.mean > 0 else 'below'
    if shift.low >= -MARGIN and shift.high <= MARGIN:
        return 'no difference'
    return 'open'


def _image_interval(results: Results, pairs: list[tuple[Run, Run]]) -> float | None:
    """Return half of the 95 % interval of the difference over draws of test images, in points."""
    bits = [(results.correct(a), results.correct(b)) for a, b in pairs]
    shifts = [a.astype(float) - b for a, b in bits if a is not None and b is not None]
    if len(shifts) < len(pairs):
        return None
    return bootstrap_half(100 * np.mean(shifts, axis=0))


def bootstrap_half(values: np.ndarray) -> float:
    """Return half of the 95 % bootstrap interval of a mean.

    Args:
        values (np.ndarray): One value per image (N,).

    Returns:
        float: Half of the distance between the 2.5 and the 97.5 % quantile of 2,000 draws.
    """
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(_DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(high - low) / 2
