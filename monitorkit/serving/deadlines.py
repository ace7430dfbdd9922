"""How long connections may keep us waiting: a look once a second, which costs requests nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from monitorkit.serving.protocol import Phase, Protocol


class Deadlines:
    """Ends connections that have waited for one and the same thing for too long.

    Args:
        receive: seconds for the head of a request, for its body, and without a byte of an answer
            that is read.
        idle: seconds without a request.
    """

    def __init__(self, *, receive: float, idle: float) -> None:
        self._limits: Mapping[Phase, float] = {
            Phase.HEAD: receive,
            Phase.BODY: receive,
            Phase.UNREAD: receive,
            Phase.IDLE: idle,
        }
        self._waiting: dict[Protocol, tuple[Phase, object, int, float]] = {}

    def sweep(self, connections: Iterable[object]) -> None:
        """Look at every connection."""
        now = asyncio.get_running_loop().time()
        waiting: dict[Protocol, tuple[Phase, object, int, float]] = {}
        late = []
        for connection in connections:
            assert isinstance(connection, Protocol)  # noqa: S101 - the only one that is configured
            phase = connection.phase
            if phase is Phase.ANSWER:
                continue
            # The scope, which is kept, so that no other can have its place in memory meanwhile.
            scope, unread = connection.scope, connection.unread
            *before, since = self._waiting.get(connection, (None, None, 0, now))
            if before[0] is not phase or before[1] is not scope or before[2] != unread:
                since = now
            waiting[connection] = (phase, scope, unread, since)
            if now - since > self._limits[phase]:
                late.append(connection)
        self._waiting = waiting
        for connection in late:
            connection.time_out()
