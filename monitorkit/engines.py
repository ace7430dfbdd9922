"""The ways to score rows with one estimator, and the checks that they all answer alike.

What takes long is the `plan`, which pickles; `build` makes the engines of it in the process that
serves. Another engine is one more function that makes an `Engine`, tried in `plan`.
"""

from __future__ import annotations

import functools
import math
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitorkit import compiled, estimators, probe_rows
from monitorkit.estimators import Unfit
from monitorkit.probe_rows import Scored
from monitorkit.schema import FeatureSchema

TOLERANCE = 1e-12  # BLAS may sum in another order for another memory layout: an ulp or two
BULK_ROWS = 1024
SAMPLE_ROWS = 16
SMALL_ROWS = 50
LARGE_ROWS = 256
"""A small and a large batch: `forest` takes the ways of few rows and of many."""
REFUSED_ROWS = 256
"""Rows that the estimator refuses, of which an engine may score none."""

ORDINARY = 10.0 ** max(probe_rows.MAGNITUDES)
"""Of smaller numbers random rows have shown whether a step leads them to where the estimator
refuses them. With a larger one scikit-learn looks at every number, which takes 0.1 ms."""

_here = threading.local()

Features = NDArray[np.float64]
"""(rows, columns) float64, NaN where missing."""
Scores = NDArray[np.float64]
"""(rows,) probability of the positive class."""
Input = Literal["numpy", "pandas"]
Cost = tuple[float, float]
"""Milliseconds that the first row of a call takes, and each further one."""

NOT_MEASURED: Cost = (5.0, 0.01)
"""Of scikit-learn on DataFrames, about; so much keeps it off the event loop."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to score rows.

    Attributes:
        name: as `/model/info` shows it: `one-tree`, `treelite` or `numpy` for what is compiled,
            `sklearn` for scikit-learn on arrays, `pandas` for scikit-learn on DataFrames.
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


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which engines serve an estimator, found out on many rows; pickles, with the estimator.

    Attributes:
        choice: the engine's name, and what the comparison with `predict_proba` found.
        arrays: whether scikit-learn takes arrays; the estimator has forgotten its column names.
        compiled: whether the engine is the estimator's arithmetic.
        few: what the engine costs.
        bulk: what scikit-learn itself costs; None when it is the engine, or never the faster one.
        rows: (rows, columns), some of those rows, on which engines must answer alike again.
        expected: (rows,) what `predict_proba` answers.
    """

    choice: Choice
    arrays: bool
    compiled: bool
    few: Cost
    bulk: Cost | None
    rows: Features
    expected: Scores


@dataclass(frozen=True, slots=True)
class Timed:
    """An engine, with the milliseconds that the first row of a call takes, and each further one."""

    engine: Engine
    first_row: float
    each_further_row: float

    def milliseconds(self, rows: int) -> float:
        """What scoring so many rows takes, about."""
        return self.first_row + self.each_further_row * (rows - 1)


@dataclass(frozen=True, slots=True)
class Scorer:
    """What scores a model's rows: an engine, and for many rows at once perhaps another one.

    Attributes:
        choice: the engine's name, and what the comparison with `predict_proba` found.
        few: the engine for less than `bulk_from` rows.
        bulk: for as many or more; the same one when it is the fastest for any number.
        bulk_from: rows.
    """

    choice: Choice
    few: Timed
    bulk: Timed
    bulk_from: float

    def scores(self, rows: Features) -> Scores:
        """P(positive) of (rows, columns), at least one row; thread-safe."""
        return self._timed(len(rows)).engine.scores(rows)

    def milliseconds(self, rows: int) -> float:
        """What scoring so many rows takes, about."""
        return self._timed(rows).milliseconds(rows)

    def _timed(self, rows: int) -> Timed:
        return self.few if rows < self.bulk_from else self.bulk


def as_fitted(estimator: Any, names: Sequence[str]) -> Engine:
    """scikit-learn as it comes, given what the estimator was fitted on: a DataFrame or an array."""
    if hasattr(estimator, "feature_names_in_"):
        return Engine("pandas", lambda rows: _positive(estimator, frame(rows, names)))
    return Engine("sklearn", lambda rows: _positive(estimator, rows))


def _compiled(estimator: Any, *, arrays: bool) -> Engine | None:
    """The estimator's arithmetic; where a part is not known, scikit-learn must take arrays."""
    made = compiled.compile_estimator(estimator)
    if made is None or not (made.complete or arrays):
        return None
    scores = _of_copies(made.scores)
    return Engine(made.name, scores if made.complete else _without_checks(scores))


def _of_copies(scores: Callable[[Features], Scores]) -> Callable[[Features], Scores]:
    """The same, which leaves rows as they are: some estimators write into what they are given.

    Others have still to see it: the log, a reference that is frozen, the next engine.
    """
    return lambda rows: scores(rows.copy())


