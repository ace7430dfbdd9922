"""Findings beside scipy's and numpy's answers on the raw rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp

from monitorkit import config
from monitorkit.contracts import Finding
from monitorkit.results import Results

Values = NDArray[np.float64]


def differences(file: Path) -> dict[str, float]:
    """The largest difference over all features, p-values included, for each statistic.

    Args:
        file: the configuration, whose newest result is compared with its log.
    """
    storage = config.load(file).storage
    result = Results(storage.results).latest()
    if result is None:
        raise ValueError(f"{storage.results} holds no result")
    frozen = _read(storage.reference / "reference_data.csv")
    features = list(frozen.columns)
    rows = pd.concat(
        _read(path, features) for path in sorted(storage.predictions.glob("predictions*.csv"))
    )
    found: dict[str, float] = {}
    for outcome in result.outcomes:
        for finding in outcome.findings:
            if finding.measure not in COMPARED or finding.column not in features:
                continue
            before = frozen[finding.column].dropna().to_numpy()
            now = rows[finding.column].dropna().to_numpy()
            expected = COMPARED[finding.measure](before, now, finding)
            measured = (finding.value, finding.p_value)[: len(expected)]
            apart = np.abs(np.array(measured, dtype=np.float64) - expected).max()
            found[finding.measure] = max(found.get(finding.measure, 0.0), float(apart))
    missing = sorted(set(COMPARED) - set(found))
    if missing:
        raise ValueError(f"the result has no {', '.join(missing)}")
    return found


def kolmogorov_smirnov(before: Values, now: Values, _: Finding) -> tuple[float, ...]:
    """The statistic and p-value of scipy."""
    test: Any = ks_2samp(before, now, method="asymp")
    return float(test.statistic), float(test.pvalue)


def chi_square(before: Values, now: Values, _: Finding) -> tuple[float, ...]:
    """Scipy's statistic and p-value; all values that the reference lacks are one category."""
    values, expected = np.unique(before, return_counts=True)
    known = now[np.isin(now, values)]
    counts = [int(np.count_nonzero(known == value)) for value in values]
    table = np.array([[*expected, 0], [*counts, len(now) - len(known)]])
    test: Any = chi2_contingency(table[:, table.sum(axis=0) > 0], correction=False)
    return float(test.statistic), float(test.pvalue)


def population_stability(before: Values, now: Values, finding: Finding) -> tuple[float, ...]:
    """The sum of (q - p) ln(q / p); an empty bin counts as half a row."""
    p, q = _shares(before, now, finding, least=0.5)
    return (float(np.sum((q - p) * np.log(q / p))),)


def jensen_shannon(before: Values, now: Values, finding: Finding) -> tuple[float, ...]:
    """The distance of scipy."""
    return (float(jensenshannon(*_shares(before, now, finding), base=2)),)


COMPARED = {
    "ks": kolmogorov_smirnov,
    "chi_square": chi_square,
    "psi": population_stability,
    "jensen_shannon": jensen_shannon,
}


def quantile_cuts(before: Values, bins: int) -> tuple[Values, Values]:
    """Where bins of about equal shares of the reference end.

    A bin ends at the smallest value with at least j/bins of the rows at or below it; a value with
    more than 1/bins of all rows has a bin of its own.

    Returns:
        The values after which a bin ends, and those before which one does.
    """
    ordered = np.sort(before)
    ranks = -(-np.arange(1, bins) * len(ordered) // bins) - 1
    values, counts = np.unique(ordered, return_counts=True)
    heavy = values[counts * bins > len(ordered)]
    ends = ordered[ranks]
    return np.union1d(ends[ends < ordered[-1]], heavy), heavy


def _shares(
    before: Values, now: Values, finding: Finding, least: float = 0.0
) -> tuple[Values, Values]:
    """Each bin's share of the reference and of the rows, bins that are empty in both left out."""
    bins = 10
    after, ahead = quantile_cuts(before, bins)
    edges = finding.detail["edges"]
    if not isinstance(edges, list) or not np.array_equal(np.union1d(after, ahead), edges):
        raise ValueError(f"{finding.column} was cut at {edges}, not at {after}")
    p, q = (
        np.bincount(
            np.searchsorted(after, values, side="left")
            + np.searchsorted(ahead, values, side="right"),
            minlength=len(after) + len(ahead) + 1,
        )
        for values in (before, now)
    )
    there = p + q > 0
    return (
        np.maximum(p[there], least) / p.sum(),
        np.maximum(q[there], least) / q.sum(),
    )


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """To the last bit: pandas' own parser is a little faster and a little off."""
    return pd.read_csv(path, usecols=columns, dtype=np.float64, float_precision="round_trip")
