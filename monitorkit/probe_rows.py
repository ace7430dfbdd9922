"""The rows on which engines are compared: random ones, and which of some an estimator scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitorkit.schema import LARGEST, FeatureSchema

PROBE_ROWS = 256
MAGNITUDES = -2, 4
"""Of random values: the exponents of ten between which they are."""
MOST_FAILURES, FAILURES_A_ROW = 256, 1 / 16
"""Calls that may fail until no more rows are tried, at least: with a DataFrame, 1 s or two."""

Rows = NDArray[np.float64]
"""(rows, columns) float64, NaN where missing."""
Score = Callable[[Rows], NDArray[np.float64]]
"""P(positive) of (rows, columns), at least one row."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What an estimator answers to some rows.

    Attributes:
        rows: (rows, columns) those that it scores, in their order.
        scores: (rows,) its answers, all finite.
        refused: (others, columns) those on which it raises, or answers no finite number.
        refusal: why it refuses the first of these; None when there are none.
    """

    rows: Rows
    scores: NDArray[np.float64]
    refused: Rows
    refusal: Exception | None

    def __add__(self, other: Scored) -> Scored:
        """These rows, then those."""
        return Scored(
            np.vstack((self.rows, other.rows)),
            np.concatenate((self.scores, other.scores)),
            np.vstack((self.refused, other.refused)),
            self.refusal or other.refusal,
        )


def random(schema: FeatureSchema, may_be_missing: NDArray[np.bool_]) -> Rows:
    """Rows of many magnitudes within the schema's bounds, some values missing; always the same.

    Args:
        schema: of the columns.
        may_be_missing: (columns,) where.
    """
    generator = np.random.default_rng(0)
    columns = []
    for feature, may_miss in zip(schema.features, may_be_missing, strict=True):
        sign = np.where(generator.random(PROBE_ROWS) < 0.2, -1, 1)  # noqa: PLR2004
        column = sign * 10.0 ** generator.uniform(*MAGNITUDES, PROBE_ROWS)
        column[generator.random(PROBE_ROWS) < 0.1] = 0  # noqa: PLR2004
        column[generator.random(PROBE_ROWS) < 0.02] = -1  # noqa: PLR2004 - log(1 + x) is infinite
        if feature.type == "integer":
            column = np.round(column)
        low = -np.inf if feature.minimum is None else feature.minimum
        high = np.inf if feature.maximum is None else feature.maximum
        column = np.clip(column, low, high)
        if may_miss:
            column[1:][generator.random(PROBE_ROWS - 1) < 0.05] = np.nan  # noqa: PLR2004
        columns.append(column)
    return np.column_stack(columns)


def scored(score: Score, rows: Rows) -> Scored:
    """Score rows all at once, and in ever smaller parts where that fails.

    An encoder knows the categories that it was fitted on, and a logarithm takes no negative number:
    such an estimator refuses some rows of its schema, and scores the others well.

    Args:
        score: of the estimator, as it was fitted.
        rows: (rows, columns); after too many failures the last of them are not tried.
    """
    scores = np.full(len(rows), np.nan)
    tried = np.zeros(len(rows), dtype=bool)
    waiting = [(0, len(rows))] if len(rows) else []
    failures, most = 0, max(MOST_FAILURES, FAILURES_A_ROW * len(rows))
    refusal: Exception | None = None
    while waiting and failures < most:
        start, end = waiting.pop()
        try:
            scores[start:end] = score(rows[start:end])
        except Exception as error:  # noqa: BLE001 - whatever a step raises of a value
            failures += 1
            if end - start > 1:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
                continue
            refusal = refusal or error
        tried[start:end] = True
    kept = np.isfinite(scores)
    refused = rows[tried & ~kept]
    if refusal is None and len(refused):
        refusal = ArithmeticError(
            f"its score is {scores[tried & ~kept][0]}, which is no probability"
        )
    return Scored(rows[kept], scores[kept], refused, refusal)


def accepts_missing(score: Score, row: Rows) -> NDArray[np.bool_]:
    """(columns,) whether the model takes NaN there: at first tried everywhere at once.

    Args:
        score: of the estimator, as it was fitted.
        row: (1, columns) without a missing value, which it scores.
    """

    def takes(some: Rows) -> bool:
        try:
            return bool(np.isfinite(score(some)).all())
        except (ValueError, TypeError):
            return False

    width = row.shape[1]
    if takes(np.full((1, width), np.nan)):
        return np.ones(width, dtype=bool)
    rows = np.repeat(row, width, axis=0)
    np.fill_diagonal(rows, np.nan)
    return np.array([takes(rows[i : i + 1]) for i in range(width)])


def tried(
    score: Score, schema: FeatureSchema, given: Rows | None
) -> tuple[NDArray[np.bool_], Scored, Scored]:
    """Where an estimator takes NaN, and what it answers to given rows and to random ones.

    Args:
        score: of the estimator, as it was fitted.
        schema: of the rows.
        given: (rows, columns) such as the reference; those that no request may hold are left out.
    """
    accepts = np.zeros(len(schema.names), dtype=bool)
    rows = np.empty((0, len(accepts))) if given is None else given
    unlikely = scored(score, random(schema, accepts))
    known = unlikely.rows
    if not len(known):
        known = scored(score, rows[_possible(rows, accepts)][:PROBE_ROWS]).rows
    if len(known):
        accepts = accepts_missing(score, known[:1])
    if accepts.any():
        unlikely = scored(score, random(schema, accepts))
    return accepts, scored(score, rows[_possible(rows, accepts)]), unlikely


def _possible(rows: Rows, may_be_missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(rows,) whether a request may hold these values.

    Args:
        rows: (rows, columns) NaN where missing.
        may_be_missing: (columns,) where the model takes that.
    """
    fits = np.where(np.isnan(rows), may_be_missing, np.abs(rows) <= LARGEST)
    return np.asarray(fits.all(axis=1))
