"""What was counted of a window's buckets, kept from look to look: only new ones are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts
from monitorkit.sequential.bursts import Held, Repeats
from monitorkit.sequential.events import Events
from monitorkit.sequential.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    summary: Counts
    tally: NDArray[np.int64]
    held: Held


class Kept:
    """The tallies and repeats of the last window's buckets.

    Args:
        events: what is tallied.
        repeats: where repeated rows show.
    """

    def __init__(self, events: Events, repeats: Repeats) -> None:
        self._events, self._repeats = events, repeats
        self._kept: dict[int, _Counted] = {}

    def count(self, summaries: Sequence[Counts]) -> tuple[NDArray[np.int64], float | None]:
        """Of a window's buckets, one at least.

        Returns:
            (buckets, ...) tallies, and the design effect that repeated rows show.
        """
        new = [each for each in summaries if id(each) not in self._kept]
        if new:
            tallies = [self._events.tallies(table) for table in Table.runs(new)]
            for each, tally in zip(new, np.concatenate(tallies), strict=True):
                self._kept[id(each)] = _Counted(each, tally, self._repeats.held(each))
        # Their ids stay theirs, for the summaries are kept beside what was counted of them.
        window = [self._kept[id(each)] for each in summaries]
        self._kept = {id(each.summary): each for each in window}
        effect = self._repeats.design_effect([each.held for each in window])
        return np.stack([each.tally for each in window]), effect
