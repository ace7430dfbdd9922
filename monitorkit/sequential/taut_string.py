"""The shortest way through a tube: the distribution nearest to another one within some limits.

In coordinates of the other one's distribution function it is the nearest for every convex measure
at once, Kullback and Leibler's divergence among them.

References:
    P. Davies, A. Kovac, "Local extremes, runs, strings and multiresolution", Annals of Statistics
    29 (2001), 1-65.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def taut_string(x: Floats, low: Floats, high: Floats) -> Floats:
    """The shortest way through a tube, at each of its abscissas.

    Args:
        x: (points,) ascending; where it does not ascend, the string may jump.
        low: (points,) the tube's lower end; at the first and last point the upper one, too.
        high: (points,) its upper end.
    """
    x = x + 1e-12 * np.arange(len(x))
    y = np.empty(len(x))
    y[0] = low[0]
    start, last = 0, len(x) - 1
    while start < last:
        # The steepest and the flattest way on that still fits, and the knots that they touch.
        steepest, flattest = math.inf, -math.inf
        above = below = last
        knot, level = last, low[last]
        for point in range(start + 1, last + 1):
            width = x[point] - x[start]
            down, up = (low[point] - y[start]) / width, (high[point] - y[start]) / width
            if down > steepest:
                knot, level = above, high[above]
                break
            if up < flattest:
                knot, level = below, low[below]
                break
            if up <= steepest:
                steepest, above = up, point
            if down >= flattest:
                flattest, below = down, point
        y[start : knot + 1] = np.interp(x[start : knot + 1], [x[start], x[knot]], [y[start], level])
        start = knot
    return y
