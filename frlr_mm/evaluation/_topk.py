"""The ``topk`` of the metrics."""

from collections.abc import Sequence


def check_topk(topk: int | Sequence[int]) -> tuple[int, ...]:
    """Return the k of a metric, one or several, as a tuple.

    Raises:
        TypeError: If a k is not an int.
        ValueError: If there is no k, or one is below 1.
    """
    ranks = tuple(topk) if isinstance(topk, Sequence) else (topk,)
    if not ranks:
        raise ValueError(f'Expected `topk` to hold at least one rank, but got {topk!r}')
    for k in ranks:
        if isinstance(k, bool) or not isinstance(k, int):
            raise TypeError(f'Expected `topk` to hold ints, but got {k!r}')
        if k < 1:
            raise ValueError(f'Expected `topk` to hold ranks >= 1, but got {k}')
    return ranks
