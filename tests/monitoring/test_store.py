"""The store gives back the tracks it was given, or nothing; and writes only what is new."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timeline_rows import Sum, ladder, merge, rows, summarise_each

from monitorkit.monitoring.store import FILE, Store
from monitorkit.monitoring.timeline import Span, Track

SHARED_FOLDER = [HealthCheck.function_scoped_fixture]  # each example makes its file anew
NOW = ladder(300)


def a_track(*seconds: float) -> Track:
    track = Track(cursor={"a": 10}, missing={"0"}, models={"1": "abc"}, since=7)
    track.add("1", NOW.split(rows(*seconds)), NOW, summarise_each, merge)
    return track


def written(path: Path) -> list[tuple[str, int, int]]:
    """Every stored bucket and where it lies in the file: a new place when it was written again."""
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT version, step, rowid FROM buckets ORDER BY step")
        return list(found)


def test_a_track_comes_back_as_it_was(tmp_path: Path) -> None:
    track = a_track(0, 61, 61.5)
    Store(tmp_path / FILE).save({"sums": track}, (), 0)
    again = Store(tmp_path / FILE)
    assert again.look() == "others"
    assert again.identities() == {"sums"}
    assert again.load("sums", Sum) == track
    assert again.look() == "ours"


def test_there_is_none_at_first(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE)
    assert store.look() == "gone"
    assert store.identities() == set()
    assert store.load("sums", Sum) is None
    assert not (tmp_path / FILE).exists()


def test_only_the_buckets_that_changed_are_written_again(tmp_path: Path) -> None:
    store, track = Store(tmp_path / FILE), a_track(0, 61, 122)
    store.save({"sums": track}, (), 0)
    before = written(tmp_path / FILE)
    track.add("1", NOW.split(rows(123, 200)), NOW, summarise_each, merge)
    store.save({"sums": track}, (), 0)
    after = written(tmp_path / FILE)
    assert after[:2] == before[:2]
    assert len(after) == 4
    assert after[2] not in before
    assert Store(tmp_path / FILE).load("sums", Sum) == track


def test_buckets_that_were_dropped_or_merged_leave_the_file(tmp_path: Path) -> None:
    store, track = Store(tmp_path / FILE), a_track(0, 61, 122)
    store.save({"sums": track}, (), 0)
    later = ladder(80_000)
    for buckets in track.versions.values():
        buckets.follow(later, merge)
    store.save({"sums": track}, (), 0)
    assert len(written(tmp_path / FILE)) == 1
    track.forget(later.step)
    store.save({"sums": track}, (), 0)
    assert written(tmp_path / FILE) == []
    assert Store(tmp_path / FILE).load("sums", Sum) == track


def test_tracks_that_nobody_asked_for_stay_until_they_are_old(tmp_path: Path) -> None:
    Store(tmp_path / FILE).save({"sums": a_track(0), "others": a_track(0)}, (), 0)
    store = Store(tmp_path / FILE)
    store.identities()
    sums = store.load("sums", Sum)
    assert sums is not None
    store.save({"sums": sums}, {"others"}, NOW.first)
    assert Store(tmp_path / FILE).identities() == {"sums", "others"}
    store.save({"sums": sums}, {"others"}, NOW.step)
    assert Store(tmp_path / FILE).identities() == {"sums"}


def test_a_track_that_was_given_up_leaves_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE)
    store.save({"sums": a_track(0), "bad": a_track(0)}, (), 0)
    store.save({"sums": a_track(0)}, (), 0)
    assert Store(tmp_path / FILE).identities() == {"sums"}


@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(place=st.integers(0, 1_000_000), bit=st.integers(0, 7))
@pytest.mark.filterwarnings("ignore")
def test_a_changed_bit_is_never_believed(tmp_path: Path, place: int, bit: int) -> None:
    path = tmp_path / FILE
    path.unlink(missing_ok=True)
    track = a_track(*range(0, 300, 7))
    Store(path).save({"sums": track}, (), 0)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    store = Store(path)
    store.identities()
    assert store.load("sums", Sum) in (None, track)
    # Whatever it was, the file can be used again.
    store.save({"sums": track}, (), 0)
    assert Store(path).load("sums", Sum) == track


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM buckets WHERE step % 2",
        "DELETE FROM tracks",
        "UPDATE tracks SET document = json_set(document, '$.cursor.a', 11)",
        'UPDATE buckets SET "rows" = "rows" + 1',
    ],
)
def test_missing_and_edited_rows_are_noticed(tmp_path: Path, statement: str) -> None:
    Store(tmp_path / FILE).save({"sums": a_track(0, 61)}, (), 0)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(statement)
    assert Store(tmp_path / FILE).load("sums", Sum) is None


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_timeline_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    store, track = Store(tmp_path / FILE), a_track(0)
    assert store.look() == "gone"
    assert store.identities() == set()
    store.save({"sums": track}, (), 0)
    assert Store(tmp_path / FILE).load("sums", Sum) == track


def test_another_schema_version_is_replaced(tmp_path: Path) -> None:
    store, track = Store(tmp_path / FILE), a_track(0)
    store.save({"sums": track}, (), 0)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 9")
    assert store.look() == "gone"
    store.save({"sums": track}, (), 0)
    assert Store(tmp_path / FILE).load("sums", Sum) == track


def test_summaries_of_another_class_are_not_believed(tmp_path: Path) -> None:
    Store(tmp_path / FILE).save({"sums": a_track(0)}, (), 0)
    assert Store(tmp_path / FILE).load("sums", Span) is None


def test_what_cannot_be_kept_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    store, track = Store(tmp_path / FILE), a_track(0)
    store.save({"sums": track}, (), 0)
    bad = a_track(0)
    bad.add("1", NOW.split(rows(61)), NOW, lambda _: [Sum(1, object())], merge)
    with pytest.raises(TypeError, match="object"):
        store.save({"sums": track, "bad": bad}, (), 0)
    assert Store(tmp_path / FILE).identities() == {"sums"}
    assert len(written(tmp_path / FILE)) == 1  # nothing of it, its first bucket neither
    assert store.look() == "ours"
