"""Drift by the population stability index over quantile bins of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit import Finding, Judgement, Monitor, Timeline, hookimpl
from monitorkit.counts import (
    Counts,
    CountsMonitor,
    EffectOptions,
    chi_square_test,
    quantile_bins,
)

EMPTY_BIN_ROWS = 0.5
"""An empty bin counts as half a row; its logarithm would be infinite."""


class PsiOptions(EffectOptions):
    """Options.

    Attributes:
        bins: quantile bins of the reference.
        threshold: drift from this index on; 0.1 to 0.2 is usually read as a moderate shift.
    """

    bins: int = Field(default=10, ge=2, le=1000)
    threshold: float = Field(default=0.2, gt=0)


def population_stability_index(reference: NDArray[np.int64], window: NDArray[np.int64]) -> float:
    """Sum over bins of (q - p) ln(q / p), p and q the bin's shares; exact for the given counts.

    Args:
        reference: (bins,) rows of the reference, with a positive sum.
        window: (bins,) rows of the window, with a positive sum; a bin that is empty on one side
            counts as half a row there, one that is empty on both is left out.

    References:
        N. Siddiqi, "Credit Risk Scorecards", Wiley (2006). It is Jeffreys' divergence: H. Jeffreys,
        Proceedings of the Royal Society A 186 (1946), 453-461.
    """
    there = reference + window > 0
    p = np.maximum(reference[there], EMPTY_BIN_ROWS) / reference.sum()
    q = np.maximum(window[there], EMPTY_BIN_ROWS) / window.sum()
    return float(np.sum((q - p) * np.log(q / p)))


class Psi(CountsMonitor[PsiOptions]):
    """Finds `psi` per column."""

    options_type = PsiOptions

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where the index reaches the threshold and chance does not explain it."""
        del previous
        columns, findings = self.comparable(timeline)
        measured: list[Finding] = []
        for column in columns:
            reference, window, edges = quantile_bins(column, self.options.bins)
            value = population_stability_index(reference, window)
            _, p_value, _ = chi_square_test(reference, window)
            measured.append(
                Finding(
                    "psi",
                    value,
                    column=column.name,
                    statistic="population stability index",
                    p_value=p_value,
                    threshold=self.options.threshold,
                    drift=value >= self.options.threshold
                    and self.options.beyond_chance(p_value, len(columns)),
                    detail={
                        "edges": edges,
                        "p_value_of": "chi-square test over the bins",
                        "rows": column.window_rows,
                        "reference_rows": column.reference_rows,
                    },
                )
            )
        return Judgement([*measured, *findings])


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `psi`."""
    return {"psi": Psi}
