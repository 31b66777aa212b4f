"""The finished runs of the study, as rows of CSV files, and what was chosen by them."""

import csv
import json
from pathlib import Path

from study_grid import JOBS, METRICS, SEEDS, Run, tuning_settings

Row = dict[str, str]
KEY = ('job', 'loss', 'split', 'seed', 'settings')
ABOUT = ('seconds', 'date', 'commit', 'machine', 'cores', 'threads', 'torch', 'python')


class Results:
    """The rows of finished runs, one CSV file for each kind of job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, list[Row]] = {}
        for kind in METRICS:
            path = self.path(kind)
            self.rows[kind] = []
            if path.is_file():
                with path.open(newline='') as file:
                    self.rows[kind] = list(csv.DictReader(file))

    def path(self, kind: str) -> Path:
        return self.folder / f'study_{kind}.csv'

    def find(self, run: Run) -> Row | None:
        """Return the row of a run, None where it has not finished."""
        for row in self.rows[run.kind]:
            if tuple(row[name] for name in KEY) == run.key:
                return row
        return None

    def add(self, run: Run, row: Row) -> None:
        """Add the row of a run; the file is replaced as a whole."""
        rows = self.rows[run.kind]
        rows.append(dict(zip(KEY, run.key, strict=True)) | row)
        path = self.path(run.kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix('.partial')
        with partial.open('w', newline='') as file:
            writer = csv.DictWriter(file, [*KEY, *METRICS[run.kind], 'curve', *ABOUT])
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)


def best_settings(results: Results, job: str, loss: str) -> dict | None:
    """Return the tuned settings with the best metric, None before all have been tried."""
    kind = JOBS[job][0]
    rows = [results.find(run) for run in tuning_runs(job, loss)]
    if not all(rows):
        return None
    return json.loads(max(rows, key=lambda row: float(row[METRICS[kind][0]]))['settings'])


def tuning_runs(job: str, loss: str) -> list[Run]:
    """Return the runs that tune a loss; what 1,000 categories need serves 100 and all as well."""
    kind = JOBS[job][0]
    tuned_job = 'categories-1000' if kind == 'categories' else job
    settings = tuning_settings(kind, loss)
    return [Run(tuned_job, loss, 'val', 0, setting) for setting in settings]


def reported(results: Results, job: str, loss: str) -> list[Row]:
    """Return the rows of a loss's tuned settings on the test split, by seed."""
    settings = best_settings(results, job, loss)
    if settings is None:
        return []
    rows = [results.find(Run(job, loss, 'test', seed, settings)) for seed in SEEDS]
    return [row for row in rows if row]
