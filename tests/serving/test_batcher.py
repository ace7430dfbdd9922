"""The batcher: coalescing, order, lanes, groups, bounds, failures, who leaves, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitorkit.errors import Overloaded, Stopping
from monitorkit.serving.batcher import Batcher

Answer = tuple[str, int]
IntBatcher = Batcher[str, Sequence[int], list[Answer]]


MANY = 100


class BadRowError(Exception):
    """A row that spoils its batch."""


class Recorder:
    """Answers (group, row), remembers every batch, and waits for `gate` when it is closed.

    Batches that hold a submission of many rows wait for a gate of their own beside it.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.gate, self.gate_for_many = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.gate_for_many.set()
        self.errors: dict[int, Exception] = {}

    async def __call__(self, group: str, parts: Sequence[Sequence[int]]) -> list[Answer]:
        rows = [row for part in parts for row in part]
        self.batches.append((group, rows))
        await self.gate.wait()
        if any(len(part) >= MANY for part in parts):
            await self.gate_for_many.wait()
        for row in rows:
            if row in self.errors:
                raise self.errors[row]
        return [(group, row) for row in rows]

    def answered(self) -> list[int]:
        return [row for _, rows in self.batches for row in rows]


@asynccontextmanager
async def running(
    flush: Recorder,
    *,
    max_waiting_rows: int = 1000,
    many_rows: int = MANY,
    max_flush_rows: int = 1000,
) -> AsyncIterator[IntBatcher]:
    batcher: IntBatcher = Batcher(
        flush,
        max_waiting_rows=max_waiting_rows,
        many_rows=many_rows,
        max_flush_rows=max_flush_rows,
        isolate=(BadRowError,),
    )
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        flush.gate.set()
        flush.gate_for_many.set()
        await asyncio.wait_for(batcher.close(), 5)
        await task


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_caller_is_answered_at_once_without_a_timer() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await batcher.submit("a", [1, 2]) == [("a", 1), ("a", 2)]
        assert loop.time() - before < 0.05
    assert flush.batches == [("a", [1, 2])]


async def test_callers_that_come_while_a_batch_runs_form_the_next_one() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        first = asyncio.create_task(batcher.submit("a", [0]))
        await turns()
        others = [asyncio.create_task(batcher.submit("a", [n])) for n in range(1, 6)]
        await turns()
        assert batcher.waiting_rows == 5
        flush.gate.set()
        answers = await asyncio.gather(first, *others)
    assert answers == [[("a", n)] for n in range(6)]
    assert flush.batches == [("a", [0]), ("a", [1, 2, 3, 4, 5])]
    assert batcher.waiting_rows == 0


async def test_a_batch_never_mixes_groups_and_keeps_the_order_of_arrival() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        callers = []
        for group, row in [("a", 0), ("a", 1), ("b", 2), ("b", 3), ("a", 4)]:
            callers.append(asyncio.create_task(batcher.submit(group, [row])))
            await turns()
        flush.gate.set()
        await asyncio.gather(*callers)
    assert flush.batches == [("a", [0]), ("a", [1]), ("b", [2, 3]), ("a", [4])]


async def test_few_rows_wait_for_no_batch_of_many_and_those_for_each_other() -> None:
    flush = Recorder()
    many = [list(range(start, start + MANY)) for start in (1000, 2000)]
    async with running(flush) as batcher:
        flush.gate_for_many.clear()
        batches = []
        for rows in many:
            batches.append(asyncio.create_task(batcher.submit("a", rows)))
            await turns()
        for row in range(3):
            assert await batcher.submit("a", [row]) == [("a", row)]
        assert (batcher.many.waiting_rows, batcher.few.waiting_rows) == (MANY, 0)
        assert batcher.waiting_rows == MANY
        assert not any(batch.done() for batch in batches)
        flush.gate_for_many.set()
        assert [[row for _, row in await batch] for batch in batches] == many
    assert flush.batches == [
        ("a", many[0]), ("a", [0]), ("a", [1]), ("a", [2]), ("a", many[1]),
    ]  # fmt: skip
    assert (batcher.served_rows, batcher.answered_rows) == (3 + 2 * MANY, 3 + 2 * MANY)


