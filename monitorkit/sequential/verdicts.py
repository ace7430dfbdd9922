"""What is said of a measure: the verdict, how sure it is, and how many rows it still takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import ColumnCells
from monitorkit.sequential.events import FEW_VALUES, Measure
from monitorkit.sequential.evidence import log_evidence_above

Verdict = Literal["stable", "drifted", "undecided"]

_BISECTIONS = 20
_ERRORS = 3.0  # standard errors that chance explains
_SLACK = 2.0
"""Natural logarithm of what the mixture costs, about, when rows that are still needed are told."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the rule says of one measure of one column.

    Attributes:
        column: its position in `ReferenceCells.names`.
        measure: see `events.Measure`.
        verdict: drifted: the tolerance is exceeded; stable: it is not; undecided: too few rows.
        since: from when on the rows were looked at: of a drift, where its evidence is strongest.
        rows: since then. `effective`: how many independent ones they are worth.
        value: the distance, the share (of the event that left its tolerance most), or the shift
            that has most evidence, in the column's units.
        reference: the share in the reference; 0 for a distance or a shift.
        lowest, highest: what is near enough; 0 for a shift, which has no limit of its own.
        interval: of a distance or a share: the lower end of a distance is as sure as a drift.
        event: which share it is; empty for a distance or a shift.
        log10_evidence: of a drift; from `log10_needed` on it is one.
        rows_needed: of an undecided one, about: until a verdict, if rows go on like this.
    """

    column: int
    measure: Measure
    verdict: Verdict
    since: datetime
    rows: int
    effective: float
    value: float
    reference: float
    lowest: float
    highest: float
    interval: tuple[float, float] | None
    event: str
    log10_evidence: float
    log10_needed: float
    rows_needed: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """All that the rule sees at one moment.

    Attributes:
        judged: by column and measure; empty when there is no start with rows.
        design_effect: so many rows are worth one independent one. `estimated`: from the window;
            else there is too little of it, and `ASSUMED_DESIGN_EFFECT` is taken.
        columns: the cells of the rows that each column's distance was measured on.
    """

    judged: Sequence[Judged]
    design_effect: float
    estimated: bool
    columns: Mapping[int, ColumnCells]


def distance(cells: ColumnCells) -> float:
    """Total variation of a column of few values, Kolmogorov and Smirnov's distance of others.

    Exact. What lies between the values of the former is one more value.
    """
    if not cells.window_rows or not cells.reference_rows:
        return 0.0
    apart = cells.window / cells.window_rows - cells.reference / cells.reference_rows
    if cells.known.size <= FEW_VALUES:
        between = float(apart[::2].sum())
        return (float(np.abs(apart[1::2]).sum()) + abs(between)) / 2
    return float(np.abs(np.cumsum(apart)).max())


def rows_for_drift(
    rows: float, value: float, tolerance: float, log10_needed: float
) -> float | None:
    """About so many show a distance beyond the tolerance, where it is one of middle ranks."""
    if value <= tolerance:
        return None
    needed = log10_needed * np.log(10) + _SLACK
    return float(max(needed / (2 * (value - tolerance) ** 2), rows + 1))


def rows_for_stable(rows: float, is_stable: Callable[[float], bool]) -> float | None:
    """The smallest number of rows that shows that nothing drifted; None: no number does."""
    most = max(rows, 1.0)
    while not is_stable(most):
        most *= 2
        if most > 1e12:  # noqa: PLR2004 - nobody waits for so many
            return None
    least = most / 2
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        least, most = (least, middle) if is_stable(middle) else (middle, most)
    return most


def rows_at(value: float, limit: float, nats: float) -> float:
    """About so many rows with this share are evidence against a share at the limit, another one."""
    gain = 0.0
    for share, of in ((value, limit), (1 - value, 1 - limit)):
        gain += share * float(np.log(share / of)) if share > 0 else 0.0
    return (nats + _SLACK) / gain


def without_chance(cells: ColumnCells, value: float, rows: float) -> float:
    """What is left of a distance without what chance makes of so many rows.

    At least what it makes of as many as the reference has.

    References:
        The mean square of Kolmogorov's limiting distribution is pi^2 / 12; that of the total
        variation of k equally frequent values is about k / (8 rows).
    """
    values = cells.known.size
    square = values / 8 if values <= FEW_VALUES else np.pi**2 / 12
    left = max(value**2 - square / max(rows, 1.0), square / max(cells.reference_rows, 1))
    return float(np.sqrt(left))


def share_without_chance(share: float, reference: float, rows: float) -> float:
    """The reference's share, where chance explains the difference; else the share."""
    error = np.sqrt(max(reference * (1 - reference), 1 / max(rows, 1.0)) / max(rows, 1.0))
    return reference if abs(share - reference) <= _ERRORS * error else share


def share_intervals(
    successes: NDArray[np.float64], trials: NDArray[np.float64], sure: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares against which there is not so much evidence, at any time."""
    with np.errstate(invalid="ignore"):
        shares = np.where(trials > 0, successes / trials, 0.5)
    # Both ends at once: the upper one is the lower one of the rows without the property.
    have = np.stack((successes, trials - successes))
    inner, outer = np.stack((shares, 1 - shares)), np.zeros(have.shape)
    for _ in range(_BISECTIONS):
        middle = (inner + outer) / 2
        beyond = log_evidence_above(have, trials, middle) >= sure
        inner, outer = np.where(beyond, inner, middle), np.where(beyond, middle, outer)
    return outer[0], 1 - outer[1]
