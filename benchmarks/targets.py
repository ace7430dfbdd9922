"""A ratio with its target, as a row of a table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

RATIOS = """
## Ratios

Taken within a round: median (lowest-highest).

| what | target | measured | met |
|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio, and what it should be.

    Attributes:
        what: in words.
        bound: `at least` when `above`, else `at most`.
        values: one a round.
        form: how a value is written.
    """

    what: str
    bound: float
    above: bool
    values: list[float]
    form: str = ".2f"

    def row(self) -> str:
        """A row of the table of targets."""
        sign = "≥" if self.above else "≤"
        if not self.values:
            return f"| {self.what} | {sign} {self.bound:g} | - | not measured |"
        found = statistics.median(self.values)
        met = found >= self.bound if self.above else found <= self.bound
        low, high = (f"{value:{self.form}}" for value in (min(self.values), max(self.values)))
        spread = f" ({low}-{high})" if len(self.values) > 1 else ""
        verdict = "yes" if met else "**no**"
        return f"| {self.what} | {sign} {self.bound:g} | {found:{self.form}}{spread} | {verdict} |"
