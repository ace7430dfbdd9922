"""A service on a real uvicorn and a free port of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn

from monitorkit.serving.application import Application
from monitorkit.serving.protocol import Protocol
from monitorkit.serving.routes import routes
from monitorkit.serving.services import Services


@asynccontextmanager
async def listening(services: Services) -> AsyncIterator[int]:
    """Serve on a free port; yields the port."""
    app = Application(services.config.serving, None, *routes(services))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", http=Protocol)
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server._serve(sockets=[listener]))
        await until(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what a service does is no event of the tests'
            await asyncio.sleep(0.005)
