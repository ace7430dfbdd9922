"""What was counted of a window's buckets, kept from look to look as long as a bucket is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from monitorkit.cells import Counts
from monitorkit.sequential.crowding import Held, Repeated
from monitorkit.sequential.events import Events
from monitorkit.sequential.repeats import Repeats, WindowRepeats
from monitorkit.sequential.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class _OfBucket:
    """No views: they would keep what was counted of all buckets that were new with this one."""

    tally: NDArray[np.int64]
    repeated: Repeated


class Counted:
    """The tallies and the repeated rows of buckets.

    Most buckets of a window are those of the last look. What was counted of one goes with it: this
    keeps none of them alive, for there may be a monitor for each of many model versions.

    Args:
        events: what is tallied.
        repeats: where repeated rows show.
    """

    def __init__(self, events: Events, repeats: Repeats) -> None:
        self._events, self._repeats = events, repeats
        self._known: WeakKeyDictionary[Counts, _OfBucket] = WeakKeyDictionary()

    def of(self, window: Sequence[Counts]) -> tuple[NDArray[np.int64], WindowRepeats]:
        """Count what is new of a window's buckets, one at least.

        Returns:
            (buckets, ...) tallies, and how often rows repeat each other.
        """
        new = [each for each in window if each not in self._known]
        counted = (
            _OfBucket(tally.copy(), repeated)
            for table in Table.runs(new)
            for tally, repeated in zip(
                self._events.tallies(table), self._repeats.repeated(table), strict=True
            )
        )
        self._known.update(zip(new, counted, strict=True))
        known = [self._known[each] for each in window]
        held = [
            Held(of.repeated, cache(partial(self._repeats.cells, each)))
            for each, of in zip(window, known, strict=True)
        ]
        return np.stack([of.tally for of in known]), self._repeats.of(held)
