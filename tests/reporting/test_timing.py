import time

import numpy as np
import pytest

from frlr_mm.reporting.timing import clock, columns, take_turns


def test_functions_take_turns_and_the_first_round_does_not_count():
    calls = []

    def function(name):
        calls.append(name)
        return len(calls), -len(calls)

    times = take_turns({name: lambda name=name: function(name) for name in 'ab'}, 2)
    assert calls == list('ababab')
    np.testing.assert_array_equal(times['a'], [[3, -3], [5, -5]])
    np.testing.assert_array_equal(times['b'], [[4, -4], [6, -6]])
    with pytest.raises(ValueError, match='`rounds` to be at least 1, but got 0'):
        take_turns({}, 0)


def test_columns_take_ratios_within_a_round():
    # A machine that slows down: the ratio is 2 in each round, not that of the medians alone.
    baseline = np.array([0.001, 0.002, 0.003, 0.004, 0.005, 0.1])
    row = columns(2 * baseline, baseline)
    assert (row['p20_ms'], row['p50_ms'], row['p80_ms']) == ('4', '7', '10')
    assert {row[f'ratio_p{q}'] for q in (20, 50, 80)} == {'2'}
    # By hand: the ratios are 1, 2 and 9, those of the medians 3 / 2.
    row = columns(np.array([1.0, 4, 9]), np.array([1.0, 2, 1]))
    assert row['ratio_p50'] == '2' and row['p50_ms'] == '4000'


def test_clock():
    assert clock('cpu', 1) == (time.thread_time, 'thread CPU time')
    assert clock('cpu', 2) == (time.perf_counter, 'wall time')
    assert clock('cuda', 1)[1] == 'wall time'