async def test_each_lane_has_a_limit_of_its_own() -> None:
    """Who sends batches takes no place from those who send single rows."""
    flush = Recorder()
    async with running(flush, max_waiting_rows=MANY) as batcher:
        flush.gate_for_many.clear()
        batches = []
        for _ in range(2):
            batches.append(asyncio.create_task(batcher.submit("a", [0] * MANY)))
            await turns()
        with pytest.raises(Overloaded) as refused:
            await batcher.submit("a", [0] * MANY)
        assert (refused.value.waiting, refused.value.limit) == (MANY, MANY)
        assert await batcher.submit("a", [1]) == [("a", 1)]
        batches[1].cancel()
        await turns()
        assert (batcher.waiting_rows, batcher.dropped_rows) == (0, MANY)
        flush.gate_for_many.set()
        assert len(await batches[0]) == MANY


async def test_close_waits_for_both_lanes() -> None:
    flush = Recorder()
    batcher: IntBatcher = Batcher(flush, max_waiting_rows=1000, many_rows=MANY)
    run = asyncio.create_task(batcher.run())
    flush.gate_for_many.clear()
    many = [asyncio.create_task(batcher.submit("a", [0] * MANY)) for _ in range(2)]
    few = asyncio.create_task(batcher.submit("a", [1]))
    await turns()
    closing = asyncio.create_task(batcher.close())
    assert await few == [("a", 1)]
    await turns()
    assert not closing.done()
    flush.gate_for_many.set()
    await closing
    await run
    assert [len(await batch) for batch in many] == [MANY, MANY]


async def test_a_batch_is_bounded_and_a_larger_submission_is_one_of_its_own() -> None:
    flush = Recorder()
    async with running(flush, max_flush_rows=3) as batcher:
        flush.gate.clear()
        callers = [asyncio.create_task(batcher.submit("a", [0]))]
        await turns()
        callers += [
            asyncio.create_task(batcher.submit("a", rows)) for rows in ([1, 2], [3, 4], [5] * 7)
        ]
        await turns()
        flush.gate.set()
        await asyncio.gather(*callers)
    assert [len(rows) for _, rows in flush.batches] == [1, 2, 2, 7]


async def test_beyond_the_limit_rows_are_refused_at_once_and_counted() -> None:
    flush = Recorder()
    async with running(flush, max_waiting_rows=4) as batcher:
        flush.gate.clear()
        running_now = asyncio.create_task(batcher.submit("a", [0]))
        await turns()
        waiting = asyncio.create_task(batcher.submit("a", [1, 2, 3]))
        await turns()
        with pytest.raises(Overloaded) as refused:
            await batcher.submit("a", [4, 5])
        assert (refused.value.waiting, refused.value.limit) == (3, 4)
        assert batcher.refused_rows == 2
        fits = asyncio.create_task(batcher.submit("a", [6]))
        await turns()
        flush.gate.set()
        assert await running_now == [("a", 0)]
        assert await waiting == [("a", 1), ("a", 2), ("a", 3)]
        assert await fits == [("a", 6)]
    assert flush.answered() == [0, 1, 2, 3, 6]


async def test_one_submission_larger_than_the_limit_is_taken_when_nothing_else_waits() -> None:
    flush = Recorder()
    async with running(flush, max_waiting_rows=2) as batcher:
        assert len(await batcher.submit("a", [1, 2, 3])) == 3


async def test_a_failing_flush_fails_exactly_its_callers() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        flush.errors[1] = OSError("no space")
        first = asyncio.create_task(batcher.submit("a", [0]))
        await turns()
        second = [asyncio.create_task(batcher.submit("a", [n])) for n in (1, 2)]
        await turns()
        flush.gate.set()
        outcomes = await asyncio.gather(first, *second, return_exceptions=True)
        assert outcomes[0] == [("a", 0)]
        assert [str(error) for error in outcomes[1:]] == ["no space", "no space"]
        assert await batcher.submit("a", [3]) == [("a", 3)]


async def test_rows_that_spoil_a_batch_fail_their_own_callers_only() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        first = asyncio.create_task(batcher.submit("a", [0]))
        await turns()
        flush.errors = {5: BadRowError(), 11: BadRowError()}
        callers = [asyncio.create_task(batcher.submit("a", [n])) for n in range(1, 17)]
        await turns()
        flush.gate.set()
        await first
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
    for row, outcome in enumerate(outcomes, start=1):
        if row in (5, 11):
            assert isinstance(outcome, BadRowError)
        else:
            assert outcome == [("a", row)]


