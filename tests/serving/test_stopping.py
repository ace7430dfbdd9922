"""A service that stops tells those whose answer is not ready in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
from structlog.testing import capture_logs
from wire import connected, listening, post

from monitorkit.contracts import RunResult
from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]


async def test_what_takes_longer_than_the_grace_is_answered_503(serve: Serve) -> None:
    began = asyncio.Event()

    async def for_ever(_: bool) -> RunResult:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    settings: dict[str, Any] = {"shutdown_grace": "1s", "access_log": True}
    with capture_logs() as events:
        async with (
            serve(settings, force_cycle=for_ever) as (services, _),
            listening(services) as (port, server),
            connected(port) as connection,
        ):
            await connection.send(post(b"{}", path="/monitoring/run"))
            await began.wait()
            server.should_exit = True
            answer = await connection.answer()
    assert answer.status == 503
    assert answer.problem == "stopping"
    assert answer.headers["x-request-id"]
    told = [event for event in events if event["event"] != "listening"]
    assert [(event["event"], event.get("status")) for event in told] == [("request", 503)]
