"""uvicorn's HTTP protocol, with an answer in one write, and limits on what clients send.

uvicorn writes head and body apart, which is two system calls, two packets and a client that wakes
up twice: 15 us of 120 that a request takes. And it takes a head of any length, waits for ever for
the rest of a request, and resets the connection of a client that still sends when it is answered.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httptools
import uuid_utils
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from monitorkit.serving import problems, request_ids
from monitorkit.serving.problems import Problem

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ

MAX_HEAD = 64 * 1024
"""Bytes of a request's head, beside those of the first read, which are 256 KiB at most."""

FRAMED = 6
"""A chunked body has at most so many bytes for each of its own; more is chatter around it."""

MOST_PIPELINED = 100
"""Requests that wait for the answer before them, 2 kB each; 13,000 may come in one read."""

LINGER = 2.0
"""Seconds in which a client that still sends can read why nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take.

    Attributes:
        connections: at the same time.
        body: bytes.
    """

    connections: int = 1_000_000
    body: int = 4 * 1024**2


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "another request"
    HEAD = "the head of a request"
    BODY = "the rest of a body"
    ANSWER = "its answer"
    UNREAD = "its client, to read"


class JoinedWrites(asyncio.Transport):
    """A transport that holds a write back until the next one or the end of this turn of the loop.

    Args:
        transport: takes the writes, and does everything else.
        close: how to close it; None: at once.
    """

    def __init__(
        self, transport: asyncio.Transport, close: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._transport = transport
        self._close = close or transport.close
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._held: bytes | bytearray | memoryview[Any] | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write, now or at the end of this turn."""
        if self._held is None:
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            held, self._held = self._held, None
            if not self._transport.is_closing():  # as in `_flush`
                self._transport.writelines((held, data))

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            if not self._transport.is_closing():  # lost meanwhile: there is nobody to write to
                self._transport.write(held)

    def close(self) -> None:
        """Close once everything is written."""
        if not self._closed:
            self._closed = True
            self._flush()
            self._close()

    def let_go(self) -> None:
        """Hold on to nobody: `close` belongs to who has this."""
        self._close = self._transport.close

    def abort(self) -> None:
        """Close at once."""
        self._held = None
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it was closed, by whomever."""
        return self._closed or self._transport.is_closing()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def pause_reading(self) -> None:
        """Read nothing for a while."""
        self._transport.pause_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)


class Lingering(asyncio.Protocol):
    """Takes over a connection that was answered and still sends: reads on for a while, for nothing.

    Closed at once, the connection would be reset, and most clients would never see the answer.

    Args:
        transport: on which the answer is.
        all_of_them: takes note of this one as long as it is open.
    """

    def __init__(self, transport: asyncio.Transport, all_of_them: set[asyncio.Protocol]) -> None:
        try:
            if transport.can_write_eof():
                transport.write_eof()
        except OSError:  # the client left in this moment
            transport.abort()
        self._end = asyncio.get_running_loop().call_later(LINGER, transport.abort)
        self._all = all_of_them
        self._all.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """The client has left."""
        self._all.discard(self)
        self._end.cancel()


