"""A track holds the same summaries whatever the rows' way into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitorkit.contracts import Chunk
from monitorkit.monitoring.timeline import Span, Track, bucket_number, split

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def rows(*seconds: float) -> Chunk:
    """Rows at so many seconds after START; the score is the position."""
    times = [np.datetime64(START.replace(tzinfo=None), "us") + round(s * 1e6) for s in seconds]
    count = len(seconds)
    return Chunk(
        ids=np.array([str(n) for n in range(count)], dtype=np.str_),
        times=np.array(times, dtype="datetime64[us]"),
        columns=("a",),
        features=np.arange(count, dtype=float).reshape(-1, 1),
        scores=np.array(seconds, dtype=float),
    )


@dataclass(frozen=True, slots=True)
class Sum:
    rows: int
    total: float


def summarise(chunk: Chunk) -> Sum:
    return Sum(len(chunk), float(chunk.scores.sum()))


def merge(left: Sum, right: Sum) -> Sum:
    return Sum(left.rows + right.rows, left.total + right.total)


def test_rows_fall_into_the_bucket_of_their_own_time() -> None:
    parts = dict(split(rows(0, 59.999999, 60, 119, 200), MINUTE))
    first = bucket_number(START, MINUTE)
    assert {number - first: len(part) for number, part in parts.items()} == {0: 2, 1: 2, 3: 1}


def test_late_rows_find_their_bucket_and_keep_their_order() -> None:
    parts = dict(split(rows(70, 10, 80, 20), MINUTE))
    assert [part.scores.tolist() for _, part in sorted(parts.items())] == [[10, 20], [70, 80]]


@settings(max_examples=100, deadline=None)
@given(
    seconds=st.lists(st.integers(min_value=-600, max_value=600), min_size=1, max_size=40),
    cuts=st.lists(st.integers(min_value=0, max_value=40), max_size=5),
)
def test_any_split_into_chunks_gives_the_same_buckets(seconds: list[int], cuts: list[int]) -> None:
    whole, parts = Track(), Track()
    chunk = rows(*seconds)
    whole.add("1", chunk, MINUTE, summarise, merge)
    edges = sorted({0, len(seconds), *(min(cut, len(seconds)) for cut in cuts)})
    for start, end in pairwise(edges):
        parts.add("1", chunk.take(slice(start, end)), MINUTE, summarise, merge)
    assert parts.versions == whole.versions


def test_a_summary_that_raises_leaves_the_track_as_it_was() -> None:
    track = Track()
    track.add("1", rows(0), MINUTE, summarise, merge)
    before = {version: dict(buckets) for version, buckets in track.versions.items()}

    def broken(chunk: Chunk) -> Sum:
        if len(chunk) == 2:
            raise RuntimeError("no")
        return summarise(chunk)

    with pytest.raises(RuntimeError):
        track.add("1", rows(1, 61, 62), MINUTE, broken, merge)
    assert track.versions == before


def test_model_versions_are_kept_apart() -> None:
    track = Track()
    track.add("1", rows(0, 1), MINUTE, summarise, merge)
    track.add("2", rows(2), MINUTE, summarise, merge)
    assert [b.rows for b in track.buckets("1", START, MINUTE)] == [2]
    assert [b.rows for b in track.buckets("2", START, MINUTE)] == [1]
    assert track.newest == "2"


def test_the_window_is_whole_buckets_in_order_of_time() -> None:
    track = Track()
    track.add("1", rows(130, 0, 65), MINUTE, summarise, merge)
    inside = track.buckets("1", START + timedelta(seconds=30), MINUTE)
    # The bucket that begins before the window is left out whole.
    assert [bucket.start for bucket in inside] == [START + MINUTE, START + 2 * MINUTE]


def test_old_buckets_are_forgotten_and_empty_versions_with_them() -> None:
    track = Track()
    track.add("1", rows(0), MINUTE, summarise, merge)
    track.add("2", rows(0, 120), MINUTE, summarise, merge)
    assert track.forget(START + MINUTE, MINUTE)
    assert list(track.versions) == ["2"]
    assert [b.rows for b in track.buckets("2", START, MINUTE)] == [1]
    assert not track.forget(START + MINUTE, MINUTE)


def test_a_track_survives_its_document() -> None:
    track = Track(cursor={"a": 10}, missing={"0"})
    track.add("1", rows(0, 61), MINUTE, summarise, merge)
    assert Track.from_document(track.to_document(), Sum) == track


def test_a_document_of_another_summary_is_refused() -> None:
    track = Track()
    track.add("1", rows(0), MINUTE, summarise, merge)
    with pytest.raises(TypeError):
        Track.from_document(track.to_document(), Span)
