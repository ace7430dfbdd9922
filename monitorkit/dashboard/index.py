"""What all results come to, each file read once: newest first, in a thread, in small helpings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from monitorkit.contracts import RunResult
from monitorkit.dashboard.outlines import (
    MISSING,
    OVER_TIME,
    Columns,
    Outline,
    primary,
    verdict,
)
from monitorkit.dashboard.thinned import begins, thinned
from monitorkit.errors import ResultError
from monitorkit.results import Changes, Results, decode

RECENT = 60
"""Cycles of which each column's numbers are kept."""

_PAUSE = 0.0005  # after each file: whoever waits for the interpreter gets it


@dataclass(frozen=True, slots=True)
class History:
    """What is known of the results; a value that never changes.

    Attributes:
        outlines: newest first, those that were read.
        recent: of the newest ones, newest first: each column's numbers.
        latest: the newest result, whole.
        total: results that there are, read or not.
        damaged: results that cannot be read; they are not among these.
    """

    outlines: Sequence[Outline] = ()
    recent: Sequence[tuple[Outline, Columns]] = ()
    latest: RunResult | None = None
    total: int = 0
    damaged: int = 0

    @property
    def complete(self) -> bool:
        """Whether all were read."""
        recent = min(self.total, RECENT)
        return len(self.outlines) >= self.total and len(self.recent) >= recent


class Index:
    """Keeps up with a folder of results; for one thread at a time.

    Args:
        results: the folder.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._changes = Changes(results.folder)
        self._run_ids: list[str] = []  # newest first
        self._outlines: dict[str, Outline] = {}
        self._columns: dict[str, Columns] = {}
        self._latest: RunResult | None = None
        self._measure: str | None = None

    def read_on(self, seconds: float, *, at_least: int = 0) -> History | None:
        """Read what is new, then what is old, for about so long.

        Args:
            seconds: after which it stops.
            at_least: so many of the newest are read, however long that takes.

        Returns:
            What is known now; None: nothing has changed since the last call.
        """
        deadline = time.monotonic() + seconds
        changed = self._list()
        if not changed and self._knows_all():
            return None
        position = read = 0
        while position < len(self._run_ids):
            run_id = self._run_ids[position]
            if not self._knows(run_id, position):
                if read and position >= at_least and time.monotonic() > deadline:
                    break
                changed = True
                read += 1
                time.sleep(_PAUSE)
                if not self._read(run_id, position):
                    del self._run_ids[position]
                    continue
            position += 1
        return self._history() if changed else None

    def _knows(self, run_id: str, position: int) -> bool:
        if run_id not in self._outlines:
            return False
        if position == 0:
            return self._knows_newest()
        return position >= RECENT or run_id in self._columns

    def _knows_all(self) -> bool:
        recent = min(len(self._run_ids), RECENT)
        lengths = len(self._outlines), len(self._columns)
        return lengths == (len(self._run_ids), recent) and self._knows_newest()

    def _knows_newest(self) -> bool:
        newest = self._latest.run_id if self._latest is not None else None
        return newest == (self._run_ids[0] if self._run_ids else None)

    def _list(self) -> bool:
        """See which results there are; true when that changed."""
        with self._changes.maybe() as changed:
            run_ids = list(reversed(self._results.run_ids())) if changed else self._run_ids
        if run_ids == self._run_ids:
            return False
        self._run_ids = run_ids
        there = set(self._run_ids)
        for run_id in self._outlines.keys() - there:
            del self._outlines[run_id]
        for run_id in self._columns.keys() - set(self._run_ids[:RECENT]):
            del self._columns[run_id]
        if self._latest is not None and self._latest.run_id not in there:
            self._latest = None
        return True

    def _read(self, run_id: str, position: int) -> bool:
        """Read one result; false when it is damaged."""
        if position == 0:
            result = self._results.result(run_id)
            self._latest = result
            self._look_for(primary(verdict(result)) if result is not None else None)
        else:
            result = self._thin(run_id, columns=position < RECENT)
        if result is None:
            self._outlines.pop(run_id, None)
            self._columns.pop(run_id, None)
            return False
        self._outlines[run_id] = Outline.of(result)
        if position < RECENT:
            self._columns[run_id] = Columns.of(result)
        return True

    def _look_for(self, measure: str | None) -> None:
        """What says how far columns are; where that changed, results are read once more."""
        if measure is not None and measure != self._measure:
            self._measure = measure
            self._columns.clear()

    def _thin(self, run_id: str, *, columns: bool) -> RunResult | None:
        """A result with the findings that are shown, None for a damaged one."""
        wanted = [*OVER_TIME]
        if columns:
            if self._measure is None:  # no verdict so far says which they are
                return self._results.result(run_id)
            wanted += [self._measure, MISSING]
        path = self._results.folder / f"{run_id}.json"
        try:
            document = path.read_bytes()
            result = decode(
                thinned(document, lambda line: any(begins(line, name) for name in wanted))
            )
        except (OSError, ResultError):
            pass
        else:
            if result.run_id == run_id:
                return result
        return self._results.result(run_id)  # says so once, when it is damaged

    def _history(self) -> History:
        outlines = [self._outlines[i] for i in self._run_ids if i in self._outlines]
        return History(
            outlines=outlines,
            recent=[
                (self._outlines[i], self._columns[i])
                for i in self._run_ids[:RECENT]
                if i in self._columns and i in self._outlines
            ],
            latest=self._latest,
            total=len(self._run_ids),
            damaged=self._results.left_out(),
        )
