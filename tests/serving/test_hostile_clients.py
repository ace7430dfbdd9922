"""What clients send that no honest one does, over real sockets to the server as it is configured.

Taken out, each protection makes a test here fail: `Protocol.refuse`, `Protocol._count`,
`Lingering`, `Deadlines`, the limit in `connection_made`, `_refuse_compressed` and the limits in
`check_head` and `read_json_body`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvloop
from structlog.testing import capture_logs
from wire import Answer, Connection, connected, listening, post, until

from monitorkit.serving import server
from monitorkit.serving.deadlines import Deadlines
from monitorkit.serving.protocol import LINGER, MAX_HEAD, MOST_PIPELINED, Phase, Protocol
from monitorkit.serving.server import Server
from monitorkit.serving.services import Services
from monitorkit.settings import Serving

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
Row = dict[str, Any]
At = Callable[..., AbstractAsyncContextManager[tuple[int, Server, Services]]]

CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def at(serve: Serve) -> At:
    """A port, its server and services: `async with at(max_body=100) as (port, server, services)`.

    At its end the service still answers, and no request that was refused is in the log or an event.
    """

    @asynccontextmanager
    async def start(**serving: Any) -> AsyncIterator[tuple[int, Server, Services]]:
        with capture_logs() as events:
            async with serve(serving) as (services, _), listening(services) as (port, running):
                yield port, running, services
                async with connected(port) as honest:
                    await honest.send(GET)
                    assert (await honest.answer()).status == 200
        assert [event["event"] for event in events if event["event"] != "listening"] == []

    return start


@pytest.fixture
def body(row: Row) -> bytes:
    return json.dumps(row).encode()


async def answered(connection: Connection, seconds: float = 10) -> Answer:
    """The answer to what was sent, after which the other side closes."""
    answer = await connection.answer()
    assert answer.headers["connection"] == "close"
    assert await connection.rest(seconds) == b""
    return answer


# -- bodies


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/monitoring/run"])
async def test_a_body_that_is_announced_too_large_is_not_waited_for(at: At, path: str) -> None:
    async with at(max_body=1000) as (port, _, _), connected(port) as connection:
        await connection.send(post(b"", path=path, length=10**12))
        assert (await answered(connection)).problem == "too-large"


@pytest.mark.parametrize("digits", [19, 4400, 40_000])
async def test_a_length_beyond_all_numbers_is_refused(at: At, digits: int) -> None:
    async with at() as (port, _, _), connected(port) as connection:
        await connection.send(post(b"", length=10**18).replace(b"10" + b"0" * 17, b"9" * digits))
        assert (await connection.answer()).status in (400, 413)
        await connection.rest()


async def test_a_client_that_goes_on_sending_sees_its_413_and_is_cut_off(at: At) -> None:
    async with at(max_body=100_000) as (port, running, _), connected(port) as connection:
        await connection.send(CHUNKED)
        started = time.monotonic()
        sent = 0

        async def send() -> None:
            nonlocal sent
            chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
            while True:
                await connection.send(chunk)
                sent += 65536
                await asyncio.sleep(0.001)

        sending = asyncio.create_task(send())
        assert (await connection.answer()).problem == "too-large"
        assert sent < 4 * 1024**2, "it was not read to see that"
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await asyncio.wait_for(sending, LINGER + 5)
        assert time.monotonic() - started < LINGER + 3
        assert not running.server_state.connections


Over = Callable[..., AbstractAsyncContextManager[tuple[int, Server, httpx.AsyncClient]]]


@pytest.fixture
def over_https(at: At, tmp_path: Path) -> Over:
    """A port, its server, and a client that knows its certificate."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    both = str(tmp_path / "both.pem")

    @asynccontextmanager
    async def start(**serving: Any) -> AsyncIterator[tuple[int, Server, httpx.AsyncClient]]:
        # The honest client of `at` speaks no TLS.
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):  # noqa: PT012
            async with at(**serving, tls_certificate=both, tls_key=both) as (port, running, _):
                url = f"https://127.0.0.1:{port}"
                async with httpx.AsyncClient(base_url=url, verify=trusting) as client:
                    yield port, running, client

    return start


