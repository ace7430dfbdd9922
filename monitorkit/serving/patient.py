"""A look at the disk that does not wait for ever, and is not made twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread

import anyio


class Patient:
    """Calls a function in a thread, and waits for it for a while.

    While a call hangs, as a disk may, everybody waits for that one: each further one would take
    another thread that never comes back. The thread keeps no process from ending.

    Args:
        function: what is called.
        seconds: that somebody waits at most.
    """

    def __init__(self, function: Callable[[], None], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._call: Future[None] | None = None

    async def call(self) -> bool:
        """Whether the call that runs, or else a new one, came to its end in time.

        Raises:
            Exception: what the function raised.
        """
        if self._call is None or self._call.done():
            call: Future[None] = Future()
            call.set_running_or_notify_cancel()  # whoever gives up cancels it for nobody
            Thread(target=self._run, args=(call,), name="patient", daemon=True).start()
            self._call = call
        with anyio.move_on_after(self._seconds):
            await asyncio.wrap_future(self._call)
            return True
        return False

    def _run(self, call: Future[None]) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            call.set_exception(error)
        else:
            call.set_result(None)
