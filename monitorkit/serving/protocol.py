"""uvicorn's HTTP protocol, with the head and the body of an answer in one write.

uvicorn writes twice, which is two system calls, two packets and a client that wakes up twice: 15 us
of 120 that a request takes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoinedWrites(asyncio.Transport):
    """A transport that holds a write back until the next one or the end of this turn of the loop.

    Args:
        transport: takes the writes, and does everything else.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: bytes | bytearray | memoryview[Any] | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write, now or at the end of this turn."""
        if self._held is None:
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            held, self._held = self._held, None
            self._transport.writelines((held, data))

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            if not self._transport.is_closing():  # lost meanwhile: there is nobody to write to
                self._transport.write(held)

    def close(self) -> None:
        """Close once everything is written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._held = None
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it was closed, by whomever."""
        return self._transport.is_closing()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def pause_reading(self) -> None:
        """Read nothing for a while."""
        self._transport.pause_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)


class Protocol(HttpToolsProtocol):
    """What uvicorn makes for each connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection: uvicorn's type says the same of its own."""
        super().connection_made(JoinedWrites(transport))