async def test_a_large_upload_over_https_sees_its_413(over_https: Over, row: Row) -> None:
    async with over_https() as (_, _, client):
        for _ in range(3):
            large = await client.post("/predict", content=b" " * 20_000_000)
            assert large.status_code == 413
            assert (await client.post("/predict", json=row)).status_code == 200


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_each_of_many_handshakes_is_one(
    over_https: Over, row: Row, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Whatever a client sends, and how early: its request comes with the end of its handshake."""

    async def many() -> None:
        async with over_https() as (_, _, client):
            for _ in range(100):
                closing = {"Connection": "close"}
                answer = await client.post("/predict", json=row, headers=closing)
                assert answer.status_code == 200

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(many())


async def test_connections_count_before_they_speak_tls(over_https: Over, row: Row) -> None:
    """Each is a file, and the log needs some."""
    async with (
        over_https(max_connections=20, receive_timeout="60s") as (port, _, client),
        AsyncExitStack() as stack,
    ):
        before = open_files()
        for _ in range(40):
            await stack.enter_async_context(connected(port))
        theirs = 40
        await until(lambda: open_files() - before - theirs <= 20)
        with pytest.raises(httpx.HTTPError):
            await client.post("/predict", json=row)
        await stack.aclose()
        await until(lambda: open_files() <= before)
        assert (await client.post("/predict", json=row)).status_code == 200


async def test_who_never_speaks_tls_is_waited_for_no_longer_than_for_a_request(
    over_https: Over,
) -> None:
    async with over_https(receive_timeout="1s") as (port, _, _), connected(port) as silent:
        started = time.monotonic()
        assert await silent.rest() == b""
        assert 0.9 < time.monotonic() - started < 4


async def test_a_handshake_that_fails_in_whatever_way_is_the_only_one(
    over_https: Over, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("as no one knew it")

    async with over_https() as (port, _, client):
        with monkeypatch.context() as patched:
            patched.setattr(loop, "connect_accepted_socket", fail)
            async with connected(port) as connection:
                assert await connection.rest() == b""
        assert (await client.get("/ready")).status_code == 200
    assert [str(each["exception"]) for each in told] == ["as no one knew it"]


async def test_a_handshake_that_has_not_ended_does_not_hold_up_the_end(over_https: Over) -> None:
    async with AsyncExitStack() as stack:
        async with over_https(receive_timeout="60s") as (port, _, _):
            await stack.enter_async_context(connected(port))
            await asyncio.sleep(0.1)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 5


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "identity, gzip", "x"])
async def test_a_compressed_body_is_refused_unread(at: At, body: bytes, encoding: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000 + body)
    async with at() as (port, _, services), connected(port) as connection:
        await connection.send(post(bomb, f"Content-Encoding: {encoding}"))
        answer = await connection.answer()
        assert answer.problem == "unsupported-media-type"
        assert answer.headers["accept-encoding"] == "identity"
        assert services.writer.rows == 0


async def test_what_is_not_compressed_may_say_so(at: At, body: bytes) -> None:
    async with at() as (port, _, _), connected(port) as connection:
        await connection.send(post(body, "Content-Encoding: identity"))
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize("start", ["application/json", "application/json; charset=utf-8"])
async def test_a_media_type_that_is_made_to_hurt_is_refused_in_a_moment(
    at: At, body: bytes, start: str
) -> None:
    async with at() as (port, _, _), connected(port) as connection:
        started = time.process_time()  # of this process, which answers
        await connection.send(post(body, f"Content-Type: {start}{' ' * 30_000}x"))
        assert (await connection.answer()).problem == "unsupported-media-type"
        assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "path",
    ["/predict", "/predict/batch", "/invocations", "/v2/models/credit-risk-model/infer"],
)
@pytest.mark.parametrize(
    "bad",
    [
        b"[" * 4_000_000,
        b"[{" * 2_000_000,
        b"[1" * 2_000_000,
        (b"[" * 33_000 + b"]]") * 120,
        (b"[{" * 16_500 + b"}]") * 120,
        (b"[" * 20 + b"] ]") * 180_000,
        b"[" + b"[[1 ] ]," * 500_000,
        b'[{"a":[{"a":1} ]} ],' * 200_000,
        b'{"age":' * 500_000,
        b'{"age": 1e400}',
        b'{"age": ' + b"9" * 1_000_000 + b"}",
        b'{"age": -' + b"9" * 5000 + b"e999999999999}",
        b'{"age": NaN}',
        b'{"age": -Infinity}',
        b'{"age": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"\\udfff\\ud800": "\\ud800\\u0000"}',
        b'{"age": "\xed\xa0\x80"}',
        b'{"age\x00": 1}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"a":1}' * 100_000,
        b'"' + b"\\" * 3_999_999,
    ],
    ids=lambda bad: repr(bad[:16]),
)
async def test_bodies_that_are_made_to_hurt_are_refused_in_a_moment(
    at: At, path: str, bad: bytes
) -> None:
    async with at() as (port, _, services), connected(port) as connection:
        for sent in (bad, b"[" + bad + b"]"):
            started = time.process_time()  # of this process, which answers
            await connection.send(
                post(sent[: 4 * 1024**2], "Content-Type: application/json", path=path)
            )
            answer = await connection.answer()
            assert answer.status in (400, 422)
            assert len(answer.body) < 20_000
            assert time.process_time() - started < 5
        assert services.writer.rows == 0


async def test_a_repeated_name_counts_as_its_last_value_in_the_answer_and_the_log(
    at: At, row: Row
) -> None:
    text = json.dumps(row)[:-1] + ', "DebtRatio": 7.5}'
    async with at() as (port, _, services), connected(port) as connection:
        for path, sent in (("/predict", text), ("/predict/batch", f"[{text}]")):
            await connection.send(post(sent.encode(), path=path))
            assert (await connection.answer()).status == 200
        lines = (services.config.storage.predictions / "predictions.csv").read_text().splitlines()
    assert [line.split(",")[7] for line in lines[1:]] == ["7.5", "7.5"]


# -- what is no HTTP


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: 1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(b"{}", "Content-Length: 3"),
        post(b"{}", "Transfer-Encoding: chunked"),
        post(b"{}", "Transfer-Encoding: xchunked"),
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1 2\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"FFFFFFFFFFFFFFFFF\r\n",
    ],
)
async def test_what_is_no_request_is_a_400_and_ends_the_connection(at: At, sent: bytes) -> None:
    async with at() as (port, _, services), connected(port) as connection:
        await connection.send(sent)
        answer = await answered(connection)
        assert answer.problem == "invalid-request"
        assert services.writer.rows == 0


async def test_an_upgrade_that_is_not_spoken_is_answered_as_it_is(at: At) -> None:
    async with at() as (port, _, _), connected(port) as connection:
        await connection.send(
            b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
        )
        assert (await connection.answer()).status == 200


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
"""As `curl --http2` and Java's HttpClient send it with every first request."""


async def test_an_offer_to_upgrade_is_a_request_as_any_other(at: At, body: bytes) -> None:
    whole = post(body, *OFFER)
    chunked = post(b"", *OFFER, "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    ways = (
        [whole],
        [whole[: -len(body)], body],
        [whole[:40], whole[40:-30], whole[-30:]],
        [chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)],
    )
    async with at() as (port, _, services):
        for parts in ways:
            async with connected(port) as connection:
                for part in parts:
                    await connection.send(part)
                    await asyncio.sleep(0.05)
                assert (await connection.answer()).status == 200
                await connection.send(post(body))
                assert (await connection.answer()).status == 200
        assert services.writer.rows == 2 * len(ways)


