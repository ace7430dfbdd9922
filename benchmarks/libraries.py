"""Detectors of other libraries, themselves: Evidently's tests, and river's ADWIN and KSWIN."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from river.drift import ADWIN, KSWIN

Floats = NDArray[np.float64]

EVIDENTLY_TESTS = ("wasserstein", "ks", "psi", "jensenshannon")
"""Its default for a reference of more than 1,000 rows, and its options, with their thresholds."""

RIVER: dict[str, Callable[..., Any]] = {"ADWIN": ADWIN, "KSWIN": lambda: KSWIN(seed=1)}
"""With their default parameters, or others."""

KSWIN_ROWS = 100
"""KSWIN knows no more rows than these."""


@cache
def _tests() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # inside of its dependencies
        from evidently.legacy.calculations import stattests  # noqa: PLC0415 - takes seconds
        from evidently.legacy.core import ColumnType  # noqa: PLC0415 - as above
    found = (
        stattests.wasserstein_stat_test,
        stattests.ks_stat_test,
        stattests.psi_stat_test,
        stattests.jensenshannon_stat_test,
    )
    return dict(zip(EVIDENTLY_TESTS, found, strict=True)) | {"number": ColumnType.Numerical}


def evidently(test: str, reference: Floats, window: Floats) -> tuple[float, bool]:
    """Score of a column's values, and whether Evidently calls them drifted."""
    known, now = (pd.Series(values[~np.isnan(values)]) for values in (reference, window))
    result = _tests()[test](known, now, _tests()["number"], None)
    return float(result.drift_score), bool(result.drifted)


def evidently_drifts(test: str, reference: Floats, window: Floats) -> bool:
    """Whether any of some columns (rows, columns) is called drifted."""
    columns = zip(reference.T, window.T, strict=True)
    return any(evidently(test, before, now)[1] for before, now in columns)


def river_alarm(detector: str, values: Floats, **parameters: float) -> int | None:
    """Rows until the first alarm of one column; None: there is none."""
    return _first(RIVER[detector](**parameters), values.tolist(), 0)


def river_delay(detector: str, before: Floats, after: Floats, **parameters: float) -> int | None:
    """Rows after a change until the first alarm; it has seen the rows before."""
    if detector == "KSWIN":
        before = before[-KSWIN_ROWS:]
    return _first(RIVER[detector](**parameters), [*before.tolist(), *after.tolist()], len(before))


def _first(detector: Any, values: Sequence[float], begin: int) -> int | None:
    for row, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected and row >= begin:
            return row - begin + 1
    return None


def ranks(reference: Floats, rows: Floats) -> Floats:
    """(rows, columns) shares of the reference that are below: ADWIN wants values up to 1.

    Missing values are left for NaN.
    """
    found = np.full(rows.shape, np.nan)
    for at, (before, now) in enumerate(zip(reference.T, rows.T, strict=True)):
        known, have = np.sort(before[~np.isnan(before)]), ~np.isnan(now)
        found[have, at] = np.searchsorted(known, now[have]) / known.size
    return found
