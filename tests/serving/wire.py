"""The service on a real socket, as `monitorkit run` sets it up, bytes to and from it, its log."""

from __future__ import annotations

import asyncio
import csv
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from monitorkit.serving.application import Application
from monitorkit.serving.routes import routes
from monitorkit.serving.server import Server
from monitorkit.serving.services import Services

SECONDS = 10


@asynccontextmanager
async def listening(services: Services) -> AsyncIterator[tuple[int, Server]]:
    """Serve on a free loopback port; yields it."""
    settings = services.config.serving
    server = Server(Application(settings, None, *routes(services)), settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server._serve(sockets=[listener]))
        await until(lambda: server.started)
        try:
            yield listener.getsockname()[1], server
        finally:
            server.should_exit = True
            await task


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that will happen."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what a server does is no event of the tests'
            await asyncio.sleep(0.01)


def logged(services: Services) -> list[dict[str, str]]:
    """Every row of the log."""
    with (services.config.storage.predictions / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class Answer:
    """One answer, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """What ends its type."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json()["status"] == self.status
        return str(self.json()["type"]).removeprefix("urn:monitorkit:problem:")


class Connection:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Read one answer."""
        async with asyncio.timeout(SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            pairs = [line.split(": ", 1) for line in lines]
            headers = {name.lower(): value for name, value in pairs}
            assert len(headers) == len(pairs), f"a header is there twice: {pairs}"
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    async def rest(self, seconds: float = SECONDS) -> bytes:
        """Everything until the other side closes, which it must."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionResetError, BrokenPipeError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(port: int, **more: Any) -> AsyncIterator[Connection]:
    """Connect, and leave at the end."""
    connection = Connection(*await asyncio.open_connection("127.0.0.1", port, **more))
    try:
        yield connection
    finally:
        await connection.close()


def post(body: bytes, *headers: str, path: str = "/predict", length: int | None = None) -> bytes:
    """A request as most clients write it."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
