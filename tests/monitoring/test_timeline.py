"""A track holds the same summaries whatever the rows' way into it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timeline_rows import DAY, MINUTE, START, Sum, ladder, merge, rows, summarise_each

from monitorkit.contracts import Chunk
from monitorkit.monitoring.ladder import Ladder
from monitorkit.monitoring.timeline import Kept, Span, Track, newest_version


def kept(track: Track, now: Ladder) -> dict[str, dict[int, Kept]]:
    """Everything in a track, as the ladder of a moment has it."""
    for buckets in track.versions.values():
        buckets.follow(now, merge)
    return {version: dict(buckets.kept) for version, buckets in track.versions.items()}


@settings(max_examples=200, deadline=None)
@given(
    seconds=st.lists(st.integers(-90_000, 600), min_size=1, max_size=40),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 7200)), max_size=6),
    resolution=st.integers(2, 32),
)
def test_any_split_into_chunks_and_cycles_gives_the_same_buckets(
    seconds: list[int], cuts: list[tuple[int, int]], resolution: int
) -> None:
    """Each cut is a cycle: so many rows were there then, and so much later the next one came."""
    chunk = rows(*seconds)
    whole, parts = Track(), Track()
    now = 600
    edges = sorted({min(rows, len(seconds)): wait for rows, wait in cuts}.items())
    for (start, wait), (end, _) in pairwise([(0, 0), *edges, (len(seconds), 0)]):
        now += wait
        step = ladder(now, resolution=resolution)
        parts.forget(step.first)
        parts.add("1", step.split(chunk.take(slice(start, end))), step, summarise_each, merge)
    last = ladder(now, resolution=resolution)
    whole.add("1", last.split(chunk), last, summarise_each, merge)
    parts.forget(last.first)
    assert kept(parts, last) == kept(whole, last)


def test_a_summary_that_raises_leaves_the_track_as_it_was() -> None:
    track, now = Track(), ladder(120)
    track.add("1", now.split(rows(0)), now, summarise_each, merge)
    before = kept(track, now)

    def broken(chunks: Sequence[Chunk]) -> list[Sum]:
        if any(len(chunk) == 2 for chunk in chunks):
            raise RuntimeError("no")
        found: list[Sum] = summarise_each(chunks)
        return found

    with pytest.raises(RuntimeError):
        track.add("1", now.split(rows(1, 61, 62)), now, broken, merge)
    assert kept(track, now) == before


def test_a_merge_that_raises_leaves_the_buckets_as_they_were() -> None:
    track = Track()
    track.add("1", ladder(120).split(rows(0, 60)), ladder(120), summarise_each, merge)
    before = kept(track, ladder(120))

    def broken(left: Sum, right: Sum) -> Sum:
        raise RuntimeError((left, right))

    with pytest.raises(RuntimeError):
        track.buckets("1", START, START + DAY, ladder(7200), broken)
    assert kept(track, ladder(120)) == before


def test_model_versions_are_kept_apart() -> None:
    track, now = Track(), ladder(60)
    track.add("1", now.split(rows(0, 1)), now, summarise_each, merge)
    track.add("2", now.split(rows(2)), now, summarise_each, merge)
    assert [b.rows for b in track.buckets("1", START, START + DAY, now, merge)] == [2]
    assert [b.rows for b in track.buckets("2", START, START + DAY, now, merge)] == [1]


def test_the_newest_version_is_that_of_the_latest_row_whatever_was_read_last() -> None:
    track, now = Track(), ladder(300)
    assert newest_version(track, now.until) is None
    track.add("2", now.split(rows(200)), now, Span.of_each, Span.merge)
    track.add("1", now.split(rows(0, 100)), now, Span.of_each, Span.merge)
    assert newest_version(track, now.until) == "2"


def test_a_clock_that_was_far_ahead_makes_no_version_the_newest() -> None:
    track, now = Track(), ladder(300)
    track.add("2", now.split(rows(400 * 86_400)), now, Span.of_each, Span.merge)
    track.add("1", now.split(rows(0)), now, Span.of_each, Span.merge)
    assert newest_version(track, now.until) == "1"


def test_the_window_is_whole_buckets_in_order_of_time() -> None:
    track, now = Track(), ladder(130)
    track.add("1", now.split(rows(130, 0, 65)), now, summarise_each, merge)
    since = START + timedelta(seconds=30)
    inside = track.buckets("1", since, START + DAY, now, merge)
    # The bucket that begins before the window is left out whole.
    assert [bucket.start for bucket in inside] == [START + MINUTE, START + 2 * MINUTE]
    assert [bucket.length for bucket in inside] == [MINUTE, MINUTE]


def test_buckets_grow_together_as_they_age() -> None:
    track = Track()
    track.add(
        "1", ladder(7200).split(rows(*range(0, 7200, 60))), ladder(7200), summarise_each, merge
    )
    lengths = [b.length for b in track.buckets("1", START, START + DAY, ladder(7200), merge)]
    assert lengths == sorted(lengths, reverse=True)
    assert sum(lengths, timedelta()) == timedelta(hours=2)
    later = ladder(80_000, resolution=2)
    (long,) = track.buckets("1", START - DAY, START + DAY, later, merge)
    assert (long.rows, long.length) == (120, 256 * MINUTE)


def test_old_buckets_are_forgotten_and_empty_versions_with_them() -> None:
    track, now = Track(), ladder(120)
    track.add("1", now.split(rows(0)), now, summarise_each, merge)
    track.add("2", now.split(rows(0, 120)), now, summarise_each, merge)
    first = ladder(60, horizon=timedelta()).first
    assert track.forget(first)
    assert list(track.versions) == ["2"]
    assert [b.rows for b in track.buckets("2", START, START + DAY, now, merge)] == [1]
    assert not track.forget(first)


def test_a_clock_that_went_back_is_noticed_when_buckets_are_too_long() -> None:
    track = Track()
    track.add("1", ladder(7200).split(rows(0, 60)), ladder(7200), summarise_each, merge)
    assert not track.too_long(ladder(7200))
    assert not track.too_long(ladder(7200 + 120))
    assert track.too_long(ladder(120))
