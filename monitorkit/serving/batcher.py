"""Callers that wait while a batch runs form the next one. It knows no model, no log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence, Sized
from typing import Generic, Protocol, Self, TypeVar

import anyio

from monitorkit.errors import Overloaded, Stopping


class Answers(Protocol):
    """Answers to rows, in their order; each caller gets a stretch of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, stretch: slice, /) -> Self: ...


G = TypeVar("G")
R = TypeVar("R", bound=Sized)
A = TypeVar("A", bound=Answers)


class _Caller(Generic[G, R, A]):
    """One submission: its rows, and the future on which it waits."""

    __slots__ = ("answers", "count", "group", "lane", "queued", "rows")

    def __init__(self, lane: Lane[G, R, A], group: G, rows: R, answers: asyncio.Future[A]) -> None:
        self.lane = lane
        self.group = group
        self.rows: R | None = rows  # None: dropped, and not to be held in memory until its turn
        self.count = len(rows)
        self.answers = answers
        self.queued = True


class Lane(Generic[G, R, A]):
    """Callers that wait for those before them here, and for nobody else."""

    def __init__(self) -> None:
        self.waiting_rows = 0
        self.queue: deque[_Caller[G, R, A]] = deque()
        self._wake: asyncio.Future[None] | None = None

    def put(self, caller: _Caller[G, R, A]) -> None:
        """Let a caller queue."""
        self.queue.append(caller)
        self.waiting_rows += caller.count
        self.wake_up()

    def take(self, most: int) -> list[_Caller[G, R, A]]:
        """The next batch: from the head of the queue, of one group, without those who left."""
        batch: list[_Caller[G, R, A]] = []
        total = 0
        while self.queue:
            caller = self.queue[0]
            if caller.queued:
                count = caller.count
                if batch and (caller.group is not batch[0].group or total + count > most):
                    break
                caller.queued = False
                batch.append(caller)
                total += count
            self.queue.popleft()
        self.waiting_rows -= total
        return batch

    async def filled(self) -> None:
        """Wait until somebody queues, or there is another reason to look."""
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    def wake_up(self) -> None:
        """Let `filled` return."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Batcher(Generic[G, R, A]):
    """Turns concurrent submissions into flushes, in order of arrival.

    When idle a submission is dispatched at once; while a flush runs callers queue, and what has
    queued by its end is the next batch. There is no timer. A batch never mixes groups. Few rows and
    many have a lane each: a flush of ten thousand takes as long as hundreds of single ones, which
    go on beside it. All methods belong to the event loop that `run` runs on.

    Args:
        flush: answers the rows of one group, caller by caller: as many answers as rows of all of
            them, in their order.
        max_waiting_rows: rows that may queue in a lane beside the batch that runs; beyond it
            `submit` raises. One submission may be larger than that when nothing else waits there.
        many_rows: as many in one submission, or more, take the lane for many.
        max_flush_rows: rows in one batch; a larger submission is a batch of its own.
        isolate: errors that are the fault of some rows and left no trace. A batch that fails with
            one is divided until only the callers with those rows fail.
    """

    def __init__(
        self,
        flush: Callable[[G, Sequence[R]], Awaitable[A]],
        *,
        max_waiting_rows: int,
        many_rows: int = 256,
        max_flush_rows: int = 10_000,
        isolate: tuple[type[Exception], ...] = (),
    ) -> None:
        self.few: Lane[G, R, A] = Lane()
        self.many: Lane[G, R, A] = Lane()
        self.served_rows = 0  # flushed, and answered to whoever was still there
        self.answered_rows = 0
        """Rows answered to callers who were still there then; a few may count as late, too."""
        self.refused_rows = 0
        """Rows refused because too many waited."""
        self.failed_rows = 0
        """Rows that could not be answered: the model or the log failed."""
        self.dropped_rows = 0
        """Rows whose caller left before they were dispatched; nothing was done for them."""
        self.late_rows = 0
        """Rows whose caller left while they were being answered: logged, and told to nobody."""
        self._flush = flush
        self._max_waiting_rows = max_waiting_rows
        self._many_rows = many_rows
        self._max_flush_rows = max_flush_rows
        self._isolate = isolate
        self._running = False
        self._closing = False
        self._ended = asyncio.Event()

    @property
    def waiting_rows(self) -> int:
        """Rows that queue, in both lanes."""
        return self.few.waiting_rows + self.many.waiting_rows

    async def submit(self, group: G, rows: R) -> A:
        """Wait for the answers to some rows.

        Args:
            group: only rows of the same group (by identity) share a batch.
            rows: at least one; not to be changed any more.

        Raises:
            Overloaded: too many rows wait already in this lane.
            Stopping: the batcher was closed.
            Exception: what `flush` raised for these rows.
        """
        if self._closing:
            raise Stopping
        count = len(rows)
        lane = self.few if count < self._many_rows else self.many
        if lane.waiting_rows and lane.waiting_rows + count > self._max_waiting_rows:
            self.refused_rows += count
            raise Overloaded(lane.waiting_rows, self._max_waiting_rows)
        answers: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        caller = _Caller(lane, group, rows, answers)
        lane.put(caller)
        try:
            return await answers
        except asyncio.CancelledError:
            self._leave(caller)
            raise
        finally:
            # An error's traceback leads here: it would hold itself, and the rows.
            del answers, caller

    async def run(self) -> None:
        """Dispatch until closed and drained; cancelled, whoever still waits gets `Stopping`."""
        self._running = True
        try:
            async with anyio.create_task_group() as lanes:
                lanes.start_soon(self._run, self.few)
                lanes.start_soon(self._run, self.many)
        finally:
            self._end()

    async def _run(self, lane: Lane[G, R, A]) -> None:
        while True:
            batch = lane.take(self._max_flush_rows)
            if batch:
                await self._dispatch(batch)
            elif self._closing:
                return
            else:
                await lane.filled()

    async def close(self) -> None:
        """Refuse new rows, and return when every accepted one is answered."""
        self._closing = True
        if self._running:
            self.few.wake_up()
            self.many.wake_up()
        else:
            self._end()
        await self._ended.wait()

    def _end(self) -> None:
        self._closing = True
        for lane in (self.few, self.many):
            self._fail(lane.queue, Stopping())
            lane.queue.clear()
            lane.waiting_rows = 0
        self._ended.set()

    async def _dispatch(self, batch: list[_Caller[G, R, A]]) -> None:
        pending = [batch]
        try:
            while pending:
                callers = pending[-1]
                error = await self._try(callers)
                pending.pop()
                if error is None:
                    continue
                if len(callers) > 1 and isinstance(error, self._isolate):
                    middle = len(callers) // 2
                    pending += [callers[middle:], callers[:middle]]
                else:
                    self.failed_rows += sum([caller.count for caller in callers])
                    self._fail(callers, error)
        except BaseException:
            for callers in pending:
                self._fail(callers, Stopping())
            raise

    async def _try(self, callers: list[_Caller[G, R, A]]) -> Exception | None:
        """Flush once; the error instead of answers, if any."""
        parts = [caller.rows for caller in callers if caller.rows is not None]
        count = sum([caller.count for caller in callers])
        try:
            answers = await self._flush(callers[0].group, parts)
        except Exception as error:  # noqa: BLE001 - it is the callers' to handle
            del callers, parts  # as in `submit`
            return error
        if len(answers) != count:
            return RuntimeError(f"{len(answers)} answers to {count} rows")
        self._answer(callers, answers)
        return None

    def _answer(self, batch: list[_Caller[G, R, A]], answers: A) -> None:
        self.served_rows += len(answers)
        start = 0
        for caller in batch:
            end = start + caller.count
            if caller.answers.done():
                self.late_rows += end - start
            else:
                caller.answers.set_result(answers[start:end])
                self.answered_rows += end - start
            start = end

    def _fail(self, callers: Iterable[_Caller[G, R, A]], error: Exception) -> None:
        for caller in callers:
            if not caller.answers.done():
                caller.answers.set_exception(error)

    def _leave(self, caller: _Caller[G, R, A]) -> None:
        """A caller was cancelled; what waits is dropped, what runs completes."""
        if caller.queued:
            caller.queued = False
            caller.lane.waiting_rows -= caller.count
            self.dropped_rows += caller.count
            caller.rows = None
        elif not caller.answers.cancelled() and caller.answers.exception() is None:
            # Answered and cancelled within one turn of the loop.
            self.late_rows += caller.count
