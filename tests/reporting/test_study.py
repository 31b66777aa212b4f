import json

import pytest

from frlr_mm.reporting.study import (
    ABOUT,
    Results,
    Run,
    best_settings,
    differences,
    reported,
    tuning_runs,
    tuning_settings,
)
from frlr_mm.reporting.study_jobs import JOBS, PICTURE_RATES, RATES, losses_of


def add(results, run, value):
    row = dict.fromkeys(('accuracy/top1', 'accuracy/top5', 'curve'), str(value))
    results.add(run, row | dict.fromkeys(ABOUT, 'x'))


def test_same_number_of_settings_for_each_loss():
    for job, (kind, *_) in JOBS.items():
        rates = (PICTURE_RATES if JOBS[job].takes_pictures else RATES)[kind]
        for loss in losses_of(job):
            settings = tuning_settings(job, loss)
            different = {json.dumps(each, sort_keys=True) for each in settings}
            assert len(different) == 2 * len(rates)


def test_settings_are_chosen_once_all_are_tried_and_rows_are_kept(tmp_path):
    results = Results(tmp_path)
    job = 'categories-1000'
    for loss, gain in (('sr', 0), ('lr', 1.5)):
        for i, run in enumerate(tuning_runs(job, loss)):
            assert best_settings(results, job, loss) is None
            assert reported(results, job, loss) == []
            add(results, run, 70 + (i == 3))
        best = tuning_runs(job, loss)[3].settings
        assert best_settings(results, job, loss) == best
        for seed in range(3 + (loss == 'lr')):
            add(results, Run(job, loss, 'test', seed, best), 80 + seed + gain)
        # The test split of other settings counts for nothing.
        add(results, Run(job, loss, 'test', 4, best | dict(lr=9.0)), 99)
    # Of the seeds that both have.
    assert differences(results, job, 'lr') == pytest.approx([1.5] * 3)
    again = Results(tmp_path)
    assert again.rows == results.rows
    assert len(reported(again, job, 'lr')) == 4
    assert best_settings(again, 'categories-100', 'lr') == best_settings(again, job, 'lr')
