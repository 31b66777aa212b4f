import json
import math

import numpy as np
import pytest

from frlr_mm.reporting.runs import align, read_run, summarize


def write(folder, start, rows):
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def train_rows(first, last, loss):
    return [dict(loss=loss, iter=i, epoch=1 + i // 10, step=i) for i in range(first, last)]


def test_a_resumed_run_is_joined_by_its_later_logs(tmp_path):
    write(tmp_path, '20260101_000000', [*train_rows(1, 8, 2.0), dict(top1=5.0, step=1)])
    write(tmp_path, '20260102_000000', [*train_rows(5, 10, 1.0), dict(top1=7.0, step=2)])
    series = read_run(tmp_path)
    assert series['loss'].steps == list(range(1, 10))
    assert series['loss'].values == [2.0] * 4 + [1.0] * 5
    assert series['loss'].unit == 'iteration'
    # The second start has validated from epoch 2 on alone.
    assert (series['top1'].steps, series['top1'].values) == ([1, 2], [5.0, 7.0])


def test_errors_name_the_file_and_the_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path} has no .*scalars.json'):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        read_run(tmp_path / 'nowhere')
    path = write(tmp_path, 'a', [dict(loss=1.0, iter=1, step=1)])
    path.write_text(path.read_text() + '{"loss": 1.0, "it')
    with pytest.raises(ValueError, match=f'{path}, line 2: '):
        read_run(tmp_path)


def test_align_keeps_the_common_steps(tmp_path):
    runs = []
    for i, rows in enumerate((train_rows(1, 6, 3.0), train_rows(3, 9, 4.0))):
        write(tmp_path / str(i), 'a', rows)
        runs.append(read_run(tmp_path / str(i))['loss'])
    steps, values = align(runs)
    assert steps.tolist() == [3, 4, 5]
    np.testing.assert_array_equal(values, [[3.0] * 3, [4.0] * 3])


def test_summary():
    # By hand: the standard deviation of 1, 2, 6 is sqrt(7), t for two degrees is 4.302653.
    summary = summarize([1, 2, 6])
    half = 4.302653 * math.sqrt(7 / 3)
    assert summary.mean == 3 and summary.num == 3
    assert summary.std == pytest.approx(math.sqrt(7))
    assert (summary.low, summary.high) == pytest.approx((3 - half, 3 + half))
    single = summarize([5.0])
    assert single.mean == 5 and math.isnan(single.std) and math.isnan(single.low)
