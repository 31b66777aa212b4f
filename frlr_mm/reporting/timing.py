"""Times of functions that take turns, and ratios of times within a round."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

QUANTILES = (20, 50, 80)


def clock(device: str, threads: int) -> tuple[Callable[[], float], str]:
    """Choose how to measure time.

    Args:
        device (str): 'cpu' or 'cuda'.
        threads (int): How many threads compute on a CPU.

    Returns:
        tuple[Callable[[], float], str]: A function that returns seconds, and what these are: the
        CPU time of the thread where one thread computes, so that a busy machine disturbs less,
        else wall time. On a GPU, the function waits first until all work is done.
    """
    if device == 'cuda':

        def now() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return now, 'wall time'
    if threads == 1:
        return time.thread_time, 'thread CPU time'
    return time.perf_counter, 'wall time'


def take_turns(
    functions: Mapping[str, Callable[[], Sequence[float]]], rounds: int
) -> dict[str, np.ndarray]:
    """Call each function once a round, so that all meet the same disturbances.

    Args:
        functions (Mapping[str, Callable[[], Sequence[float]]]): By name, functions that return
            their own times in seconds, P parts each.
        rounds (int): R, at least 1; another round comes first, to warm up, and does not count.

    Returns:
        dict[str, np.ndarray]: By name, times (R, P) in float64.

    Raises:
        ValueError: If ``rounds`` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f'Expected `rounds` to be at least 1, but got {rounds}')
    times: dict[str, list[Sequence[float]]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            values = function()
            if i:
                times[name].append(values)
    return {name: np.array(values, np.float64) for name, values in times.items()}


def columns(times: np.ndarray, baseline: np.ndarray) -> dict[str, str]:
    """Return the columns of a row: the median with the 20th and the 80th percentile.

    Args:
        times (np.ndarray): Seconds (R,), a round each.
        baseline (np.ndarray): Seconds (R,) of what the ratios refer to, in the same rounds.

    Returns:
        dict[str, str]: ``p20_ms``, ``p50_ms`` and ``p80_ms`` in milliseconds; ``ratio_p20``,
        ``ratio_p50`` and ``ratio_p80`` of the ratios within a round.
    """
    return {f'p{q}_ms': f'{value:.4g}' for q, value in _percentiles(1e3 * times)} | {
        f'ratio_p{q}': f'{value:.4g}' for q, value in _percentiles(times / baseline)
    }


def _percentiles(values: np.ndarray) -> list[tuple[int, float]]:
    return [(q, float(np.percentile(values, q))) for q in QUANTILES]