async def test_a_flush_that_loses_an_answer_is_an_error_for_its_callers() -> None:
    async def lossy(_: str, parts: Sequence[Sequence[int]]) -> list[int]:
        return list(parts[0])[1:]

    batcher: Batcher[str, Sequence[int], list[int]] = Batcher(lossy, max_waiting_rows=10)
    task = asyncio.create_task(batcher.run())
    with pytest.raises(RuntimeError, match="1 answers to 2 rows"):
        await batcher.submit("a", [1, 2])
    assert (batcher.failed_rows, batcher.answered_rows) == (2, 0)
    await batcher.close()
    await task


async def test_rows_of_a_caller_that_left_before_dispatch_are_dropped_and_counted() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        first = asyncio.create_task(batcher.submit("a", [0]))
        await turns()
        leaver = asyncio.create_task(batcher.submit("a", [1, 2]))
        stayer = asyncio.create_task(batcher.submit("a", [3]))
        await turns()
        leaver.cancel()
        await turns()
        assert (batcher.waiting_rows, batcher.dropped_rows) == (1, 2)
        flush.gate.set()
        assert await first == [("a", 0)]
        assert await stayer == [("a", 3)]
    assert flush.answered() == [0, 3]
    assert batcher.late_rows == 0


async def test_rows_that_run_complete_when_their_caller_leaves_and_are_counted_as_late() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        leaver = asyncio.create_task(batcher.submit("a", [1, 2]))
        await turns()
        leaver.cancel()
        await turns()
        flush.gate.set()
        assert await batcher.submit("a", [3]) == [("a", 3)]
    assert flush.answered() == [1, 2, 3]
    assert (batcher.dropped_rows, batcher.late_rows) == (0, 2)


async def test_an_error_for_a_caller_that_left_warns_nobody() -> None:
    flush = Recorder()
    async with running(flush) as batcher:
        flush.gate.clear()
        flush.errors[1] = OSError()
        leaver = asyncio.create_task(batcher.submit("a", [1]))
        await turns()
        flush.gate.set()
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises((OSError, asyncio.CancelledError)):
            await leaver
        del leaver


async def test_close_answers_what_was_accepted_and_refuses_the_rest() -> None:
    flush = Recorder()
    batcher: IntBatcher = Batcher(flush, max_waiting_rows=10)
    run = asyncio.create_task(batcher.run())
    flush.gate.clear()
    accepted = [asyncio.create_task(batcher.submit("a", [n])) for n in (1, 2)]
    await turns()
    closing = asyncio.create_task(batcher.close())
    await turns()
    with pytest.raises(Stopping):
        await batcher.submit("a", [3])
    assert not closing.done()
    flush.gate.set()
    await closing
    await run
    assert [await caller for caller in accepted] == [[("a", 1)], [("a", 2)]]
    await batcher.close()  # again, and nothing happens


async def test_closing_a_batcher_that_never_ran_fails_who_waits() -> None:
    batcher: IntBatcher = Batcher(Recorder(), max_waiting_rows=10)
    waiting = asyncio.create_task(batcher.submit("a", [1]))
    await turns()
    await batcher.close()
    with pytest.raises(Stopping):
        await waiting


async def test_cancelling_the_run_leaves_nobody_waiting() -> None:
    flush = Recorder()
    batcher: IntBatcher = Batcher(flush, max_waiting_rows=256)
    run = asyncio.create_task(batcher.run())
    flush.gate.clear()
    callers = []
    for rows in ([1], [2], [3] * 256, [4] * 256):  # one of each kind runs, and one waits
        callers.append(asyncio.create_task(batcher.submit("a", rows)))
        await turns()
    run.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [Stopping] * 4
    with pytest.raises(Stopping):
        await batcher.submit("a", [3])