def _parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """One as uvicorn makes it."""
    parser = httptools.HttpRequestParser(protocol)
    with suppress(AttributeError):  # httptools before 0.6.3
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _taken(transport: asyncio.Transport) -> int:
    """Bytes that the system took and the client did not, where it tells.

    It takes more only when a third of its some MB are free: a slow client may need minutes for it.
    """
    if sys.platform == "win32":
        return 0
    descriptor = transport.get_extra_info("socket").fileno()
    try:
        return int.from_bytes(ioctl(descriptor, TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # it is closed
        return 0


class Protocol(HttpToolsProtocol):
    """What uvicorn makes for each connection.

    Args:
        given, named: uvicorn's.
        limits: what clients may take; None: as much as they like.
        others: connections of the server that are open, and not yet or no longer its own.
    """

    def __init__(
        self,
        *given: Any,
        limits: Limits | None = None,
        others: set[asyncio.Protocol] | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        self._limits = limits or Limits()
        self._others = set() if others is None else others
        self._socket: asyncio.Transport = None  # type: ignore[assignment] # until it is made
        self._running: RequestResponseCycle | None = None
        self._counted: object = None
        self._received = 0
        self._refused = False

    @property
    def phase(self) -> Phase:
        """What it waits for now."""
        if self._socket.get_write_buffer_size():
            return Phase.UNREAD
        cycle = self.cycle
        if cycle is None:
            return Phase.HEAD
        if self.pipeline or not (cycle.response_complete or cycle.more_body):
            return Phase.ANSWER
        if cycle.scope is not self.scope:
            return Phase.HEAD if cycle.response_complete else Phase.ANSWER
        return Phase.BODY if cycle.more_body else Phase.IDLE

    @property
    def unread(self) -> int:
        """Bytes of answers that the client has not read; 0 when the system took all of them."""
        waiting = self._socket.get_write_buffer_size()
        return waiting + _taken(self._socket) if waiting else 0

    @property
    def _open(self) -> int:
        """Connections of the server, each of which takes a file."""
        return len(self.connections) + len(self._others)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection: uvicorn's type says the same of its own."""
        self._socket = transport
        self._others.discard(self)  # it is uvicorn's now
        super().connection_made(JoinedWrites(transport, self._close))
        if self._open > self._limits.connections:
            self._write(problems.too_many_connections(self._limits.connections))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the answer that is under way. uvicorn tells the last one, of several at once."""
        super().connection_lost(exc)
        self.pipeline.clear()  # nobody answers these, and only a full collection would free them
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self._let_go()

    def _let_go(self) -> None:
        """Be freed now, with the last request's head: full collections are far between."""
        self._running = None
        self.parser = None  # type: ignore[assignment] # as uvicorn does
        if isinstance(self.transport, JoinedWrites):
            self.transport.let_go()

    def data_received(self, data: bytes) -> None:
        """Take what a client sent. uvicorn's own would be a warning for every wrong request."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refuse(problems.no_request())
            return
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.scope is not self.scope:
            self._count(len(data))

    def _parse(self, data: bytes) -> None:
        """Parse what came, and take an offer of another protocol for a request as any other.

        That is what it is when nobody takes it up. The parser leaves out its body, and what follows
        in the same packet, so it reads the head once more, without the offer.

        Raises:
            HttpParserError: it is no HTTP.
            HttpParserUpgrade: it is a CONNECT, which is no offer.
        """
        left: bytes | memoryview[int] = data
        while left:
            try:
                self.parser.feed_data(left)
            except httptools.HttpParserUpgrade as offer:
                if not self._is_offer:
                    raise
                head = self._head_without_offer()
                self.parser = _parser(self)
                self.parser.feed_data(head)
                left = memoryview(left)[offer.args[0] :]
            else:
                return

    @property
    def _is_offer(self) -> bool:
        """Whether the request that is read offers another protocol, none of which is spoken."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([b"%b %b HTTP/%b" % (method, self.url, version), *lines, b"", b""])

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is read once more.

        Raises:
            ValueError: too many wait; to the parser that is no request, see `refuse`.
        """
        if self._is_offer:
            return
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests before an answer")
        super().on_headers_complete()
        if not self.pipeline:  # otherwise it waits for the one that runs
            self._running = self.cycle

    def on_message_complete(self) -> None:
        """The body is here, unless the head is read once more."""
        if not self._is_offer:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, if it is here."""
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()

    def _count(self, received: int) -> None:
        """Stop a head, or what surrounds a chunked body, that goes on and on."""
        if self.scope is not self._counted:
            self._counted, self._received = self.scope, 0
            return
        self._received += received
        if self.cycle is not None and self.cycle.scope is self.scope:
            if self._received > MAX_HEAD + FRAMED * self._limits.body:
                self.refuse(problems.too_large(self._limits.body))
        elif self._received > MAX_HEAD:
            self.refuse(problems.head_too_large(MAX_HEAD))

    def refuse(self, problem: Problem) -> None:
        """Answer what is no request, or not a whole one, and end the connection.

        A request before it that is under way is answered, and nothing after that.
        """
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.abort()
                return
            if self.pipeline or not cycle.more_body:
                cycle.keep_alive = False
                self._refused = True
                self.flow.pause_reading()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._refused = True
        self._write(problem)
        self.transport.close()

    def time_out(self) -> None:
        """End a connection on which what is waited for has not come in time."""
        if self.phase is Phase.UNREAD:  # nor would it read why
            self.transport.abort()
        elif self.phase is Phase.IDLE or self.scope is None:
            self.transport.close()
        else:
            self.refuse(problems.too_slow())

    def _write(self, problem: Problem) -> None:
        cycle = self.cycle
        # Only of a request whose head is here is the id known that its client gave.
        here = cycle is not None and cycle.scope is self.scope and not cycle.response_complete
        identity = (
            request_ids.of(self.scope)  # type: ignore[arg-type] # the mapping that the app gets
            if here
            else str(uuid_utils.uuid7())
        )
        body = problems.encode(problem, identity)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
            (request_ids.HEADER, identity.encode()),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body]))

    def _close(self) -> None:
        """Close the socket; not at once when the client may still send."""
        unread = self._refused or (self.cycle is not None and self.cycle.more_body)
        if self._open >= self._limits.connections:  # others need the place
            unread = False
        if not unread or self._socket.is_closing():
            self._socket.close()
            return
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.flow.resume_reading()
        self._socket.set_protocol(Lingering(self._socket, self._others))
        self.loop.call_soon(self._let_go)  # the parser may be the one that calls
