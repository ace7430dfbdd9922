"""Drift of columns with few distinct values, by Pearson's chi-square test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit import Finding, Judgement, Monitor, Timeline, excluded, hookimpl
from monitorkit.counts import ColumnOptions, Counts, CountsMonitor, chi_square_test


class ChiSquareOptions(ColumnOptions):
    """Options.

    Attributes:
        max_values: columns with more distinct values in the reference are left out.
        false_alarm_rate: chance of any false alarm in one cycle, over all columns (Bonferroni).
        min_expected: categories with a smaller expected count are pooled into one; 0: never.
    """

    max_values: int = Field(default=20, ge=1)
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=1)
    min_expected: float = Field(default=5.0, ge=0)


def pool_rare(
    reference: NDArray[np.int64], window: NDArray[np.int64], min_expected: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Pool the categories for which the test's approximation does not hold.

    A single row of a value that is seen once in a thousand would otherwise be an alarm. The pool
    itself joins the smallest other category when it is rare both as expected and as seen.

    Args:
        reference: (categories,) rows of the reference.
        window: (categories,) rows of the window.
        min_expected: rows that each category must be expected to have in the smaller sample.

    Returns:
        Both with the pool last, and how many categories went into it.

    References:
        W. Cochran, "Some methods for strengthening the common chi-square tests", Biometrics 10
        (1954), 417-451.
    """
    both = reference + window
    share = min(reference.sum(), window.sum()) / both.sum()
    rare = both * share < min_expected
    if not rare.any():
        return reference, window, 0
    pools = [int(counts[rare].sum()) for counts in (reference, window)]
    kept = [counts[~rare] for counts in (reference, window)]
    expected = sum(pools) * share
    if kept[0].size and max(expected, *pools) < min_expected:
        smallest = int(np.argmin(kept[0] + kept[1]))
        for counts, pool in zip(kept, pools, strict=True):
            counts[smallest] += pool
    else:
        kept = [np.append(counts, pool) for counts, pool in zip(kept, pools, strict=True)]
    return kept[0], kept[1], int(np.count_nonzero(both[rare]))


class ChiSquare(CountsMonitor[ChiSquareOptions]):
    """Finds `chi_square` per column; values never seen in the reference are one more category."""

    options_type = ChiSquareOptions

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where the p-value is below the column's share of the false alarm rate."""
        del previous
        comparable, findings = self.comparable(timeline)
        columns = [c for c in comparable if c.known.size <= self.options.max_values]
        many = f"more than {self.options.max_values} distinct values in the reference"
        findings += [excluded(c.name, many) for c in comparable if c not in columns]
        measured: list[Finding] = []
        for column in columns:
            unseen = int(column.window[::2].sum())
            reference, window, pooled = pool_rare(
                np.append(column.reference[1::2], column.reference[::2].sum()),
                np.append(column.window[1::2], unseen),
                self.options.min_expected,
            )
            value, p_value, freedom = chi_square_test(reference, window)
            threshold = self.options.false_alarm_rate / len(columns)
            measured.append(
                Finding(
                    "chi_square",
                    value,
                    column=column.name,
                    statistic="chi-square, two samples",
                    p_value=p_value,
                    threshold=threshold,
                    drift=p_value < threshold,
                    detail={
                        "compares": "p_value",
                        "degrees_of_freedom": freedom,
                        "pooled_categories": pooled,
                        "unseen_rows": unseen,
                        "rows": column.window_rows,
                        "reference_rows": column.reference_rows,
                    },
                )
            )
        return Judgement([*measured, *findings])


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `chi_square`."""
    return {"chi_square": ChiSquare}
