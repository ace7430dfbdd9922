"""Drift by the exact two-sample Kolmogorov-Smirnov test, per feature and on the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from monitorkit import Finding, Judgement, Monitor, Timeline, hookimpl
from monitorkit.counts import ColumnOptions, Counts, CountsMonitor, ks_test


class KsOptions(ColumnOptions):
    """Options.

    Attributes:
        false_alarm_rate: chance of any false alarm in one cycle, over all columns (Bonferroni).
    """

    false_alarm_rate: float = Field(default=0.01, gt=0, lt=1)


class Ks(CountsMonitor[KsOptions]):
    """Finds `ks` per column: D, exact, with the asymptotic p-value (see `counts.ks_test`)."""

    options_type = KsOptions

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where the p-value is below the column's share of the false alarm rate."""
        del previous
        columns, findings = self.comparable(timeline)
        measured: list[Finding] = []
        for column in columns:
            statistic, p_value = ks_test(column)
            threshold = self.options.false_alarm_rate / len(columns)
            measured.append(
                Finding(
                    "ks",
                    statistic,
                    column=column.name,
                    statistic="two-sample Kolmogorov-Smirnov",
                    p_value=p_value,
                    threshold=threshold,
                    drift=p_value < threshold,
                    detail={
                        "compares": "p_value",
                        "rows": column.window_rows,
                        "reference_rows": column.reference_rows,
                    },
                )
            )
        return Judgement([*measured, *findings])


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `ks`."""
    return {"ks": Ks}
