"""Evidence that a share left its bounds: it may be looked at as often as one likes.

Rows come one after the other, each has a property or not, and as long as nothing drifted, the
chance that the next one has it is at most p, whatever came before. A martingale that bets on a
larger share wins a factor of 1/alpha at any time with a chance of at most alpha (Ville's
inequality), so its wealth is evidence however often and for whatever reason somebody looked.

References:
    J. Ville, "Étude critique de la notion de collectif" (1939). H. Robbins, "Statistical methods
    related to the law of the iterated logarithm", Annals of Mathematical Statistics 41 (1970),
    1397-1409: mixtures. A. Ramdas et al., "Game-theoretic statistics and safe anytime-valid
    inference", Statistical Science 38 (2023), 576-601.
"""

from __future__ import annotations

from math import e

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The bet is on a beta distribution with its mean so many standard deviations of a row beyond the
# bound, which weighs as much as so many rows, divided by the variance of a row.
_BEYOND = 0.25
_WEIGHT = 5.0


def log_evidence_above(successes: Array, trials: Array, bound: Array) -> Array:
    """Natural logarithm of the evidence that a share is above a bound.

    The mixture of the likelihood ratios q^s (1-q)^f / (p^s (1-p)^f) over shares q > p, by a beta
    distribution cut off at p, most of it moderately beyond: larger changes are found soon anyhow.
    Each ratio is a supermartingale as long as the chance of each row is at most p, so the mixture
    is, whatever the distribution, if it depends on nothing but p.

    Args:
        successes: s, any shape; need not be whole.
        trials: s + f, of the same shape.
        bound: p in [0, 1], of the same shape.

    Returns:
        -inf where the observed share is not above the bound: no evidence is a valid one.
    """
    # scipy.special takes 0.1 s to import, which only a judging process shall pay.
    from scipy.special import betainc, betaln  # noqa: PLC0415 - lazy, see above

    successes, trials, bound = np.broadcast_arrays(successes, trials, bound)
    found = np.full(successes.shape, -np.inf)
    above = successes > bound * trials
    s, f, p = successes[above], (trials - successes)[above], bound[above]
    mean = np.minimum(p + _BEYOND * np.sqrt(p * (1 - p)), (1 + p) / 2)
    # Beyond what is impossible, any share is infinite evidence.
    mean = np.where(p > 0, mean, 0.5)
    a, b = _WEIGHT / (1 - mean), _WEIGHT / mean
    with np.errstate(divide="ignore"):
        ratio = -s * np.log(p) - np.where(f > 0, f * np.log1p(-p), 0.0)
    mixture = (
        betaln(a + s, b + f)
        + np.log(betainc(b + f, a + s, 1 - p))
        - betaln(a, b)
        - np.log(betainc(b, a, 1 - p))
    )
    found[above] = mixture + ratio
    return found


def log_evidence_below(successes: Array, trials: Array, bound: Array) -> Array:
    """Natural logarithm of the evidence that a share is below a bound, as `log_evidence_above`."""
    return log_evidence_above(trials - successes, trials, 1 - bound)


def distance_error(rows: float, chance: float) -> float:
    """How far a distribution function of `rows` values is at most from that of their source.

    At all times at once, with a chance of at most `chance` that it ever is farther.

    References:
        S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing
        and best-arm identification", Bernoulli 28 (2022), 1704-1728, corollary 2 with m = 1.
    """
    if rows < 1:
        return 1.0
    inside = np.log(np.log(e * rows)) + 0.8 * np.log(1612 / chance)
    return float(min(0.85 * np.sqrt(inside / rows), 1.0))


def variation_error(rows: float, values: int, chance: float) -> float:
    """As `distance_error` for the total variation distance of columns with few values.

    The expected distance is at most sqrt(values / rows) / 2 (Cauchy and Schwarz); beyond it
    McDiarmid's inequality holds for each number of rows n, here with a share 1/n - 1/(n+1) of the
    chance.
    """
    if rows < 1:
        return 1.0
    beyond = np.sqrt((2 * np.log(rows + 1) - np.log(chance)) / (2 * rows))
    return float(min(np.sqrt(values / rows) / 2 + beyond, 1.0))


def share_bounds(
    successes: NDArray[np.int64], trials: NDArray[np.int64], chance: Array
) -> tuple[Array, Array]:
    """Clopper and Pearson's bounds of shares; each is wrong with a chance of at most `chance`.

    References:
        C. Clopper, E. Pearson, Biometrika 26 (1934), 404-413.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - lazy, as above

    failures = trials - successes
    low = betaincinv(np.maximum(successes, 1), failures + 1, chance)
    high = betaincinv(successes + 1, np.maximum(failures, 1), 1 - chance)
    return np.where(successes > 0, low, 0.0), np.where(failures > 0, high, 1.0)


def reference_distance_error(rows: int, chance: float) -> float:
    """As `distance_error` for a sample that is looked at once.

    References:
        P. Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of
        Probability 18 (1990), 1269-1283.
    """
    return float(min(np.sqrt(np.log(2 / chance) / (2 * rows)), 1.0)) if rows else 1.0


def reference_variation_error(shares: Array, rows: int, chance: float) -> float:
    """As `reference_distance_error` for the total variation distance of few values.

    The expected distance is at most half the sum of the shares' standard errors (Jensen), which are
    taken from the sample; beyond it McDiarmid's inequality holds.
    """
    errors = float(np.sqrt(shares * (1 - shares) / rows).sum()) / 2
    return float(min(errors + np.sqrt(-np.log(chance) / (2 * rows)), 1.0))