async def test_cancelling_the_run_while_a_batch_is_divided_leaves_nobody_waiting() -> None:
    class Divided(Recorder):
        async def __call__(self, group: str, parts: Sequence[Sequence[int]]) -> list[Answer]:
            if len(parts) > 1:
                raise BadRowError
            return await super().__call__(group, parts)

    flush = Divided()
    batcher: IntBatcher = Batcher(flush, max_waiting_rows=10, isolate=(BadRowError,))
    flush.gate.clear()
    callers = [asyncio.create_task(batcher.submit("a", [n])) for n in range(4)]
    await turns()
    run = asyncio.create_task(batcher.run())
    await turns()
    run.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [Stopping] * 4


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from("abc"), st.integers(1, 5)),
        st.tuples(st.just("leave"), st.just(""), st.integers(0, 30)),
        st.tuples(st.just("open"), st.just(""), st.just(0)),
        st.tuples(st.just("shut"), st.just(""), st.just(0)),
        st.tuples(st.just("turns"), st.just(""), st.integers(1, 4)),
    ),
    max_size=40,
)


@dataclass
class Play:
    """What callers did, and what became of them."""

    flush: Recorder
    callers: list[tuple[str, list[int], asyncio.Task[Sequence[Answer]]]] = field(
        default_factory=list
    )
    left: set[int] = field(default_factory=set)
    next_row: int = 0

    def step(self, batcher: IntBatcher, step: tuple[str, str, int]) -> None:
        action, group, number = step
        if action == "submit":
            rows = list(range(self.next_row, self.next_row + number))
            self.next_row += number
            task = asyncio.create_task(batcher.submit(group, rows))
            self.callers.append((group, rows, task))
        elif action == "leave" and number < len(self.callers) and self.callers[number][2].cancel():
            self.left.add(number)
        elif action == "open":
            self.flush.gate.set()
        elif action == "shut":
            self.flush.gate.clear()

    def check_batches(self, many_rows: int, max_flush_rows: int) -> None:
        flushed = self.flush.answered()
        assert len(flushed) == len(set(flushed)), "a row was answered twice"
        many = {row for _, rows, _ in self.callers if len(rows) >= many_rows for row in rows}
        for lane in ([row for row in flushed if (row in many) == each] for each in (True, False)):
            assert lane == sorted(lane), "rows changed their order"
        assert all(not many & {*rows} or many >= {*rows} for _, rows in self.flush.batches)
        group_of = {row: group for group, rows, _ in self.callers for row in rows}
        assert all(group_of[row] == group for group, rows in self.flush.batches for row in rows)
        sizes = {rows[0]: len(rows) for _, rows, _ in self.callers}
        for _, rows in self.flush.batches:
            assert len(rows) <= max(max_flush_rows, sizes[rows[0]])

    def check_callers(self, outcomes: Sequence[object], batcher: IntBatcher) -> None:
        flushed = set(self.flush.answered())
        refused = dropped = 0
        for number, ((group, rows, _), outcome) in enumerate(
            zip(self.callers, outcomes, strict=True)
        ):
            if isinstance(outcome, Overloaded):
                assert not set(rows) & flushed
                refused += len(rows)
            elif isinstance(outcome, asyncio.CancelledError):
                assert number in self.left
                dropped += len(rows) if rows[0] not in flushed else 0
            else:
                assert outcome == [(group, row) for row in rows]
        assert batcher.refused_rows == refused
        assert batcher.dropped_rows == dropped
        assert batcher.waiting_rows == 0


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(1, 12), st.integers(1, 6), st.integers(1, 12))
def test_any_interleaving_gives_everybody_their_own_answers_and_loses_nothing(
    plan: list[tuple[str, str, int]], max_waiting_rows: int, many_rows: int, max_flush_rows: int
) -> None:
    async def run() -> None:
        play = Play(Recorder())
        async with running(
            play.flush,
            max_waiting_rows=max_waiting_rows,
            many_rows=many_rows,
            max_flush_rows=max_flush_rows,
        ) as batcher:
            for step in plan:
                play.step(batcher, step)
                await turns(step[2] if step[0] == "turns" else 1)
            play.flush.gate.set()
            outcomes = await asyncio.gather(
                *(task for *_, task in play.callers), return_exceptions=True
            )
        play.check_batches(many_rows, max_flush_rows)
        play.check_callers(outcomes, batcher)

    asyncio.run(run())


async def test_two_hundred_callers_at_once_share_few_batches() -> None:
    flush = Recorder()
    async with running(flush, max_waiting_rows=10_000) as batcher:

        async def client(first: int) -> None:
            for row in range(first, first + 20):
                assert await batcher.submit("a", [row]) == [("a", row)]

        await asyncio.gather(*(client(n * 20) for n in range(200)))
    assert sorted(flush.answered()) == list(range(4000))
    assert len(flush.batches) < 100
