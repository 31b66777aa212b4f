"""The maths of the losses in Triton, float32: ``frlr_mm.functional._terms`` has it in words.

Everything comes from e = exp(-|x|), which cannot overflow. NaN goes through.
"""

import triton
import triton.language as tl


@triton.jit
def log1p(u):
    """Return log(1 + u) for u in [0, 1], to a few units in the last place.

    It is 2 artanh(s) for s = u / (2 + u), in [0, 1/3]. Triton's own logarithm would lose what
    many classes sum: terms of 1e-5.
    """
    s = u / (2.0 + u)
    z = s * s
    series = 1.0 / 17.0
    series = series * z + 1.0 / 15.0
    series = series * z + 1.0 / 13.0
    series = series * z + 1.0 / 11.0
    series = series * z + 1.0 / 9.0
    series = series * z + 1.0 / 7.0
    series = series * z + 1.0 / 5.0
    series = series * z + 1.0 / 3.0
    return 2.0 * s + 2.0 * s * z * series


@triton.jit
def sigmoids(x):
    """Return p = sigmoid(x), sigmoid(-x) and log(1 + exp(-|x|))."""
    e = tl.exp(-tl.abs(x))
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    return tl.where(x < 0, smaller, larger), tl.where(x < 0, larger, smaller), log1p(e)


@triton.jit
def softplus(x, log):
    """Return log(1 + exp(x)); ``log`` is that of -|x|."""
    return tl.where(x > 0, x, 0.0) + log


@triton.jit
def positive_term(x):
    """Return softplus(-x) and its derivative."""
    _, other, log = sigmoids(x)
    return softplus(-x, log), -other


@triton.jit
def soft_term(x, gamma, SELECTS: tl.constexpr):
    """Return p^gamma softplus(x) and its derivative; without SELECTS, gamma is 0."""
    p, other, log = sigmoids(x)
    term = softplus(x, log)
    if SELECTS:
        # p^gamma as exp(gamma log p)
        focus = tl.exp(gamma * (x - term))
        # (Where x is -inf, x - term is so as well; where it is inf, it is not a number.)
        focus = tl.where(x == float('inf'), 1.0, focus)
        term = focus * term
        slope = focus * p + tl.where(other == 0, 0.0, gamma * other * term)
    else:
        slope = p
    return term, slope
