"""An answer is one write; what is written alone waits for nothing but the end of this turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from monitorkit.serving.protocol import JoinedWrites, Protocol


class Recorder(asyncio.Transport):
    """Notes each call that would be a system call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.calls.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.calls.append([bytes(part) for part in list_of_data])

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "lost" in self.calls

    def abort(self) -> None:
        self.calls.append("abort")


async def test_two_writes_of_one_turn_are_one() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder)
    transport.write(b"head")
    assert recorder.calls == []
    transport.write(b"body")
    assert recorder.calls == [[b"head", b"body"]]
    await asyncio.sleep(0)
    assert recorder.calls == [[b"head", b"body"]]


async def test_a_write_alone_goes_out_at_the_end_of_the_turn() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder)
    transport.write(b"head")
    await asyncio.sleep(0)
    assert recorder.calls == [b"head"]
    transport.write(b"chunk")
    await asyncio.sleep(0)
    assert recorder.calls == [b"head", b"chunk"]


async def test_nothing_is_lost_and_nothing_changes_places() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder)
    for number in range(5):
        transport.write(b"%d" % number)
    transport.close()
    assert recorder.calls == [[b"0", b"1"], [b"2", b"3"], b"4", "close"]


async def test_what_is_held_is_gone_after_an_abort() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder)
    transport.write(b"head")
    transport.abort()
    await asyncio.sleep(0)
    assert recorder.calls == ["abort"]


async def test_what_is_held_when_the_connection_is_lost_is_dropped() -> None:
    recorder = Recorder()
    transport = JoinedWrites(recorder)
    transport.write(b"head")
    recorder.calls.append("lost")
    await asyncio.sleep(0)
    assert recorder.calls == ["lost"]


async def test_after_the_connection_is_lost_two_writes_are_none() -> None:
    recorder = Recorder()  # uvloop's raises then, and that would be an event
    transport = JoinedWrites(recorder)
    transport.write(b"head")
    recorder.calls.append("lost")
    transport.write(b"body")
    await asyncio.sleep(0)
    assert recorder.calls == ["lost"]


@asynccontextmanager
async def listening(app: Starlette) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, lifespan="off", http=Protocol
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


async def test_a_stream_begins_before_its_first_chunk_is_there() -> None:
    go = asyncio.Event()

    async def stream(_: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            await go.wait()
            yield b"one"
            yield b"two"

        return StreamingResponse(chunks())

    async with (
        listening(Starlette(routes=[Route("/", stream)])) as url,
        httpx.AsyncClient() as client,
        client.stream("GET", url) as response,
    ):
        assert response.status_code == 200  # the head is here, the chunks are not
        go.set()
        assert await response.aread() == b"onetwo"


async def test_many_answers_on_one_connection_and_one_that_closes_it() -> None:
    async def large(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x" * 3_000_000)

    async with (
        listening(Starlette(routes=[Route("/", large)])) as url,
        httpx.AsyncClient() as client,
    ):
        for _ in range(3):
            assert (await client.get(url)).text == "x" * 3_000_000
        response = await client.get(url, headers={"Connection": "close"})
        assert response.text == "x" * 3_000_000


async def test_who_sends_two_requests_and_leaves_is_known_to_have_left() -> None:
    ended = asyncio.Event()

    async def stream(_: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return StreamingResponse(chunks())

    async with listening(Starlette(routes=[Route("/", stream)])) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        await reader.readuntil(b"one")
        writer.close()
        async with asyncio.timeout(10):
            await ended.wait()
