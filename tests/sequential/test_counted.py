"""monitorkit/sequential/counted.py: a bucket is counted once, as long as it is there."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from monitorkit.cells import Counts, ReferenceCells
from monitorkit.contracts import Chunk
from monitorkit.sequential.counted import Counted
from monitorkit.sequential.events import Events, Limits
from monitorkit.sequential.repeats import Repeats
from monitorkit.sequential.table import Table

RANDOM = np.random.default_rng(6)


def rows_of(count: int, times_each: int = 2) -> Chunk:
    values = np.repeat(RANDOM.random((count, 3)).round(6), times_each, axis=0)[:count]
    return Chunk.of_rows(("a", "b"), values[:, :2], values[:, 2])


CELLS = ReferenceCells(rows_of(3000, times_each=1))
EVENTS = Events(CELLS, (0, 1, 2), Limits())
REPEATS = Repeats(CELLS, (0, 1, 2))


def day(buckets: int = 40) -> list[Counts]:
    return [CELLS.summarise(rows_of(int(size))) for size in RANDOM.integers(0, 400, buckets)]


@pytest.fixture
def tallied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many buckets were counted, each time some were."""
    found: list[int] = []
    tallies = Events.tallies

    def noted(events: Events, table: Table) -> np.typing.NDArray[np.int64]:
        found.append(table.rows.size)
        return tallies(events, table)

    monkeypatch.setattr(Events, "tallies", noted)
    return found


def test_a_window_that_slides_is_counted_as_if_it_were_new(tallied: list[int]) -> None:
    """Old buckets leave, two become one as they grow old, and new ones come."""
    counted, window = Counted(EVENTS, REPEATS), day()
    counted.of(window)
    for _ in range(12):
        together = CELLS.merge(window[2], window[3])
        window = [window[1], together, *window[4:], *day(2)]
        tallied.clear()
        tallies, repeats = counted.of(window)
        assert sum(tallied) == 3

        again, repeats_again = Counted(EVENTS, REPEATS).of(window)
        assert np.array_equal(tallies, again)
        effect = repeats.design_effect()
        assert effect == repeats_again.design_effect()
        assert effect is not None
        assert effect > 1.5


def test_the_same_window_is_not_counted_again(tallied: list[int]) -> None:
    counted, window = Counted(EVENTS, REPEATS), day()
    first = counted.of(window)
    tallied.clear()
    again = counted.of(window)

    assert tallied == []
    assert np.array_equal(first[0], again[0])
    assert first[1].design_effect() == again[1].design_effect()


def test_a_bucket_that_comes_twice_counts_twice() -> None:
    (bucket,) = day(1)
    tallies, _ = Counted(EVENTS, REPEATS).of([bucket, bucket])

    assert tallies[0].tolist() == tallies[1].tolist()
    assert EVENTS.rows(tallies).tolist() == [bucket.rows] * 2


def test_no_bucket_is_kept_alive_by_what_was_counted_of_it() -> None:
    """There is a monitor for each model version that ever was; their windows are not kept."""
    counted, window = Counted(EVENTS, REPEATS), day()
    tallies = counted.of(window)[0]
    old, base = weakref.ref(window[0]), weakref.ref(tallies)
    del window[:], tallies
    gc.collect()

    assert old() is None
    assert base() is None
