"""Data quality per feature: missing values, values outside the reference's range, unseen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from monitorkit import Finding, Judgement, Monitor, Timeline, excluded, hookimpl
from monitorkit.counts import ColumnCells, ColumnOptions, Counts, CountsMonitor

STANDARD_ERRORS = 3.0
"""A rise within so many standard errors may be chance: in 200 rows, 20 % missing can read 28 %."""


class MissingAndRangeOptions(ColumnOptions):
    """Options.

    Attributes:
        missing_rise: drift where the missing share rises by more, absolute (0.05: 5 points).
        out_of_range: drift where a larger share lies outside the reference's minimum and maximum.
        unseen: drift where a larger share has values that the reference never had.
        max_values: `unseen_share` is for columns with at most so many distinct reference values.
    """

    score: bool = False
    missing_rise: float = Field(default=0.05, ge=0, lt=1)
    out_of_range: float = Field(default=0.01, ge=0, lt=1)
    unseen: float = Field(default=0.01, ge=0, lt=1)
    max_values: int = Field(default=20, ge=1)


class MissingAndRange(CountsMonitor[MissingAndRangeOptions]):
    """Finds `missing_share`, `out_of_range_share` and `unseen_share` per feature."""

    options_type = MissingAndRangeOptions

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where a share is larger than its option allows; shares are exact."""
        del previous
        findings: list[Finding] = []
        for column in self.columns(timeline):
            findings.append(self._missing(column))
            if not column.known.size:
                findings.append(excluded(column.name, "no values in the reference"))
            elif not column.window_rows:
                findings.append(excluded(column.name, "no values in the window"))
            else:
                findings += self._unusual(column)
        return Judgement(findings)

    def _missing(self, column: ColumnCells) -> Finding:
        reference_rows = column.reference_rows + column.reference_missing
        rows = column.window_rows + column.window_missing
        before, now = column.reference_missing / reference_rows, column.window_missing / rows
        pooled = (column.reference_missing + column.window_missing) / (reference_rows + rows)
        error = float(np.sqrt(pooled * (1 - pooled) * (1 / reference_rows + 1 / rows)))
        return Finding(
            "missing_share",
            now,
            column=column.name,
            statistic="share of rows without a value",
            threshold=self.options.missing_rise,
            drift=now - before > max(self.options.missing_rise, STANDARD_ERRORS * error),
            detail={
                "compares": "rise above the reference",
                "reference": before,
                "standard_error": error,
                "rows": rows,
                "reference_rows": reference_rows,
            },
        )

    def _unusual(self, column: ColumnCells) -> list[Finding]:
        rows = column.window_rows
        minimum, maximum = float(column.known[0]), float(column.known[-1])
        outside = int(column.window[0] + column.window[-1]) / rows
        findings = [
            Finding(
                "out_of_range_share",
                outside,
                column=column.name,
                statistic="share of values outside the reference's range",
                threshold=self.options.out_of_range,
                drift=outside > self.options.out_of_range,
                detail={
                    "minimum": minimum,
                    "maximum": maximum,
                    "below": int(column.window[0]),
                    "above": int(column.window[-1]),
                    "rows": rows,
                },
            )
        ]
        if column.known.size <= self.options.max_values:
            unseen = int(column.window[::2].sum()) / rows
            findings.append(
                Finding(
                    "unseen_share",
                    unseen,
                    column=column.name,
                    statistic="share of values that the reference never had",
                    threshold=self.options.unseen,
                    drift=unseen > self.options.unseen,
                    detail={"distinct_values": int(column.known.size), "rows": rows},
                )
            )
        return findings


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `missing_and_range`."""
    return {"missing_and_range": MissingAndRange}
