"""Checks of numbers and choices, with errors that name the argument and its value."""

import math
import sys
from collections.abc import Collection, Iterable
from numbers import Real
from typing import Any


def check_number(
    name: str, value: object, *, low: float = 0.0, high: float = math.inf, open_low: bool = False
) -> None:
    """Raise unless ``value`` is a finite real number in [low, high], or in (low, high].

    Args:
        name (str): The argument, for the error.
        value (object): Its value.
        low (float): The least value. Defaults to 0.0.
        high (float): The greatest value. Defaults to math.inf.
        open_low (bool): Whether ``low`` itself is out of range. Defaults to False.

    Raises:
        TypeError: If ``value`` is not a real number.
        ValueError: If ``value`` is NaN, infinite or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'Expected `{name}` to be a number, but got {value!r}')
    # Comparisons alone, which are false for a NaN: torch.compile turns a number that changes
    # between calls into a symbol, which it can compare but not hand to math.isfinite.
    # (mypy does not know that a Real can be compared.)
    above = low < value if open_low else low <= value  # type: ignore[operator]
    # The last comparison refuses an int that is too large for a float.
    if not (above and value <= high and value <= sys.float_info.max):
        bounds = f'{"(" if open_low else "["}{low:g}, {high:g}{")" if high == math.inf else "]"}'
        raise ValueError(f'Expected `{name}` to be in {bounds}, but got {value}')


def check_int(name: str, value: object, low: int, high: float = math.inf) -> None:
    """Raise a ValueError unless ``value`` is an int in [low, high].

    Args:
        name (str): The argument, for the error.
        value (object): Its value.
        low (int): The least value.
        high (float): The greatest value. Defaults to math.inf.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f'Expected `{name}` to be an int in [{low}, {high}], but got {value!r}')


def check_choice(name: str, value: object, choices: Collection) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``.

    Args:
        name (str): The argument, for the error.
        value (object): Its value.
        choices (Collection): The values that are allowed.
    """
    if value not in choices:
        raise ValueError(f'Expected `{name}` to be one of {tuple(choices)}, but got {value!r}')


def check_class_factor(name: str, values: Any) -> float | tuple[float, ...] | None:
    """Return a factor of classes as plain numbers, and raise unless they are finite and >= 0.

    Args:
        name (str): The argument, for the error.
        values (float | Sequence[float] | Tensor, optional): A number for all classes, or one for
            each; None is returned as it is.

    Raises:
        TypeError: If a value is not a real number.
        ValueError: If a value is NaN, infinite or below 0.
    """
    if values is None:
        return None
    if hasattr(values, 'tolist'):  # a tensor or an array
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Iterable):
        check_number(name, values)
        return float(values)
    values = tuple(values)
    for i, value in enumerate(values):
        check_number(f'{name}[{i}]', value)
    return tuple(float(value) for value in values)
