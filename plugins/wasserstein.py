"""Drift by the Wasserstein distance in standard deviations of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from monitorkit import Chunk, Finding, Judgement, Monitor, Timeline, excluded, hookimpl
from monitorkit.counts import (
    ColumnCells,
    Counts,
    CountsMonitor,
    EffectOptions,
    ks_test,
)

SMALLEST_NORM = 0.001
"""A (nearly) constant reference is not divided by zero; Evidently's number."""


class WassersteinOptions(EffectOptions):
    """Options.

    Attributes:
        threshold: drift from this distance on, in standard deviations of the reference.
    """

    threshold: float = Field(default=0.1, gt=0)


def wasserstein_bounds(column: ColumnCells) -> tuple[float, float]:
    """Lower and upper bound of the first Wasserstein distance, in the column's own unit.

    The distance is the integral of abs(F - G), F the reference's distribution function and G the
    window's. In a gap F is flat and G rises by steps. Where they do not cross, the integral follows
    from the sum of distances; where they cross at a gap's only value, too. At a crossing among
    several values the integral lies between abs of the signed one and that of a G that jumps once.
    The bounds are therefore equal but for the few gaps in which F and G cross.

    Args:
        column: a column that can be compared.

    Returns:
        (lower, upper); beside them each value of the window is rounded by at most 2**-33 of its
        gap's width, or of the range's length (at least 1) when it lies outside. There, distances
        end at 2**30 lengths.

    References:
        S. Vallender, "Calculation of the Wasserstein distance between probability distributions on
        the line", Theory of Probability and Its Applications 18 (1974), 784-786.
    """
    rows = column.window_rows
    width = np.diff(column.known)
    inside = column.window[2:-1:2]
    # F - G right after the gap's left edge, and just before its right edge.
    before = np.cumsum(column.reference) / column.reference_rows
    after = np.cumsum(column.window) / rows
    left = (before - after)[1:-2:2]
    right = (before - after)[2:-1:2]
    signed = left * width - (inside * width - column.distances[2:-1:2]) / rows
    upper, lower = np.abs(signed), np.abs(signed)
    crossed = (left > 0) & (right < 0)
    high, low, wide = left[crossed], -right[crossed], width[crossed]
    jump = np.clip((signed[crossed] + low * wide) / (high + low), 0.0, wide)
    upper[crossed] = high * jump + low * (wide - jump)
    once = inside == 1
    lower[once] = upper[once]
    outside = float(column.distances[0] + column.distances[-1]) / rows
    return float(lower.sum()) + outside, float(upper.sum()) + outside


class Wasserstein(CountsMonitor[WassersteinOptions]):
    """Finds `wasserstein` per column: the distance over max(standard deviation, 0.001)."""

    options_type = WassersteinOptions

    def __init__(self, options: WassersteinOptions, reference: Chunk) -> None:
        super().__init__(options, reference)
        self._norms: dict[str, float] = {}
        for name, values in zip(
            self.cells.names, [*reference.features.T, reference.scores], strict=True
        ):
            finite = values[np.isfinite(values)]
            with np.errstate(over="ignore", invalid="ignore"):
                spread = float(np.std(finite)) if finite.size else 0.0
            # Without a score in data frames, a feature may be called as it.
            if finite.size or name not in self._norms:
                self._norms[name] = max(spread, SMALLEST_NORM)

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where the distance reaches the threshold and chance does not explain it.

        The value is the middle of its bounds; `interval` states them where they differ.
        """
        del previous
        columns, findings = self.comparable(timeline)
        measured: list[Finding] = []
        for column in columns:
            norm = self._norms[column.name]
            with np.errstate(over="ignore", invalid="ignore"):
                lower, upper = (bound / norm for bound in wasserstein_bounds(column))
            if not (np.isfinite(upper) and np.isfinite(norm)):
                findings.append(excluded(column.name, "its values are too large for a distance"))
                continue
            value = lower + (upper - lower) / 2
            _, p_value = ks_test(column)
            measured.append(
                Finding(
                    "wasserstein",
                    value,
                    column=column.name,
                    statistic="Wasserstein distance (normed)",
                    p_value=p_value,
                    threshold=self.options.threshold,
                    drift=value >= self.options.threshold
                    and self.options.beyond_chance(p_value, len(columns)),
                    interval=None if lower == upper else (lower, upper),
                    detail={
                        "p_value_of": "two-sample Kolmogorov-Smirnov test",
                        "norm": norm,
                        "rows": column.window_rows,
                        "reference_rows": column.reference_rows,
                    },
                )
            )
        return Judgement([*measured, *findings])


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `wasserstein`."""
    return {"wasserstein": Wasserstein}
