"""Evidence where some rows come in clusters, as those of a client that repeats itself do.

Dividing successes and trials by the design effect gives them the right variance. It is not enough
for what is rare: of a day in which one client an hour sends its row twenty times, the design effect
is hardly more than one, but two of these clients make forty rows with something that had three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitorkit.sequential.evidence import log_evidence_above

Array = NDArray[np.float64]

_BISECTIONS = 20
_NEARLY_ALL = 1e-9
_HIGHEST = 700.0  # whose exp is a number still


class Clusters(NamedTuple):
    """How rows come together.

    Attributes:
        effect: design effects, rows for each effective one.
        largest: rows of the largest cluster. Where they are not more than the design effect,
            nothing is known of the clusters that make it.
        rows: in all clusters that are known.
    """

    effect: Array
    largest: Array
    rows: Array

    def each(self, chosen: Any) -> Clusters:
        """Some of them, or all in another shape."""
        return Clusters(*(part[chosen] for part in self))


def log_evidence_above_of_clusters(
    successes: Array, trials: Array, bound: Array, clusters: Clusters
) -> Array:
    """`log_evidence_above`, where this says less, as much less as Chernoff's bound for clusters.

    In sum over rows that come m at a time, all with a property or none of them, chance makes at
    most exp(sum of psi(m x)) of exp(x s), with psi(x) = log(1 + p (exp(x) - 1)): the bound on the
    evidence is x s less this sum, for the best x. With single rows only it is n KL(s/n, p). Taken
    for the clusters are N (d - 1) / (b - 1) rows of N in clusters of b rows, and single ones: of
    all sizes up to b with a design effect d these are the worst, as long as p exp(m x) is small.

    There must be as much without the largest cluster, which may have lasted longer than was seen.

    Args:
        successes: s, as there, in effective rows.
        trials: n, likewise.
        bound: p.
        clusters: d, b, and so many rows in clusters at least.

    References:
        H. Chernoff, Annals of Mathematical Statistics 23 (1952), 493-507.
    """
    found = log_evidence_above(successes, trials, bound)
    s, n, p, *several = np.broadcast_arrays(successes, trials, bound, *clusters)
    come = Clusters(*several)
    at = np.isfinite(found) & (come.largest > come.effect)
    if at.any():
        s, n, p, come = s[at], n[at], p[at], come.each(at)
        burst = come.largest / come.effect
        without = log_evidence_above(np.maximum(s - burst, 0.0), np.maximum(n - burst, 0.0), p)
        found[at] = np.minimum(found[at] - _loss(s, n, p, come), without)
    return found


def _loss(s: Array, n: Array, p: Array, clusters: Clusters) -> Array:
    """By how much Chernoff's bound for clusters is below that for effective rows; none is above."""
    effect, largest, known = clusters
    rows = n * effect
    inside = np.minimum(np.maximum((effect - 1) * rows / (largest - 1), known), rows)
    single, count = rows - inside, inside / largest
    share = np.minimum(s / n, 1 - _NEARLY_ALL)
    high = np.log(share) - np.log1p(-share) - np.log(p) + np.log1p(-p)  # best of effective rows
    low = np.zeros_like(high)
    have, odds = s * effect, (1 - p) / p
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        one, many = _shifted(odds, middle), _shifted(odds, largest * middle)
        less = single * one + inside * many < have
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    sure = low * have - single * _psi(p, low) - count * _psi(p, largest * low)
    usual = n * (share * np.log(share / p) + (1 - share) * np.log((1 - share) / (1 - p)))
    found: Array = np.maximum(usual - np.maximum(sure, 0.0), 0.0)
    return found


def _psi(p: Array, x: Array) -> Array:
    """log(1 + p (exp(x) - 1))."""
    found: Array = np.logaddexp(np.log1p(-p), np.log(p) + x)
    return found


def _shifted(odds: Array, x: Array) -> Array:
    """The derivative of `_psi`: the share after a shift by x of its logit.

    Args:
        odds: against it, (1 - p) / p.
        x: the shift.
    """
    found: Array = 1 / (1 + odds * np.exp(-np.minimum(x, _HIGHEST)))
    return found