async def test_the_body_of_an_offer_to_upgrade_is_no_request(at: At, body: bytes) -> None:
    async with at() as (port, _, services), connected(port) as connection:
        offer = post(post(body), *OFFER)
        await connection.send(offer[: -len(post(body))])
        await asyncio.sleep(0.05)
        await connection.send(post(body))
        assert (await connection.answer()).status == 400
        await connection.send(GET)
        assert (await connection.answer()).status == 200
        assert services.writer.rows == 0


async def test_what_follows_an_offer_to_upgrade_is_answered_too(at: At, body: bytes) -> None:
    offer = GET.replace(b"\r\n\r\n", "\r\n".join(["", *OFFER, "", ""]).encode())
    closing = offer.replace(b"Upgrade, HTTP2", b"close, Upgrade, HTTP2")
    async with at() as (port, _, services), connected(port) as connection:
        await connection.send((offer + GET + post(body, *OFFER) + post(body)) * 20 + closing + GET)
        statuses = [(await connection.answer()).status for _ in range(80)]
        assert statuses == [200] * 80
        assert services.writer.rows == 40
        assert (await answered(connection)).status == 200


async def test_what_follows_a_connect_is_none(at: At) -> None:
    connect = b"CONNECT http://localhost/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with at() as (port, _, _), connected(port) as connection:
        await connection.send(connect + GET)
        assert (await answered(connection)).status in (400, 405)


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"])
async def test_a_head_without_an_end_is_a_431(at: At, start: bytes) -> None:
    filling = b"x: y\r\n" * 1000 if start.endswith(b"\n") else b"a" * 6000
    async with at() as (port, _, _), connected(port) as connection:
        await connection.send(start)
        await asyncio.sleep(0.05)
        sent = 0
        while sent < MAX_HEAD + 300_000 and not connection.reader._buffer:
            await connection.send(filling)
            sent += len(filling)
            await asyncio.sleep(0.001)
        assert sent < MAX_HEAD + 50_000
        assert (await answered(connection)).problem == "head-too-large"


