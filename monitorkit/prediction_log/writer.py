"""`Writer`: the one that appends. Rows become bytes here, and then a write, at once or in a thread.

A write to the page cache takes 10 us, the way to a thread and back 80 us and a fight for the
interpreter's lock. So a small one is made on the event loop, as long as the disk keeps up; whatever
may take longer (a sync, a rotation, many rows, a file that somebody changed) goes through aiofiles.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from aiofiles.threadpool.binary import AsyncFileIO
from anyio import CapacityLimiter, to_thread

from monitorkit.errors import LogLocked, LogWriteFailed
from monitorkit.prediction_log.log_file import LogFile
from monitorkit.prediction_log.rows import Formatter, Prediction, Predictions
from monitorkit.schema import FeatureSchema

INLINE_ROWS = 128
"""More rows are formatted and written in threads: 1 ms is too long for the event loop."""

SLOW_SECONDS = 0.005
"""A write to the page cache that takes longer waited for the disk, or for a processor."""

PATIENCE_SECONDS = (0.1, 10.0)
"""For so long after a slow write all of them go through the thread: at first, and at most."""


class Thread(ThreadPoolExecutor):
    """One thread, so that the order of calls is the order of work; knows whether it has any."""

    def __init__(self) -> None:
        super().__init__(1, thread_name_prefix="prediction-log")
        self._open: set[Future[Any]] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing runs in it or waits for it."""
        return not self._open

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run something in the thread, after everything before it."""
        future = super().submit(fn, *args, **kwargs)
        self._open.add(future)  # all of them: one that was cancelled may wait behind one that runs
        future.add_done_callback(self._open.discard)
        return future


class Writer:
    """Appends rows: when `append` returns they are in the file, when it raises none of them is.

    Whatever stops it (a full disk, a folder that is gone) stops that append only; the next one
    tries again from scratch. Make one with `open`.
    """

    def __init__(self, file: LogFile, formatter: Formatter, threads: Thread) -> None:
        self.path = file.path
        """Of the segment that takes rows."""
        self.failure: str | None = None
        self.logged_rows = 0
        """Rows in the file since this writer was opened, as of the last append that returned."""
        self.slow_writes = 0
        """Writes on the event loop that waited for the disk."""
        self._patience = PATIENCE_SECONDS[0]
        self._patient_until = -math.inf
        self._file = file
        self._formatter = formatter
        self._threads = threads
        # All that aiofiles needs of a file is its methods.
        self._async_file = AsyncFileIO(cast(BinaryIO, file), loop=None, executor=threads)
        self._write_in_thread = cast(
            Callable[[bytes, bytes], Awaitable[int]], self._async_file.write
        )
        # Not in the log's own thread: 10 ms of 10,000 rows would hold up those that are ready.
        self._formatting = CapacityLimiter(2)
        self._locked = False  # another process did write, at the last append
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        schema: FeatureSchema,
        *,
        durability: Literal["os", "fsync"],
        rotate_bytes: int,
        instance: str = "",
    ) -> Writer:
        """Lock the folder, recover what a crash left behind, and be ready to append.

        Args:
            folder: made when it is not there.
            schema: of the rows to come.
            durability: "os": a row survives this process; "fsync": and a power failure.
            rotate_bytes: a larger predictions.csv is closed before the next append.
            instance: tells this writer's files from those of others in the folder; "": of the one
                that has none.

        Raises:
            LogLocked: another process writes these files.
            LogWriteFailed: the log cannot be read or begun.
        """
        formatter = Formatter(schema)
        file = LogFile(
            folder,
            formatter.columns,
            sync=durability == "fsync",
            rotate_bytes=rotate_bytes,
            instance=instance,
        )
        threads = Thread()
        try:
            await asyncio.get_running_loop().run_in_executor(threads, file.open)
        except BaseException as error:
            threads.submit(file.close)
            threads.shutdown(wait=False)
            if isinstance(error, OSError):
                raise LogWriteFailed(str(file.path), reason(error)) from error
            raise
        return cls(file, formatter, threads)

    @property
    def locked_out(self) -> bool:
        """Whether another process writes these files; looks at the disk when one did."""
        return self._locked and not self._file.can_be_locked()

    @property
    def rows(self) -> int:
        """Rows in all segments of this writer; other instances count their own."""
        return self._file.total_rows

    async def append(self, schema: FeatureSchema, predictions: Sequence[Prediction]) -> None:
        """Append some rows at once; another schema than that of the open segment begins a new one.

        Rows of several calls at once are written in the order in which they are ready. Cancelled,
        it may still write them.

        Raises:
            LogWriteFailed: none of them was written.
            ValueError: a row does not fit the schema.
        """
        if not predictions:
            return
        if self._closed:
            raise LogWriteFailed(str(self.path), "the log was closed")
        formatter = self._formatter
        if schema is not formatter.schema and schema != formatter.schema:
            formatter = Formatter(schema)
        rows = Predictions.of(predictions)
        few = len(rows) <= INLINE_ROWS
        if few:
            data = formatter.lines(rows)
        else:
            data = await to_thread.run_sync(formatter.lines, rows, limiter=self._formatting)
        if self._formatter.schema != schema:
            # The thread does this before the write that follows, and before nobody else's.
            self._formatter = formatter
            self._threads.submit(self._file.use, formatter.columns)
        latest = max(rows.timestamps).encode()
        try:
            if not (few and self._write_at_once(data, latest)):
                await self._write_in_thread(data, latest)
        except (OSError, LogLocked) as error:
            self.failure = reason(error)
            self._locked = isinstance(error, LogLocked)
            raise LogWriteFailed(str(self.path), self.failure) from error
        self.failure, self._locked = None, False
        # Not what the file has by now: a row of another call may be in it that did not return yet.
        self.logged_rows += data.count(b"\n")

    def _write_at_once(self, data: bytes, latest: bytes) -> bool:
        """Write on the event loop, if the disk keeps up and the thread leaves the file alone."""
        started = time.monotonic()
        if started < self._patient_until or not self._threads.idle:
            return False
        try:
            return self._file.write_at_once(data, latest)
        finally:
            ended = time.monotonic()
            if ended - started > SLOW_SECONDS:
                self._be_patient(ended)

    def _be_patient(self, now: float) -> None:
        """Leave the writing to the thread: twice as long when the last time was not long ago."""
        shortest, longest = PATIENCE_SECONDS
        again = now - self._patient_until < longest
        self._patience = min(2 * self._patience, longest) if again else shortest
        self._patient_until = now + self._patience
        self.slow_writes += 1

    async def close(self) -> None:
        """Finish what is under way and let go of the folder."""
        if not self._closed:
            self._closed = True
            await self._async_file.close()
            self._threads.shutdown(wait=False)


def reason(error: OSError | LogLocked) -> str:
    """What went wrong, in the operating system's words."""
    if isinstance(error, LogLocked):
        return "another process writes it"
    return error.strerror or str(error) or type(error).__name__
