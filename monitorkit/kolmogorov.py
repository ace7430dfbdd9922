"""The distribution of the two-sided Kolmogorov-Smirnov statistic.

`scipy.stats.kstwo` has it, to the same digits, and takes a second to import, for which each cycle
in a new process would wait. The tests compare the two. `scipy.special`, which is needed anyway, has
the one-sided distribution.

References:
    R. Simard, P. L'Ecuyer, "Computing the two-sided Kolmogorov-Smirnov distribution", Journal of
    Statistical Software 39 (2011), 11: which way is the most precise one where.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SMALL = 140
"""Up to so many rows everything is exact."""

DURBIN_ROWS = 100_000
"""Up to so many rows, small distances are exact."""


def two_sided_sf(rows: int, distance: float) -> float:
    """P(D >= distance) of the empirical distribution function of so many rows.

    Args:
        rows: at least 1, else NaN.
        distance: in [0, 1].
    """
    if rows < 1:
        return math.nan
    if distance <= 0:
        return 1.0
    if distance >= 1:
        return 0.0
    squared = rows * distance**2
    if distance >= 0.5 or squared >= (4 if rows <= SMALL else 2.2):  # noqa: PLR2004 - the paper's
        # Both sides at once is impossible from a half on, and next to impossible here.
        from scipy.special import smirnov  # noqa: PLC0415 - takes 0.1 s

        return min(1.0, 2 * float(smirnov(rows, distance)))
    if rows <= SMALL or (rows <= DURBIN_ROWS and rows * distance**1.5 <= 1.4):  # noqa: PLR2004
        cdf = _durbin(rows, distance)
    else:
        cdf = _pelz_good(rows, distance)
    return min(1.0, max(0.0, 1.0 - cdf))


def _durbin(rows: int, distance: float) -> float:
    """P(D < distance), exactly: n!/n^n times an entry of the n-th power of a matrix.

    References:
        G. Marsaglia, W. W. Tsang, J. Wang, "Evaluating Kolmogorov's distribution", Journal of
        Statistical Software 8 (2003), 18, after J. Durbin (1973).
    """
    steps = math.floor(rows * distance) + 1
    rest = steps - rows * distance
    size = 2 * steps - 1
    power = np.arange(1, size + 1)
    inverse = np.exp(-np.array([math.lgamma(k + 1) for k in range(size + 1)]))
    below = np.subtract.outer(np.arange(size), np.arange(size)) + 1
    matrix = np.where(below >= 0, inverse[np.maximum(below, 0)], 0.0)
    edge = (1 - rest**power) * inverse[1:]
    matrix[:, 0] = edge
    matrix[-1, :] = edge[::-1]
    corner = 1 - 2 * rest**size + max(0.0, 2 * rest - 1) ** size
    matrix[-1, 0] = corner * inverse[size]
    powered, exponent = _power(matrix, rows)
    entry = float(powered[steps - 1, steps - 1])
    if entry <= 0:
        return 0.0
    return math.exp(
        math.log(entry) + exponent * math.log(2) + math.lgamma(rows + 1) - rows * math.log(rows)
    )


def _power(matrix: NDArray[np.float64], exponent: int) -> tuple[NDArray[np.float64], int]:
    """A matrix to a power, divided by a power of two that is returned beside it."""
    result, scale = np.eye(len(matrix)), 0
    base, base_scale = matrix, 0
    while exponent:
        if exponent & 1:
            result, more = _scaled(result @ base)
            scale += base_scale + more
        base, more = _scaled(base @ base)
        base_scale = 2 * base_scale + more
        exponent >>= 1
    return result, scale


def _scaled(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    shift = math.frexp(float(matrix.max()))[1]
    return np.ldexp(matrix, -shift), shift


def _pelz_good(rows: int, distance: float) -> float:
    """P(D < distance) as the limit distribution and three corrections in 1/sqrt(n).

    References:
        W. Pelz, I. J. Good, "Approximating the lower tail-areas of the Kolmogorov-Smirnov
        one-sample statistic", Journal of the Royal Statistical Society B 38 (1976), 152-156.
    """
    z = math.sqrt(rows) * distance
    if z < 0.1:  # noqa: PLR2004 - it is e^(-123)
        return 0.0
    z2, z4, z6 = z**2, z**4, z**6
    terms = np.arange(math.ceil(16 * z / math.pi) + 1)  # beyond them e^(-128)
    half = (math.pi * (terms + 0.5)) ** 2
    whole = (math.pi * (terms[1:])) ** 2
    of_half, of_whole = np.exp(-half / (2 * z2)), np.exp(-whole / (2 * z2))
    # The sums run over all integers: twice those over the ones from 0, or from 1.
    root = 2 * math.sqrt(math.pi / 2)
    zeroth = root / z * of_half.sum()
    first = root / (6 * z4) * ((half - z2) * of_half).sum()
    second = (
        root
        / (72 * z**7)
        * ((6 * z6 + 2 * z4 + (2 * z4 - 5 * z2) * half + (1 - 2 * z2) * half**2) * of_half).sum()
        - root / (36 * z**3) * (whole * of_whole).sum()
    )
    third = (
        root
        / (6480 * z**10)
        * (
            (
                (5 - 30 * z2) * half**3
                + (-60 * z2 + 212 * z4) * half**2
                + (135 * z4 - 96 * z6) * half
                - 30 * z6
                - 90 * z**8
            )
            * of_half
        ).sum()
        + root / (216 * z6) * ((3 * z2 * whole - whole**2) * of_whole).sum()
    )
    return float(zeroth + first / rows**0.5 + second / rows + third / rows**1.5)
