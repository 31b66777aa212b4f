"""The pictures of the study."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from study_grid import BASE, FOCUS, JOBS, LOSSES, METRICS, SEEDS, Run
from study_results import Results, reported

from frlr_mm.reporting import line_style, save_figure, summarize

NAMES = {'sr': 'SR', 'lr': 'LR', 'hslr': 'HS-LR', 'sslr': 'SS-LR', 'focal': 'focal', 'asl': 'ASL'}
# What stands beside the lines of the ablation: without the prior, without the annealing.
CURES = {
    'lr': ((dict(prior=False), 'no prior'),),
    'sslr': ((dict(prior=False), 'no prior'),),
    'hslr': ((dict(prior=False), 'no prior'), (dict(anneal='none'), 'ratio fixed')),
}


def draw_results(results: Results, folder: Path) -> None:
    """Draw each job's losses on the test split: seeds, mean and 95 % interval."""
    found = {
        job: {loss: rows for loss in LOSSES[kind] if (rows := reported(results, job, loss))}
        for job, (kind, *_) in JOBS.items()
    }
    found = {job: losses for job, losses in found.items() if len(losses) > 1}
    if not found:
        return
    size = 3.4 * len(found), 3.2
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08))
    for axis, (job, losses) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        metric = METRICS[JOBS[job][0]][0]
        for place, (loss, rows) in enumerate(losses.items()):
            values = [float(row[metric]) for row in rows]
            style = line_style(list(NAMES).index(loss))
            axis.plot([place + 0.15] * len(values), values, 'o', color='0.6', markersize=3)
            summary = summarize(values)
            half = 0 if len(values) < 2 else summary.high - summary.mean
            axis.errorbar(place - 0.1, summary.mean, half, capsize=4, **style)
        axis.set_xticks(range(len(losses)), [NAMES[loss] for loss in losses])
        axis.set(title=job, ylabel=f'{metric.split("/")[1]}, %', xlim=(-0.6, len(losses) - 0.4))
        axis.grid(axis='y', alpha=0.3)
    save_figure(figure, folder / 'study.png', dpi=120)


def draw_cures(results: Results, folder: Path) -> None:
    """Draw the same training with and without the prior, and HS-LR without its annealing."""
    figure = Figure(figsize=(3.4 * len(CURES), 3.2), layout='constrained')
    axes = figure.subplots(1, len(CURES), sharey=True)
    drawn = False
    for axis, (loss, cures) in zip(axes, CURES.items(), strict=True):
        variants = (('sr', {}, 'SR'), (loss, {}, NAMES[loss]), *((loss, *cure) for cure in cures))
        for place, (name, changes, label) in enumerate(variants):
            curves = _curves(results, name, changes)
            if not len(curves):
                continue
            drawn = True
            epochs = np.arange(1, curves.shape[1] + 1)
            style = line_style(place)
            axis.plot(epochs, curves.mean(0), label=label, **style)
            axis.fill_between(
                epochs, curves.min(0), curves.max(0), color=style['color'], alpha=0.15, lw=0
            )
        axis.set(
            title=NAMES[loss], xlabel='epoch', xticks=range(1, JOBS['categories-1000'][2] + 1)
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_ylabel('top-1 on held-out training faces, %')
    if drawn:
        save_figure(figure, folder / 'study_cures.png', dpi=120)


def _curves(results: Results, loss: str, changes: dict) -> np.ndarray:
    """Return the validations (seeds, epochs) of a variant of the ablation."""
    settings = BASE | FOCUS.get(loss, {}) | changes
    runs = [Run('categories-1000', loss, 'val', seed, settings) for seed in SEEDS[:3]]
    rows = [row for run in runs if (row := results.find(run))]
    return np.array([[float(value) for value in row['curve'].split()] for row in rows])
