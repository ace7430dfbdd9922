"""The ways to score rows with one estimator, and the checks that they all answer alike.

Another engine is one more function that makes an `Engine`, tried in `choose`.
"""

from __future__ import annotations

import functools
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitorkit import estimators
from monitorkit.estimators import Unfit
from monitorkit.schema import FeatureSchema

TOLERANCE = 1e-12  # BLAS may sum in another order for another memory layout: an ulp or two
PROBE_ROWS = 256

_here = threading.local()

Features = NDArray[np.float64]
"""(rows, columns) float64, NaN where missing."""
Scores = NDArray[np.float64]
"""(rows,) probability of the positive class."""
Input = Literal["numpy", "pandas"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to score rows.

    Attributes:
        name: as `/model/info` shows it.
        scores: P(positive) of (rows, columns), at least one row; thread-safe.
    """

    name: str
    scores: Callable[[Features], Scores]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, why it is not the fastest, and the largest difference seen."""

    name: str
    reason: str | None = None
    max_difference: float = 0.0


def as_fitted(estimator: Any, names: Sequence[str]) -> Engine:
    """scikit-learn as it comes, given what the estimator was fitted on: a DataFrame or an array."""
    if hasattr(estimator, "feature_names_in_"):
        return Engine("pandas", lambda rows: _positive(estimator, frame(rows, names)))
    return Engine("numpy", lambda rows: _positive(estimator, rows))


def unchecked(estimator: Any) -> Engine:
    """Array input without scikit-learn's checks of what was checked when the row came in."""
    from sklearn import config_context  # noqa: PLC0415 - 1 s, when a model loads

    def scores(rows: Features) -> Scores:
        with config_context(assume_finite=True, skip_parameter_validation=True):
            return _positive(estimator, rows)

    return Engine("numpy", scores)


def choose(
    estimator: Any, fitted: Engine, expected: Scores, rows: Features, *, arrays: bool
) -> tuple[Engine, Choice]:
    """The fastest engine that equals `predict_proba` on these rows.

    Args:
        estimator: forgets its column names when an engine that takes arrays is chosen.
        fitted: the slow engine that is right by definition.
        expected: (rows,) what it answers.
        rows: (rows, columns).
        arrays: whether the estimator takes arrays at all.

    Raises:
        Unfit: what it answers are no probabilities.
    """
    if not len(rows) or not arrays:
        return fitted, Choice(fitted.name, None if len(rows) else "no rows to compare engines on")
    if not bool(np.all((expected >= 0) & (expected <= 1))):
        raise Unfit("its probabilities are not between 0 and 1", "Train it again.")
    removed = estimators.strip_names(estimator)
    reason = None
    for engine in (unchecked(estimator),):
        difference = float(np.max(np.abs(engine.scores(rows) - expected)))
        if difference <= TOLERANCE:
            return engine, Choice(engine.name, reason, difference)
        reason = f"{engine.name} differs by {difference:g}"
    estimators.restore_names(removed)
    return fitted, Choice(fitted.name, reason)


def compare_with_frame(estimator: Any, schema: FeatureSchema) -> Choice:
    """Whether arrays will do in place of the DataFrames that the model was fitted on.

    Raises:
        Exception: whatever the estimator raises when it cannot score rows of its schema at all.
    """
    rows = random_rows(schema, np.zeros(len(schema.names), dtype=bool))
    fitted = as_fitted(estimator, schema.names)
    expected = fitted.scores(rows)
    if fitted.name == "numpy":
        return Choice("numpy")
    removed = estimators.strip_names(estimator)
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            difference = float(np.max(np.abs(_positive(estimator, rows) - expected)))
    except Exception as error:  # noqa: BLE001 - whatever a step raises that wants names
        return Choice("pandas", f"array input: {type(error).__name__}: {error}"[:300])
    finally:
        estimators.restore_names(removed)
    wanted = [str(w.message) for w in raised if "feature names" in str(w.message)]
    if wanted:
        return Choice("pandas", f"array input: {wanted[0]}"[:300])
    if not difference <= TOLERANCE:
        return Choice("pandas", f"array input differs by {difference:g}")
    return Choice("numpy", None, difference)


def labels_differ(estimator: Any, names: Sequence[str], rows: Features, expected: Scores) -> float:
    """The share of rows on which `predict` does not go by a probability above 0.5."""
    if not len(rows):
        return 0.0
    data = frame(rows, names) if hasattr(estimator, "feature_names_in_") else rows
    said = np.asarray(estimator.predict(data)) == estimator.classes_[1]
    return float(np.mean(said != (expected > 0.5)))  # noqa: PLR2004


def accepts_missing(fitted: Engine, width: int) -> NDArray[np.bool_]:
    """(columns,) whether the model takes NaN there: at first tried everywhere at once."""

    def takes(row: Features) -> bool:
        try:
            return bool(np.isfinite(fitted.scores(row)).all())
        except (ValueError, TypeError):
            return False

    if takes(np.full((1, width), np.nan)):
        return np.ones(width, dtype=bool)
    rows = np.zeros((width, width))
    np.fill_diagonal(rows, np.nan)
    return np.array([takes(rows[i : i + 1]) for i in range(width)])


def random_rows(schema: FeatureSchema, may_be_missing: NDArray[np.bool_]) -> Features:
    """Rows of many magnitudes within the schema's bounds, some values missing; always the same."""
    random = np.random.default_rng(0)
    columns = []
    for feature, may_miss in zip(schema.features, may_be_missing, strict=True):
        sign = np.where(random.random(PROBE_ROWS) < 0.2, -1, 1)  # noqa: PLR2004
        column = sign * 10.0 ** random.uniform(-2, 4, PROBE_ROWS)
        column[random.random(PROBE_ROWS) < 0.1] = 0  # noqa: PLR2004
        if feature.type == "integer":
            column = np.round(column)
        low = -np.inf if feature.minimum is None else feature.minimum
        high = np.inf if feature.maximum is None else feature.maximum
        column = np.clip(column, low, high)
        if may_miss:
            column[1:][random.random(PROBE_ROWS - 1) < 0.05] = np.nan  # noqa: PLR2004
        columns.append(column)
    return np.column_stack(columns)


def milliseconds(engine: Engine, row: Features) -> float:
    """The median time of scoring one row, from a tenth of a second of trying."""
    times: list[float] = []
    deadline = time.perf_counter() + 0.1
    while len(times) < 3 or (len(times) < 50 and time.perf_counter() < deadline):  # noqa: PLR2004
        started = time.perf_counter()
        engine.scores(row)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def frame(rows: Features, names: Sequence[str]) -> Any:
    """The rows as a DataFrame with these columns."""
    import pandas as pd  # noqa: PLC0415 - scikit-learn imports it too, when a model loads

    return pd.DataFrame(rows, columns=list(names))


@functools.cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - comes with scikit-learn

    return ThreadpoolController()


def _use_one_thread() -> None:
    """OpenMP's limit is the calling thread's own, so each thread sets it, once.

    Boosted trees would otherwise wake a team of threads for each row: 0.2 ms more, and 100 ms where
    another process has the other core.
    """
    if not getattr(_here, "is_limited", False):
        _thread_pools().limit(limits=1, user_api="openmp")
        _here.is_limited = True


def _positive(estimator: Any, rows: Any) -> Scores:
    _use_one_thread()
    return np.ascontiguousarray(estimator.predict_proba(rows)[:, 1], dtype=np.float64)