def _unchecked(estimator: Any) -> Engine:
    """Array input without scikit-learn's checks of what was checked when the row came in.

    Large numbers are looked at again: a step may lead them to where its estimator refuses them.
    """
    return Engine("sklearn", _without_checks(lambda rows: _positive(estimator, rows)))


def _without_checks(scores: Callable[[Features], Scores]) -> Callable[[Features], Scores]:
    from sklearn import config_context  # noqa: PLC0415 - 1 s, when a model loads

    def unchecked(rows: Features) -> Scores:
        _use_one_thread()
        ordinary = not (np.abs(rows) > ORDINARY).any()
        with config_context(assume_finite=ordinary, skip_parameter_validation=True):
            return scores(rows)

    return unchecked


def plan(estimator: Any, fitted: Engine, found: Scored, *, arrays: bool) -> Plan:
    """Find the fastest engines that equal `predict_proba` on these rows.

    scikit-learn's checks are left out for speed, so an engine must refuse what they refuse: the
    logarithm of a negative number is NaN, for which a tree has an answer.

    Args:
        estimator: forgets its column names when it takes arrays.
        fitted: the slow engine that is right by definition.
        found: what it answers; without any row it serves itself.
        arrays: whether the estimator takes arrays at all.

    Raises:
        Unfit: what it answers are no probabilities.
    """
    rows, expected = found.rows, found.scores
    if not len(rows):
        choice = Choice(fitted.name, _not_compared(found.refusal))
        return Plan(choice, False, False, NOT_MEASURED, None, rows, expected)
    if not bool(np.all((expected >= 0) & (expected <= 1))):
        raise Unfit("its probabilities are not between 0 and 1", "Train it again.")
    reasons: list[str] = []

    def equal(make: Callable[[], Engine | None]) -> tuple[Engine, float] | None:
        try:
            engine = make()
            if engine is None:
                return None
            difference = _largest_difference(engine, rows, expected)
        except Exception as error:  # noqa: BLE001 - whatever a library raises: it does not serve
            reasons.append(f"{type(error).__name__}: {error}"[:300])
            return None
        if not difference <= TOLERANCE:
            reasons.append(f"{engine.name} differs by {difference:g}")
            return None
        if len(probe_rows.scored(engine.scores, found.refused[:REFUSED_ROWS]).rows):
            reasons.append(f"{engine.name} scores rows that predict_proba refuses")
            return None
        return engine, difference

    removed = estimators.strip_names(estimator) if arrays else []
    plain = equal(lambda: _unchecked(estimator)) if arrays else None
    if plain is None:
        estimators.restore_names(removed)
    fast = equal(lambda: _compiled(estimator, arrays=plain is not None))
    slow = plain or (fitted, 0.0)
    engine, difference = fast or slow
    sample = np.linspace(0, len(rows) - 1, min(SAMPLE_ROWS, len(rows))).astype(np.intp)
    return Plan(
        choice=Choice(engine.name, "; ".join(reasons) or None, difference),
        arrays=plain is not None,
        compiled=fast is not None,
        few=_cost(engine, rows, (SMALL_ROWS, BULK_ROWS)),
        # treelite goes row by row; scikit-learn is slow at first only.
        bulk=_cost(slow[0], rows, (BULK_ROWS,)) if engine.name == "treelite" else None,
        rows=rows[sample],
        expected=expected[sample],
    )


def build(estimator: Any, fitted: Engine, plan: Plan) -> Scorer:
    """The engines of a plan, compared with `predict_proba` once more, on a few rows.

    Args:
        estimator: as `plan` left it, in whichever process.
        fitted: as for `plan`.
        plan: what was found out.

    Raises:
        Unfit: they are not what the plan says, or answer otherwise.
    """
    slow = _unchecked(estimator) if plan.arrays else fitted
    engine = _compiled(estimator, arrays=plan.arrays) if plan.compiled else slow
    if engine is None or engine.name != plan.choice.name:
        raise _otherwise(f"{plan.choice.name} cannot be made of it")
    # Not scikit-learn behind it as well: `predict_proba` of a forest takes and gives back the
    # interpreter tree by tree, so fast that no other thread gets it for 10 ms.
    difference = _largest_difference(engine, plan.rows, plan.expected) if len(plan.rows) else 0.0
    if not difference <= TOLERANCE:
        raise _otherwise(f"{engine.name} differs by {difference:g}")
    choice = replace(plan.choice, max_difference=max(plan.choice.max_difference, difference))
    few = Timed(engine, *plan.few)
    bulk = Timed(slow, *plan.bulk) if plan.bulk else few
    return Scorer(choice, few, bulk, crossing(few, bulk))


