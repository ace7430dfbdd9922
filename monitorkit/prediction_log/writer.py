"""`Writer`: the one that appends. Rows become bytes here; a thread of its own does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal, cast

from aiofiles.threadpool.binary import AsyncFileIO

from monitorkit.errors import LogLocked, LogWriteFailed
from monitorkit.prediction_log.log_file import LogFile
from monitorkit.prediction_log.rows import Formatter, Prediction
from monitorkit.prediction_log.segment import CURRENT
from monitorkit.schema import FeatureSchema

INLINE_ROWS = 128
"""More rows are formatted in the thread: they would hold up the event loop for a millisecond."""


class Writer:
    """Appends rows: when `append` returns they are in the file, when it raises none of them is.

    Whatever stops it (a full disk, a folder that is gone) stops that append only; the next one
    tries again from scratch. Make one with `open`.
    """

    def __init__(self, file: LogFile, formatter: Formatter, threads: ThreadPoolExecutor) -> None:
        self.failure: str | None = None
        self._file = file
        self._formatter = formatter
        self._threads = threads
        self._async_file = AsyncFileIO(
            cast(BinaryIO, file), loop=None, executor=threads
        )  # all it needs is write and close
        self._path = str(file.path)
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        schema: FeatureSchema,
        *,
        durability: Literal["os", "fsync"],
        rotate_bytes: int,
    ) -> Writer:
        """Lock the folder, recover what a crash left behind, and be ready to append.

        Args:
            folder: made when it is not there.
            schema: of the rows to come.
            durability: "os": a row survives this process; "fsync": and a power failure.
            rotate_bytes: a larger predictions.csv is closed before the next append.

        Raises:
            LogLocked: another process writes here.
            LogWriteFailed: the log cannot be read or begun.
        """
        formatter = Formatter(schema)
        file = LogFile(
            folder, formatter.columns, sync=durability == "fsync", rotate_bytes=rotate_bytes
        )
        # One thread: the order of calls is the order of work, so nothing in LogFile needs a lock.
        threads = ThreadPoolExecutor(1, thread_name_prefix="prediction-log")
        try:
            await asyncio.get_running_loop().run_in_executor(threads, file.open)
        except BaseException as error:
            threads.submit(file.close)
            threads.shutdown(wait=False)
            if isinstance(error, OSError):
                raise LogWriteFailed(str(folder / CURRENT), reason(error)) from error
            raise
        return cls(file, formatter, threads)

    @property
    def rows(self) -> int:
        """Rows in all segments."""
        return self._file.total_rows

    async def append(self, schema: FeatureSchema, predictions: Sequence[Prediction]) -> None:
        """Append some rows at once; another schema than that of the open segment begins a new one.

        Cancelled, it may still write them.

        Raises:
            LogWriteFailed: none of them was written.
            ValueError: a row does not fit the schema.
        """
        if not predictions:
            return
        if self._closed:
            raise LogWriteFailed(self._path, "the log was closed")
        formatter = self._formatter
        if schema is not formatter.schema and schema != formatter.schema:
            formatter = Formatter(schema)
        if len(predictions) <= INLINE_ROWS:
            data = formatter.lines(predictions)
        else:
            loop = asyncio.get_running_loop()
            data = await loop.run_in_executor(self._threads, formatter.lines, predictions)
        if self._formatter.schema != schema:
            # The thread does this before the write that follows, and before nobody else's.
            self._formatter = formatter
            self._threads.submit(self._file.use, formatter.columns)
        try:
            await self._async_file.write(data)
        except (OSError, LogLocked) as error:
            self.failure = reason(error)
            raise LogWriteFailed(self._path, self.failure) from error
        self.failure = None

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