async def test_what_follows_a_chunked_body_is_limited_too(at: At) -> None:
    async with at(max_body=1000) as (port, _, _), connected(port) as connection:
        await connection.send(CHUNKED + b"2\r\n{}\r\n0\r\n")
        await asyncio.sleep(0.05)
        for number in range(40):
            await connection.send(b"trailer-%d: " % number + b"x" * 5000 + b"\r\n")
            await asyncio.sleep(0.001)
            if connection.reader._buffer:
                break
        assert (await answered(connection)).problem == "too-large"


# -- slow and silent ones


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET /", "request-timeout"),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", "request-timeout"),
        (post(b'{"age":', length=1000), "request-timeout"),
        (CHUNKED + b"1000\r\n1", "request-timeout"),
    ],
)
async def test_who_sends_a_byte_now_and_then_is_cut_off(
    at: At, sent: bytes, problem: str | None
) -> None:
    async with at(receive_timeout="1s") as (port, running, services), connected(port) as connection:
        started = time.monotonic()
        await connection.send(sent)

        async def drip() -> None:
            while sent:
                await asyncio.sleep(0.1)
                await connection.send(b"\n" if sent == b"\r\n" else b"1")

        dripping = asyncio.create_task(drip())
        if problem is None:
            assert await connection.rest() == b""
        else:
            assert (await connection.answer()).problem == problem
        assert 0.9 < time.monotonic() - started < 4
        dripping.cancel()
        await connection.close()
        await until(lambda: not running.server_state.connections)
        await until(lambda: not running.server_state.tasks)
        assert services.writer.rows == 0


async def test_a_kept_connection_is_closed_when_it_is_idle_and_not_before(
    at: At, body: bytes
) -> None:
    limits = {"receive_timeout": "1s", "idle_timeout": "3s"}
    async with at(**limits) as (port, _, _), connected(port) as connection:
        for _ in range(2):
            await connection.send(post(body))
            assert (await connection.answer()).status == 200
            await asyncio.sleep(2.2)  # longer than a request may take to come
        started = time.monotonic()
        assert await connection.rest() == b""
        assert time.monotonic() - started < 3


@asynccontextmanager
async def unread(port: int) -> AsyncIterator[socket.socket]:
    """A client with little room that has asked for 20 MB, and reads nothing so far."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, GET.replace(b"/ready", b"/openapi.json") * 500)
        yield client


async def test_who_reads_nothing_is_cut_off(at: At) -> None:
    async with at(receive_timeout="1s") as (port, running, _), unread(port):
        await until(lambda: len(running.server_state.connections) == 1)
        started = time.monotonic()
        await until(lambda: not running.server_state.connections)
        assert 0.9 < time.monotonic() - started < 4
        await until(lambda: not running.server_state.tasks)


async def test_who_reads_slowly_is_not_cut_off(at: At) -> None:
    """Some KB in a second, where the system takes no more before it is rid of hundreds."""
    loop = asyncio.get_running_loop()
    async with at(receive_timeout="1s") as (port, running, _), unread(port) as client:
        for _ in range(16):
            await asyncio.sleep(0.25)
            assert await loop.sock_recv(client, 4096)
        [connection] = running.server_state.connections
        assert isinstance(connection, Protocol)
        assert connection.phase is Phase.UNREAD


# -- several at once


async def test_pipelined_requests_are_answered_in_their_order(at: At, body: bytes) -> None:
    async with at() as (port, _, services), connected(port) as connection:
        await connection.send((post(body) + post(b"{") + GET) * 30)
        statuses = [(await connection.answer()).status for _ in range(90)]
        assert statuses == [200, 400, 200] * 30
        assert services.writer.rows == 30


async def test_of_requests_without_end_some_are_answered_and_the_others_are_not_kept(
    at: At,
) -> None:
    """Each of 13,000 in one packet would take 2 kB, a key or none."""
    async with at() as (port, _, _), connected(port) as connection:
        await connection.send(GET * 1000)
        for _ in range(MOST_PIPELINED + 1):
            assert (await connection.answer()).status == 200
        assert await connection.rest() == b""


async def test_garbage_behind_a_request_takes_nothing_from_its_answer(at: At, body: bytes) -> None:
    async with at() as (port, _, services):
        for count in (1, 3):
            async with connected(port) as connection:
                await connection.send(post(body) * count + b"garbage\r\n\r\n" + post(body))
                statuses = [(await connection.answer()).status for _ in range(count)]
                assert statuses == [200] * count
                await connection.rest()
        assert services.writer.rows == 4, "and nothing behind the garbage is a request"


async def test_a_request_behind_a_refused_body_is_none(at: At, body: bytes) -> None:
    """Otherwise whoever shares a proxy's connection could be answered for it."""
    async with at(max_body=1000) as (port, _, services), connected(port) as connection:
        await connection.send(post(b" " * 500, length=2000))
        assert (await connection.answer()).problem == "too-large"
        await connection.send(b" " * 1500 + post(body))
        assert await connection.rest() == b""
        assert services.writer.rows == 0