def _difference(engine: Engine, rows: Features, expected: Scores) -> float:
    return float(np.max(np.abs(engine.scores(rows) - expected)))


def _largest_difference(engine: Engine, rows: Features, expected: Scores) -> float:
    """In a large batch, small ones, and of one row: an engine of ours may have ways of its own."""
    if engine.name in ("sklearn", "pandas"):  # it has one, and each call takes long
        return _difference(engine, rows, expected)
    many = max(LARGE_ROWS, len(rows))
    whole = _difference(engine, np.resize(rows, (many, rows.shape[1])), np.resize(expected, many))
    starts = range(0, len(rows), SMALL_ROWS)
    parts = [slice(start, start + SMALL_ROWS) for start in starts]
    # Of the few rows that a service looks at, one is enough: each call costs it some 0.1 ms.
    alone = range(0, len(rows), max(SAMPLE_ROWS, len(rows) // SAMPLE_ROWS))
    parts += [slice(row, row + 1) for row in alone]
    # NaN stays NaN, which is no equality.
    return float(np.max([whole, *(_difference(engine, rows[p], expected[p]) for p in parts)]))


def _otherwise(what: str) -> Unfit:
    return Unfit(
        f"{what}, which was not so where it was tried out",
        "Try again; when it stays so, log the model again.",
    )


def crossing(few: Timed, bulk: Timed) -> float:
    """The number of rows from which the other engine is faster; infinite when it never is."""
    gain = few.each_further_row - bulk.each_further_row
    if few is bulk or gain <= 0:
        return math.inf
    return max(1.0, 1 + math.ceil((bulk.first_row - few.first_row) / gain))


def compare_with_frame(estimator: Any, schema: FeatureSchema) -> Choice:
    """Whether arrays will do in place of the DataFrames that the model was fitted on.

    Raises:
        Exception: what the estimator raises when it was fitted on other columns, or when it is not
            about the values of the rows.
    """
    fitted = as_fitted(estimator, schema.names)
    nowhere = np.zeros(len(schema.names), dtype=bool)
    found = probe_rows.scored(fitted.scores, probe_rows.random(schema, nowhere))
    rows, expected = found.rows, found.scores
    if found.refusal and not len(rows) and not is_about_values(found, estimator, schema.names):
        raise found.refusal
    if fitted.name != "pandas":
        return Choice("numpy")
    if not len(rows):
        return Choice("pandas", _not_compared(found.refusal))
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


def _not_compared(refusal: Exception | None) -> str:
    return f"not compared: it scores no random row: {type(refusal).__name__}: {refusal}"[:300]


def is_about_values(found: Scored, estimator: Any, names: Sequence[str]) -> bool:
    """Whether an estimator that refuses random rows may score real ones.

    Of values scikit-learn raises ValueError, and also of other columns than it was fitted on.
    """
    fitted_on = getattr(estimator, "feature_names_in_", names)
    width = getattr(estimator, "n_features_in_", len(names))
    reads = [*fitted_on] == [*names] and width == len(names)
    return reads and isinstance(found.refusal, ValueError)


def labels_differ(estimator: Any, names: Sequence[str], rows: Features, expected: Scores) -> float:
    """The share of rows on which `predict` does not go by a probability above 0.5."""
    if not len(rows):
        return 0.0
    data = frame(rows, names) if hasattr(estimator, "feature_names_in_") else rows
    said = np.asarray(estimator.predict(data.copy())) == estimator.classes_[1]
    return float(np.mean(said != (expected > 0.5)))  # noqa: PLR2004


def _cost(engine: Engine, rows: Features, sizes: Sequence[int]) -> Cost:
    """Measure an engine: the median time of one row, and of each further one in larger batches.

    The best of some tries with each size, and the size with the dearest rows: `forest` has another
    way for few than for many.
    """
    first = statistics.median(_milliseconds(engine, rows[:1], 50))
    further = [
        (min(_milliseconds(engine, np.resize(rows, (size, rows.shape[1])), 3)) - first) / (size - 1)
        for size in sizes
    ]
    return first, max(0.0, *further)


def _milliseconds(engine: Engine, rows: Features, most: int) -> list[float]:
    """At least three times, and not much longer than a twentieth of a second."""
    times: list[float] = []
    deadline = time.perf_counter() + 0.05
    while len(times) < 3 or (len(times) < most and time.perf_counter() < deadline):  # noqa: PLR2004
        started = time.perf_counter()
        engine.scores(rows)
        times.append((time.perf_counter() - started) * 1000)
    return times


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
    mine = rows.copy()  # as in `_of_copies`
    return np.ascontiguousarray(estimator.predict_proba(mine)[:, 1], dtype=np.float64)
