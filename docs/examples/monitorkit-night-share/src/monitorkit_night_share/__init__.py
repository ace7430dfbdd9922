"""The monitor `night_share`: how many of the predictions were made at night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitorkit import Chunk, Finding, Judgement, Monitor, Options, Timeline, hookimpl


class NightShareOptions(Options):
    """Night is from `from_hour` to `to_hour` UTC; a larger share than `at_most` is drift."""

    from_hour: int = Field(default=22, ge=0, le=23)
    to_hour: int = Field(default=6, ge=0, le=23)
    at_most: float = Field(default=0.5, ge=0, le=1)


@dataclass(frozen=True)
class Hours:
    """Rows per hour of the day."""

    rows: NDArray[np.int64]


class NightShare(Monitor[NightShareOptions, Hours]):
    """Finds `night_share` of the window."""

    options_type = NightShareOptions

    def summarise(self, chunk: Chunk) -> Hours:
        """Count rows per hour; those of a reference have no time."""
        known = chunk.times[~np.isnat(chunk.times)]
        hours = known.astype("datetime64[h]").astype(np.int64) % 24
        return Hours(np.bincount(hours, minlength=24).astype(np.int64))

    def merge(self, left: Hours, right: Hours) -> Hours:
        """Add up."""
        return Hours(left.rows + right.rows)

    def judge(self, timeline: Timeline[Hours], previous: Sequence[Finding]) -> Judgement:
        """Drift when the share is larger than `at_most`."""
        del previous
        hours = timeline.all()
        if hours is None or not hours.rows.sum():
            return Judgement([])
        begin, end = self.options.from_hour, self.options.to_hour
        of_day = np.arange(24)
        after, before = of_day >= begin, of_day < end
        night = (after | before) if begin > end else (after & before)
        share = float(hours.rows[night].sum() / hours.rows.sum())
        limit = self.options.at_most
        return Judgement([Finding("night_share", share, threshold=limit, drift=share > limit)])


@hookimpl
def monitorkit_monitors() -> Mapping[str, type[Monitor[Any, Any]]]:
    """Register the kind `night_share`."""
    return {"night_share": NightShare}
