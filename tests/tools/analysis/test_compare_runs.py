"""The table against a hand computation, the errors, the files."""

import csv
import json
import math
import runpy

import pytest

from tests.tools.conftest import ROOT


def write_run(folder, loss, top1):
    path = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    rows = [dict(loss=loss / step, iter=step, epoch=1, step=step) for step in (1, 2, 4)]
    rows.append({'accuracy/top1': top1, 'step': 1})
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


@pytest.fixture
def runs(tmp_path):
    for name, top1 in (('a0', 80.0), ('a1', 84.0), ('b0', 90.0)):
        write_run(tmp_path / name, 4.0, top1)
    return ('--group', 'A', 'a0', 'a1', '--group', 'B', 'b0', '--keys', 'accuracy/top1', 'loss')


def test_table_and_files(run_tool, tmp_path, runs):
    status, output = run_tool(
        'analysis/compare_runs.py', *runs, '--out', 'x/compare.png', '--csv', 'x/table.csv'
    )
    assert status == 0, output
    # By hand: the mean of 80 and 84 is 82, their deviation sqrt(8), t for one degree 12.7062.
    half = 12.7062 * math.sqrt(8) / math.sqrt(2)
    assert f'| accuracy/top1 | A | 82 | 2.828 | {82 - half:.4g} to {82 + half:.4g} | 2 |' in output
    assert '| accuracy/top1 | B | 90 |  |  | 1 |' in output
    assert '| loss | A | 1 | 0 | 1 to 1 | 2 |' in output
    with (tmp_path / 'x/table.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['metric'], row['group'], float(row['mean'])) for row in rows] == [
        ('accuracy/top1', 'A', 82),
        ('accuracy/top1', 'B', 90),
        ('loss', 'A', 1),
        ('loss', 'B', 1),
    ]
    assert float(rows[0]['ci95_low']) == pytest.approx(82 - half, abs=1e-3)
    names = sorted(path.name for path in (tmp_path / 'x').iterdir())
    assert names == ['compare.png', 'compare.svg', 'table.csv']


def test_panels_without_a_key_are_not_shown():
    script = runpy.run_path(str(ROOT / 'tools/analysis/compare_runs.py'))
    series = script['Series']([1, 2], [0.5, 0.25], 'epoch')
    keys = ['a', 'b', 'c', 'd']  # in two rows of three
    figure = script['draw']({'A': [dict.fromkeys(keys, series)]}, keys)
    shown = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert len(figure.axes) == 6 and shown == keys


def test_runs_of_unlike_length_are_refused(run_tool, tmp_path, runs):
    log = write_run(tmp_path / 'a2', 4.0, 80.0)
    log.write_text(''.join(log.read_text().splitlines(keepends=True)[:2]))
    args = ('--group', 'A', 'a0', 'a2', '--keys', 'loss', '--out', 'x.png')
    status, output = run_tool('analysis/compare_runs.py', *args)
    assert status != 0 and 'Traceback' not in output and not (tmp_path / 'x.png').exists()
    expected = "Expected 'loss' of the runs of group 'A' to end at the same iteration, but got "
    assert expected + '4 in a0, 2 in a2' in output


def test_errors_are_one_line(run_tool, tmp_path, runs):
    def run(*args):
        status, output = run_tool('analysis/compare_runs.py', *args)
        assert status != 0 and 'Traceback' not in output
        return output

    assert "a0 has no 'top5'; it has accuracy/top1, loss" in run(*runs, 'top5', '--out', 'x.png')
    assert 'but got x.jpg' in run(*runs, '--out', 'x.jpg')
    assert 'none does not exist' in run('--group', 'A', 'none', '--keys', 'a', '--out', 'x.png')
    assert 'expected --group NAME DIR' in run('--group', 'A', '--keys', 'a', '--out', 'x.png')
    log = write_run(tmp_path / 'broken', 1.0, 1.0)
    log.write_text(log.read_text() + '{"loss"\n')
    args = ('--group', 'A', 'broken', '--keys', 'loss', '--out', 'x.png')
    assert f'{log.relative_to(tmp_path)}, line 5: ' in run(*args)
