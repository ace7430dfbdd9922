"""Tracks: bucketed summaries of the log, up to a cursor. They are a cache; the log is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitorkit.contracts import Bucket, Chunk
from monitorkit.monitoring.ladder import BucketPart, Ladder
from monitorkit.monitoring.steps import MICROSECOND, first_step, microseconds, start_of

SummariseEach = Callable[[Sequence[Chunk]], Sequence[Any]]
Merge = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """One bucket of 2**level steps: its rows and their summary."""

    level: int
    rows: int
    summary: Any


@dataclass(slots=True)
class Buckets:
    """One model version's buckets by their first step, as the ladder of one moment has them.

    Attributes:
        kept: those with rows.
        step: the moment, in steps.
    """

    kept: dict[int, Kept] = field(default_factory=dict)
    step: int = 0

    def rows(self) -> int:
        """How many rows are in them."""
        return sum(kept.rows for kept in self.kept.values())

    def copy(self) -> Buckets:
        """The same buckets, to be changed without these."""
        return Buckets(dict(self.kept), self.step)

    def follow(self, ladder: Ladder, merge: Merge) -> None:
        """Merge the buckets that have become old enough; all of them, or none when one raises."""
        if self.step == ladder.step:
            return
        together: dict[int, Kept] = {}
        for step in sorted(self.kept):
            kept = self.kept[step]
            start, level = ladder.place_of(step)
            if start != step or level != kept.level:
                kept = Kept(level, kept.rows, kept.summary)
            _merge_into(together, start, kept, merge)
        self.kept, self.step = together, ladder.step

    def too_long(self, ladder: Ladder) -> bool:
        """Whether the clock went back so far that buckets are longer than the ladder has them."""
        return self.step > ladder.step and any(
            ladder.place_of(step) != (step, kept.level)
            for step, kept in self.kept.items()
            if kept.level
        )


@dataclass(slots=True)
class Track:
    """What is known of the log up to a cursor, for one way to sum it up.

    Attributes:
        cursor: segment to byte offset: everything before is in the buckets.
        versions: by model version.
        missing: versions whose rows were passed over; to have them, the log is read again.
        models: by version, what scored the reference for its summaries.
        since: the first step from which on nothing is left out: rows before it were, or dropped.
    """

    cursor: Mapping[str, int] = field(default_factory=dict)
    versions: dict[str, Buckets] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    models: dict[str, str] = field(default_factory=dict)
    since: int | None = None

    def add(
        self,
        version: str,
        parts: Iterable[BucketPart],
        ladder: Ladder,
        summarise_each: SummariseEach,
        merge: Merge,
    ) -> None:
        """Sum up rows once per bucket, as `ladder` split them; all, or none when one raises."""
        buckets = self.versions.get(version) or Buckets(step=ladder.step)
        buckets.follow(ladder, merge)
        new: dict[int, Kept] = {}
        split = list(parts)
        summaries = summarise_each([part for _, _, part in split])
        for (start, level, part), summary in zip(split, summaries, strict=True):
            if start in buckets.kept:
                new[start] = buckets.kept[start]
            _merge_into(new, start, Kept(level, len(part), summary), merge)
        buckets.kept.update(new)
        if buckets.kept:
            self.versions[version] = buckets

    def go_on(self, found: Track, cursor: Mapping[str, int]) -> None:
        """Be as far as a cursor: with the versions that were found, in place of what they were.

        Args:
            found: versions, those that were passed over, and the models of those that were not.
            cursor: where that ends.
        """
        self.versions.update(found.versions)
        self.missing |= found.missing
        for version, model in found.models.items():
            self.models.setdefault(version, model)  # another one makes the engine read anew
        self.cursor = cursor

    def take(self, found: Mapping[str, Buckets], merges: Mapping[str, Merge]) -> None:
        """Add what was summed up elsewhere, by the ladder of the same moment.

        Args:
            found: by version; all of them are added, or none when one raises.
            merges: of each of these versions.
        """
        whole: dict[str, Buckets] = {}
        for version, other in found.items():
            before = self.versions.get(version) or Buckets(step=other.step)
            together = dict(before.kept)
            for step, kept in sorted(other.kept.items()):
                _merge_into(together, step, kept, merges[version])
            whole[version] = Buckets(together, before.step)
        self.versions.update(whole)

    def follow(self, ladder: Ladder, merge: Merge) -> None:
        """Merge the buckets that have become old enough, of all versions."""
        for buckets in self.versions.values():
            buckets.follow(ladder, merge)

    def forget(self, before: int) -> bool:
        """Drop buckets that begin before a step, and versions without any; say if there were."""
        self.since = before if self.since is None else max(before, self.since)
        dropped = False
        for version in list(self.versions):
            kept = self.versions[version].kept
            for step in [step for step in kept if step < before]:
                del kept[step]
                dropped = True
            if not kept:
                del self.versions[version]
        return dropped

    def too_long(self, ladder: Ladder) -> bool:
        """Whether it has buckets that are longer than the ladder has them."""
        return any(buckets.too_long(ladder) for buckets in self.versions.values())

    def buckets(
        self, version: str, since: datetime, until: datetime, ladder: Ladder, merge: Merge
    ) -> list[Bucket[Any]]:
        """One version's whole buckets that begin at `since` or later, in order of time.

        Those after `until` are left out: a clock that was far ahead once must not fill the window
        for ever.
        """
        buckets = self.versions.get(version)
        if buckets is None:
            return []
        buckets.follow(ladder, merge)
        length = ladder.bucket
        first, end = first_step(since, length), first_step(until, length)
        return [
            Bucket(start_of(step, length), kept.rows, kept.summary, length * (1 << kept.level))
            for step, kept in sorted(buckets.kept.items())
            if first <= step <= end
        ]


@dataclass(frozen=True, slots=True)
class Span:
    """The track that needs no monitor: when rows came, in microseconds since 1970."""

    first: int
    last: int

    @staticmethod
    def of_each(chunks: Sequence[Chunk]) -> list[Span]:
        """The spans of chunks with rows."""
        times = map(microseconds, chunks)
        return [Span(int(of_one.min()), int(of_one.max())) for of_one in times]

    @staticmethod
    def merge(left: Span, right: Span) -> Span:
        """The span of both."""
        return Span(min(left.first, right.first), max(left.last, right.last))


def newest_row(rows: Track) -> datetime | None:
    """When the latest row was answered, by its time; None when there is none."""
    latest = (
        kept.summary.last for buckets in rows.versions.values() for kept in buckets.kept.values()
    )
    last = max(latest, default=None)
    return start_of(last, MICROSECOND) if last is not None else None


def newest_version(rows: Track, until: datetime) -> str | None:
    """The model version of the latest row, by its time; those after `until` do not count."""
    latest = (
        (kept.summary.last, version)
        for version, buckets in rows.versions.items()
        for kept in buckets.kept.values()
        if start_of(kept.summary.first, MICROSECOND) <= until
    )
    return max(latest, default=(0, None))[1]


def _merge_into(buckets: dict[int, Kept], start: int, kept: Kept, merge: Merge) -> None:
    there = buckets.get(start)
    if there is not None:
        summary = merge(there.summary, kept.summary)
        kept = Kept(kept.level, there.rows + kept.rows, summary)
    buckets[start] = kept
