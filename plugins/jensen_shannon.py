"""Drift by the Jensen-Shannon distance over quantile bins of the reference."""

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


class JensenShannonOptions(EffectOptions):
    """Options.

    Attributes:
        bins: quantile bins of the reference.
        threshold: drift from this distance on, in [0, 1].
    """

    bins: int = Field(default=10, ge=2, le=1000)
    threshold: float = Field(default=0.1, gt=0, le=1)


def jensen_shannon_distance(reference: NDArray[np.int64], window: NDArray[np.int64]) -> float:
    """Square root of the Jensen-Shannon divergence in bits: 0 for equal shares, 1 for disjoint.

    Args:
        reference: (bins,) rows of the reference, with a positive sum.
        window: (bins,) rows of the window, with a positive sum.

    References:
        J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information
        Theory 37 (1991), 145-151. Equals `scipy.spatial.distance.jensenshannon(p, q, base=2)`.
    """
    p, q = reference / reference.sum(), window / window.sum()
    middle = (p + q) / 2
    divergence = 0.0
    for shares in (p, q):
        there = shares > 0
        divergence += float(np.sum(shares[there] * np.log2(shares[there] / middle[there]))) / 2
    # Rounding leaves equal shares a hair on either side of zero.
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


class JensenShannon(CountsMonitor[JensenShannonOptions]):
    """Finds `jensen_shannon` per column."""

    options_type = JensenShannonOptions

    def judge(self, timeline: Timeline[Counts], previous: Sequence[Finding]) -> Judgement:
        """Drift where the distance reaches the threshold and chance does not explain it."""
        del previous
        columns, findings = self.comparable(timeline)
        measured: list[Finding] = []
        for column in columns:
            reference, window, edges = quantile_bins(column, self.options.bins)
            value = jensen_shannon_distance(reference, window)
            _, p_value, _ = chi_square_test(reference, window)
            measured.append(
                Finding(
                    "jensen_shannon",
                    value,
                    column=column.name,
                    statistic="Jensen-Shannon distance (base 2)",
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
    """Register the kind `jensen_shannon`."""
    return {"jensen_shannon": JensenShannon}
