"""The design effect: how many rows of real traffic say as much as one independent row.

When rows are independent, the shares of two neighbouring pieces of time differ by chance as much as
their numbers of rows say; the design effect is how much more they do. (`repeats` has another one.)

References:
    L. Kish, "Survey Sampling", Wiley (1965): the design effect. J. von Neumann, "Distribution of
    the ratio of the mean square successive difference to the variance", Annals of Mathematical
    Statistics 12 (1941), 367-395: neighbours are compared, so that a change counts once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PIECES = (64, 32, 16)
"""The time from a window's first row to its last one is cut into so many pieces: bursts are shorter
than the longest of them."""

FEWEST = 8
"""Fewer pieces with rows say nothing of bursts."""


def design_effect(
    times: NDArray[np.float64], successes: NDArray[np.float64], trials: NDArray[np.float64]
) -> float | None:
    """The largest of the design effects of pieces of different lengths, at least 1.

    For each piece length, the mean over all properties and pairs of neighbours of
    (p_i - p_j)**2 / (p (1 - p) (1/n_i + 1/n_j)), without the pair in which it is largest, for there
    something may have changed, and less its standard error, so that chance makes no bursts.

    Args:
        times: (buckets,) when they begin.
        successes: (buckets, properties) rows that have a property.
        trials: (buckets, properties) rows that could have it.

    Returns:
        None: there are too few pieces with rows to tell, or no property that only some rows have.
    """
    each = (_of(*part) for part in _pieces(times, successes, trials))
    found = [effect for effect in each if effect is not None]
    return max(1.0, *found) if found else None


def _pieces(
    times: NDArray[np.float64], successes: NDArray[np.float64], trials: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    length = times[-1] - times[0] if times.size >= FEWEST else 0.0
    if not length:
        return
    for pieces in PIECES:
        piece = np.minimum((times - times[0]) * pieces // length, pieces - 1)
        begins = np.flatnonzero(np.diff(piece, prepend=-1))
        if begins.size >= FEWEST:
            yield np.add.reduceat(successes, begins), np.add.reduceat(trials, begins)


def _of(successes: NDArray[np.float64], trials: NDArray[np.float64]) -> float | None:
    usable = (trials[1:] > 0) & (trials[:-1] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = successes / trials
        expected = 1 / trials[1:] + 1 / trials[:-1]
        pooled = successes.sum(axis=0) / trials.sum(axis=0)
        ratios = np.diff(shares, axis=0) ** 2 / (expected * pooled * (1 - pooled))
    usable &= np.isfinite(ratios)
    counted = usable.sum(axis=1)
    if not counted.any():
        return None
    pairs = np.where(usable, ratios, 0.0).sum(axis=1)[counted > 0] / counted[counted > 0]
    kept = np.sort(pairs)[:-1]
    if kept.size < 2:  # noqa: PLR2004 - no standard error
        return None
    return float(kept.mean() - kept.std(ddof=1) / np.sqrt(kept.size))