async def test_a_half_closed_connection_is_closed_and_counts_as_a_client_that_left(
    at: At, body: bytes
) -> None:
    async with at() as (port, running, _):
        for sent in (b"", GET, post(body), post(body, length=5000), b"POST /pre"):
            async with connected(port) as connection:
                await connection.send(sent)
                connection.writer.write_eof()
                await connection.rest(2)
        await until(lambda: not running.server_state.connections)
        await until(lambda: not running.server_state.tasks)


@pytest.fixture
def few_files() -> Iterator[int]:
    """A limit of open files as a shell has it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_leave_files_for_the_service_itself(few_files: int) -> None:
    assert server.limits(Serving(max_connections=5000)).connections == few_files - 200
    assert server.limits(Serving(max_connections=50)).connections == 50


async def test_a_connection_too_many_is_a_503_and_the_others_go_on(at: At, body: bytes) -> None:
    async with at(max_connections=20) as (port, _, services), AsyncExitStack() as stack:
        many = [await stack.enter_async_context(connected(port)) for _ in range(20)]
        await many[-1].send(GET)
        assert (await many[-1].answer()).status == 200
        async with connected(port) as connection:
            assert (await connection.answer()).problem == "too-many-connections"
            assert await connection.rest() == b""
        await many[0].send(post(body))
        assert (await many[0].answer()).status == 200
        assert services.writer.rows == 1
        await stack.aclose()
        await asyncio.sleep(0.1)


def open_files() -> int:
    """Of this process, in which both ends of each connection are."""
    return len(list(Path("/dev/fd").iterdir()))


async def test_who_is_refused_and_stays_takes_no_place_beyond_the_limit(at: At) -> None:
    """Its connection is a file as well, and the log needs some."""
    async with at(max_connections=5) as (port, _, _), AsyncExitStack() as stack:
        before = open_files()
        for _ in range(20):
            connection = await stack.enter_async_context(connected(port))
            await connection.send(b"garbage\r\n\r\n")
            assert (await connection.answer()).problem == "invalid-request"
        theirs = 20
        assert open_files() - before - theirs <= 5
        async with connected(port) as another:
            await another.send(GET)
            assert (await another.answer()).status == 200


@pytest.mark.slow
async def test_five_thousand_idle_connections_hold_nobody_up(at: At, body: bytes) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Both ends are in this process.
    count = min(5000, (files - 500) // 2)
    async with at(max_connections=6000) as (port, running, services):
        idle = []
        loop = asyncio.get_running_loop()
        for number in range(count):
            idle.append(await loop.create_connection(asyncio.Protocol, "127.0.0.1", port))
            if number % 500 == 0:
                await asyncio.sleep(0)
        most = 0
        async with connected(port) as connection:
            slowest = 0.0
            for _ in range(100):
                started = time.perf_counter()
                await connection.send(post(body))
                assert (await connection.answer()).status == 200
                slowest = max(slowest, time.perf_counter() - started)
                most = max(most, len(running.server_state.connections))
                await asyncio.sleep(0.01)
        assert most == count + 1
        assert slowest < 1
        running._deadlines = Deadlines(receive=1, idle=1)
        await until(lambda: not running.server_state.connections)
        assert services.writer.rows == 100
        for transport, _ in idle:
            transport.close()
    sys.stdout.write(f"{most} connections, slowest answer {slowest * 1000:.1f} ms\n")
