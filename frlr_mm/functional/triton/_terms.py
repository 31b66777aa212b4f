"""The maths of the losses in Triton, float32: ``frlr_mm.functional._terms`` has it in words.

Everything comes from e = exp(-|x|), which cannot overflow, and from one division, the slowest of
the operations. NaN goes through; a term of -inf is 0, and its derivative too.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoids(x):
    """Return p = sigmoid(x), sigmoid(-x) and log(1 + exp(-|x|)).

    log(1 + e) is 2 artanh(s) for s = e / (2 + e), in [0, 1/3]; artanh(s) / s is a polynomial of
    s^2 to 1.5e-8. Triton's own logarithm would lose what many classes sum: terms of 1e-5.
    """
    e = tl.exp2(tl.abs(x) * -1.4426950408889634)  # 1 / log(2)
    one, two = 1.0 + e, 2.0 + e
    inverse = 1.0 / (one * two)
    larger = two * inverse
    smaller = e * larger
    s = e * (one * inverse)
    z = s * s
    series = 0.13433723438542206 * z + 0.1411699710325297
    series = series * z + 0.20003833857350248
    series = series * z + 0.3333331986174989
    log = (s + s) * (series * z + 1.0)
    return tl.where(x < 0, smaller, larger), tl.where(x < 0, larger, smaller), log


@triton.jit
def positive_term(x):
    """Return softplus(-x) and its derivative."""
    _, other, log = sigmoids(x)
    return log - tl.where(x < 0, x, 0.0), -other


@triton.jit
def negative_term(x, gamma, SELECTS: tl.constexpr):
    """Return p^gamma softplus(x) and its derivative; without SELECTS, gamma is 0."""
    p, other, log = sigmoids(x)
    term = log + tl.where(x > 0, x, 0.0)
    slope = p
    if SELECTS:
        # p^gamma as exp(gamma log p)
        focus = tl.exp2((gamma * 1.4426950408889634) * (tl.where(x < 0, x, 0.0) - log))
        term *= focus
        # (Where x is inf, 1 - p is 0; a term of inf has to be finite there.)
        slope = focus * p + (gamma * other) * tl.where(term < 3.0e38, term, 3.0e38)
    return term, slope
