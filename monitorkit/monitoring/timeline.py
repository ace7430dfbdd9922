"""Tracks: bucketed summaries of the log, up to a cursor. They are a cache; the log is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from monitorkit.contracts import Bucket, Chunk
from monitorkit.monitoring import checkpoint

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Summarise = Callable[[Chunk], Any]
Merge = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """One bucket's rows and their summary."""

    rows: int
    summary: Any


@dataclass(slots=True)
class Track:
    """What is known of the log up to a cursor, for one way to sum it up.

    Attributes:
        cursor: segment to byte offset: everything before is in the buckets.
        versions: by model version, then by bucket number (time since 1970 in bucket lengths).
        newest: the model version of the last row read.
        missing: versions whose rows were passed over; to have them, the log is read again.
        models: by version, what scored the reference for its summaries.
        since: the first bucket that is whole: rows before it were left out, or dropped.
    """

    cursor: Mapping[str, int] = field(default_factory=dict)
    versions: dict[str, dict[int, Kept]] = field(default_factory=dict)
    newest: str | None = None
    missing: set[str] = field(default_factory=set)
    models: dict[str, str] = field(default_factory=dict)
    since: int | None = None

    def add(
        self, version: str, chunk: Chunk, bucket: timedelta, summarise: Summarise, merge: Merge
    ) -> None:
        """Sum up the rows of a chunk once per bucket; all of them, or none when one raises."""
        buckets = self.versions.get(version, {})
        new: dict[int, Kept] = {}
        for number, part in split(chunk, bucket):
            kept = buckets.get(number)
            summary = summarise(part)
            rows = len(part)
            if kept is not None:
                rows, summary = rows + kept.rows, merge(kept.summary, summary)
            new[number] = Kept(rows, summary)
        self.versions.setdefault(version, {}).update(new)
        self.newest = version

    def forget(self, before: datetime, bucket: timedelta) -> bool:
        """Drop buckets that begin before a time, and versions without any; say if there were."""
        first = bucket_number(before, bucket)
        self.since = first if self.since is None else max(first, self.since)
        dropped = False
        for version in list(self.versions):
            buckets = self.versions[version]
            for number in [number for number in buckets if number < first]:
                del buckets[number]
                dropped = True
            if not buckets:
                del self.versions[version]
        return dropped

    def buckets(
        self,
        version: str,
        since: datetime,
        bucket: timedelta,
        until: datetime = _NEVER,
    ) -> list[Bucket[Any]]:
        """One version's whole buckets that begin at `since` or later, in order of time.

        Those after `until` are left out: a clock that was far ahead once must not fill the window
        for ever.
        """
        kept = self.versions.get(version, {})
        first, end = bucket_number(since, bucket), bucket_number(until, bucket)
        return [
            Bucket(_EPOCH + number * bucket, kept[number].rows, kept[number].summary)
            for number in sorted(kept)
            if first <= number <= end
        ]

    def to_document(self) -> dict[str, Any]:
        """For `checkpoint.save`."""
        return {
            "cursor": dict(self.cursor),
            "newest": self.newest,
            "missing": sorted(self.missing),
            "models": self.models,
            "since": self.since,
            "versions": {
                version: {
                    str(number): {
                        "rows": kept.rows,
                        "summary": checkpoint.dump_summary(kept.summary),
                    }
                    for number, kept in buckets.items()
                }
                for version, buckets in self.versions.items()
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], kind: type[Any]) -> Track:
        """What `to_document` gave, with summaries of a class.

        Raises:
            TypeError: when the summaries are of another class.
        """
        return cls(
            cursor=document["cursor"],
            newest=document["newest"],
            missing=set(document["missing"]),
            models=document["models"],
            since=document["since"],
            versions={
                version: {
                    int(number): Kept(kept["rows"], checkpoint.load_summary(kind, kept["summary"]))
                    for number, kept in buckets.items()
                }
                for version, buckets in document["versions"].items()
            },
        )


@dataclass(frozen=True, slots=True)
class Span:
    """The track that needs no monitor: when rows came, in microseconds since 1970."""

    first: int
    last: int

    @staticmethod
    def of(chunk: Chunk) -> Span:
        """The span of a chunk with rows."""
        times = chunk.times.astype("datetime64[us]").astype(np.int64)
        return Span(int(times.min()), int(times.max()))

    @staticmethod
    def merge(left: Span, right: Span) -> Span:
        """The span of both."""
        return Span(min(left.first, right.first), max(left.last, right.last))


def split(chunk: Chunk, bucket: timedelta) -> Iterator[tuple[int, Chunk]]:
    """The parts of a chunk by bucket number; rows keep their order."""
    length = bucket // _MICROSECOND
    numbers = chunk.times.astype("datetime64[us]").astype(np.int64) // length
    if not len(numbers):
        return
    if np.any(np.diff(numbers) < 0):  # rows that came late
        order = np.argsort(numbers, kind="stable")
        chunk, numbers = chunk.take(order), numbers[order]
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in pairwise(starts):
        yield int(numbers[start]), chunk.take(slice(start, end))


def bucket_number(time: datetime, bucket: timedelta) -> int:
    """The first bucket that begins at `time` or later."""
    return -((_EPOCH - time) // bucket)


def from_microseconds(value: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return _EPOCH + value * _MICROSECOND
