"""The service on a real socket: keep-alive, streamed bodies, full queues, clients that leave."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
from structlog.testing import capture_logs
from wire import connected, listening, until

from monitorkit.engines import Choice, Engine, Scorer, Timed
from monitorkit.serving.predict import WATCH_FROM_ROWS
from monitorkit.serving.protocol import MOST_PIPELINED, Protocol
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
Row = dict[str, Any]


class Held:
    """The same model, which waits in its thread until it is let go."""

    def __init__(self, served: Served) -> None:
        self.gate = threading.Event()
        self.reached = threading.Event()
        slow = Timed(Engine("test", self._scores), 1000.0, 1.0)
        model = replace(served.model, scorer=Scorer(Choice("test"), slow, slow, math.inf))
        self.served = replace(served, model=model)

    def _scores(self, rows: Any) -> Any:
        self.reached.set()
        assert self.gate.wait(10)
        return np.full(len(rows), 0.25)


def request(row: Row, path: str = "/predict") -> bytes:
    body = json.dumps(row).encode()
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        len(body),
        body,
    )


async def test_a_connection_is_kept_through_answers_and_errors(serve: Serve, row: Row) -> None:
    async with (
        serve({"max_body": 1000}) as (services, _),
        listening(services) as (port, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        statuses = []
        for body in (json.dumps(row), "{", json.dumps(row), " " * 100_000, json.dumps(row)):
            response = await client.post("/predict", content=body)
            statuses.append(response.status_code)
            assert "content-length" in response.headers
        assert statuses == [200, 400, 200, 413, 200]
        assert (await client.head("/health")).content == b""


async def test_a_streamed_body_beyond_the_limit_is_a_413_before_its_end(serve: Serve) -> None:
    async with serve({"max_body": 1000}) as (services, _), listening(services) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(11):
            writer.write(b"64\r\n" + b" " * 100 + b"\r\n")
        await writer.drain()
        status = await asyncio.wait_for(reader.readline(), 10)
        assert status.startswith(b"HTTP/1.1 413 ")
        writer.close()
        await writer.wait_closed()


async def test_an_announced_body_beyond_the_limit_is_refused_before_it_is_sent(
    serve: Serve,
) -> None:
    async with serve({"max_body": 1000}) as (services, _), listening(services) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        status = await asyncio.wait_for(reader.readline(), 10)
        assert status.startswith(b"HTTP/1.1 413 "), "and no 100 Continue"
        writer.close()
        await writer.wait_closed()


async def test_clients_that_leave_a_long_queue_are_dropped_before_dispatch(
    serve: Serve, served: Served, row: Row
) -> None:
    async with serve() as (services, _), listening(services) as (port, _):
        held = Held(served)
        services.slot.current = held.served
        batcher = services.pipeline.batcher
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            running = asyncio.create_task(client.post("/predict", json=row))
            await until(held.reached.is_set)
            some = [row] * (WATCH_FROM_ROWS // 4)  # few enough to wait with single ones
            stayers = [
                asyncio.create_task(client.post("/predict/batch", json=some)) for _ in range(4)
            ]
            await until(lambda: batcher.waiting_rows == WATCH_FROM_ROWS)
            leavers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for _, writer in leavers:
                writer.write(request(row))
            await until(lambda: batcher.waiting_rows == WATCH_FROM_ROWS + 3)
            with capture_logs() as events:
                for _, writer in leavers:
                    writer.close()
                await until(lambda: batcher.dropped_rows == 3)
                await asyncio.sleep(0.05)
            assert events == [], "a client that left is no error"
            assert batcher.waiting_rows == WATCH_FROM_ROWS
            held.gate.set()
            answers = await asyncio.gather(running, *stayers)
        assert {answer.status_code for answer in answers} == {200}
        assert services.writer.rows == WATCH_FROM_ROWS + 1
        assert batcher.late_rows == 0


async def test_what_waits_behind_an_answer_is_limited_and_goes_with_its_client(
    serve: Serve, served: Served, row: Row
) -> None:
    async with serve() as (services, _), listening(services) as (port, running):
        held = Held(served)
        services.slot.current = held.served
        async with connected(port) as connection:
            await connection.send(request(row) * 300)
            await until(held.reached.is_set)
            [protocol] = running.server_state.connections
            assert isinstance(protocol, Protocol)
            assert len(protocol.pipeline) == MOST_PIPELINED
        await until(lambda: not running.server_state.connections)
        assert not protocol.pipeline
        held.gate.set()


async def test_too_many_waiting_rows_are_a_503_at_once(
    serve: Serve, served: Served, row: Row
) -> None:
    async with (
        serve({"max_waiting_rows": 5}) as (services, _),
        listening(services) as (port, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        held = Held(served)
        services.slot.current = held.served
        batcher = services.pipeline.batcher
        running = asyncio.create_task(client.post("/predict", json=row))
        await until(held.reached.is_set)
        waiting = [asyncio.create_task(client.post("/predict", json=row)) for _ in range(5)]
        await until(lambda: batcher.waiting_rows == 5)
        for path, body, rows in (("/predict", row, 1), ("/predict/batch", [row, row], 3)):
            response = await client.post(path, json=body)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert response.json()["type"] == "urn:monitorkit:problem:overloaded"
            assert "5 rows wait already, the limit is 5" in response.json()["detail"]
            health = (await client.get("/health")).json()
            assert (health["queue"]["refused_rows"], health["queue"]["waiting_rows"]) == (rows, 5)
        held.gate.set()
        assert {r.status_code for r in await asyncio.gather(running, *waiting)} == {200}
        assert services.writer.rows == 6


async def test_when_the_service_stops_accepted_rows_are_answered_and_new_ones_refused(
    serve: Serve, served: Served, row: Row
) -> None:
    async with serve() as (services, client):
        held = Held(served)
        services.slot.current = held.served
        running = asyncio.create_task(client.post("/predict", json=row))
        await until(held.reached.is_set)
        closing = asyncio.create_task(services.pipeline.close())
        await asyncio.sleep(0)
        response = await client.post("/predict", json=row)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.json()["type"] == "urn:monitorkit:problem:stopping"
        held.gate.set()
        assert (await running).status_code == 200
        await closing
        assert services.writer.rows == 1


async def test_a_batch_whose_client_leaves_while_it_runs_completes_and_counts_as_late(
    serve: Serve, served: Served, row: Row
) -> None:
    async with serve() as (services, _), listening(services) as (port, _):
        held = Held(served)
        services.slot.current = held.served
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps([row] * 5).encode()
        writer.write(
            b"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await until(held.reached.is_set)
        writer.close()
        await asyncio.sleep(0.1)
        held.gate.set()
        await until(lambda: services.pipeline.batcher.late_rows == 5)
        assert services.writer.rows == 5


async def test_a_client_that_leaves_within_its_body_harms_nothing(serve: Serve, row: Row) -> None:
    async with serve() as (services, _), listening(services) as (port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/predict", json=row)).status_code == 200
        assert services.writer.rows == 1


async def test_two_hundred_connections_at_once_lose_nothing(
    serve: Serve, served: Served, row: Row
) -> None:
    async with serve() as (services, _), listening(services) as (port, _):
        answers: list[tuple[float, dict[str, Any]]] = []

        async def client(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for turn in range(5):
                ratio = number + turn / 10
                writer.write(request(row | {"DebtRatio": ratio}))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                answers.append((ratio, json.loads(await reader.readexactly(length))))
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client(n) for n in range(200)))
    assert len({answer["prediction_id"] for _, answer in answers}) == services.writer.rows == 1000
    ratios = np.array([[45, 2, ratio, 5400.5] for ratio, _ in answers], dtype=np.float64)
    expected = served.model.scores(ratios)
    found = np.array([answer["probability"] for _, answer in answers])
    assert np.abs(found - expected).max() < 1e-12


async def test_a_connection_that_is_gone_is_freed_without_a_collection(
    serve: Serve, row: Row
) -> None:
    """Full collections are far between in a service, and what is frozen at a reload stays."""

    def protocols() -> int:
        return sum(type(each) is Protocol for each in gc.get_objects())

    async def ended_by_client(port: int) -> None:
        async with connected(port) as client:
            await client.send(request(row))
            assert (await client.answer()).status == 200

    async def ended_by_us(port: int) -> None:
        async with connected(port) as client:
            await client.send(b"no request\r\n\r\n")
            assert (await client.rest()).startswith(b"HTTP/1.1 400")

    async def left_before_its_answer(port: int) -> None:
        async with connected(port) as client:
            await client.send(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    with capture_logs() as events:
        async with serve() as (services, _), listening(services) as (port, server):
            gc.collect()
            before = protocols()
            gc.disable()
            try:
                for how in (ended_by_client, ended_by_us, left_before_its_answer):
                    async with asyncio.TaskGroup() as tasks:
                        for _ in range(20):
                            tasks.create_task(how(port))
                    await until(lambda: not server.server_state.connections)
                    await until(lambda: protocols() - before < 5)
            finally:
                gc.enable()
    assert [event for event in events if event["log_level"] != "info"] == []
