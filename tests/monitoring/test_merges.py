"""What was merged in one cycle is not merged again in the next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce

from timeline_rows import MINUTE, START, Sum, merge

from monitorkit.contracts import Bucket, Timeline
from monitorkit.monitoring.merges import Merges


def buckets(*lengths: int) -> list[Bucket[Sum]]:
    made, start = [], START
    for number, length in enumerate(lengths):
        made.append(Bucket(start, 1, Sum(1, float(2**number)), length * MINUTE))
        start += length * MINUTE
    return made


class Counting:
    """Merges, and counts how often two were made one."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, summaries: Sequence[Sum]) -> Sum:
        self.calls += len(summaries) - 1
        return reduce(merge, summaries)


def test_it_is_the_sum_of_all() -> None:
    made = buckets(4, 4, 4, 2, 2, 1, 1, 1)
    assert Merges().merged(made, Counting()) == Sum(8, 255.0)
    assert Merges().merged([], Counting()) is None
    assert Merges().merged(made[:1], Counting()) == made[0].summary


def test_the_same_buckets_are_merged_once_for_all_who_ask() -> None:
    merges, counting, made = Merges(), Counting(), buckets(4, 4, 2, 2, 1, 1)
    first = merges.merged(made, counting)
    calls = counting.calls
    assert merges.merged(made, counting) is first
    assert counting.calls == calls == 5


def test_only_the_stretch_that_changed_is_merged_again() -> None:
    merges, counting = Merges(), Counting()
    old, new = buckets(*[8] * 80, *[1] * 64), buckets(*[8] * 80, *[1] * 66)[-2:]
    merges.merged(old, counting)
    calls = counting.calls
    assert calls == len(old) - 1
    merges.tidy()
    merges.merged([*old, *new], counting)
    # The two new ones, the runs of their length, and the two lengths together.
    assert counting.calls - calls <= 1 + 9 + 1


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    merges, counting, made = Merges(), Counting(), buckets(1, 1, 1)
    merges.merged(made, counting)
    merges.tidy()
    merges.tidy()
    merges.merged(made, counting)
    assert counting.calls == 4


def test_a_timeline_merges_with_it() -> None:
    merges, counting, made = Merges(), Counting(), buckets(30, 30, 1)
    now = START + timedelta(minutes=61)
    timeline = Timeline(made, now, merge, merged=lambda some: merges.merged(some, counting))
    plain = Timeline(made, now, merge)
    assert timeline.all() == plain.all() == Sum(3, 7.0)
    assert timeline.last(hours=0.6) == plain.last(hours=0.6) == Sum(2, 6.0)
