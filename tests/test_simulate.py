"""Simulated traffic: real HTTP, every row once, and a true account of how it went."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from service_process import CLEAN, events_of, until
from some_customers import SCHEMA, some_features
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from monitorkit import simulate
from monitorkit.config import Config
from monitorkit.errors import (
    ConfigError,
    DataError,
    KeyRefused,
    ServiceUnreachable,
    SimulationFailed,
)
from monitorkit.scenario import plan

# The service that these tests talk to is small, but its HTTP is real.

Handler = Callable[[Request], Awaitable[Response]]


class Service:
    """Answers as monitorkit does, and remembers what it was asked."""

    def __init__(self, predict: Handler | None = None, info: Handler | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.times: list[float] = []
        self.under_way = self.most_under_way = 0
        self._predict = predict
        self._info = info
        self.url = ""

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/model/info", self.info),
                Route("/predict", self.predict, methods=["POST"]),
                Route("/predict/batch", self.predict, methods=["POST"]),
            ]
        )

    async def info(self, request: Request) -> Response:
        if self._info is not None:
            return await self._info(request)
        features = [{**entry, "spellings": []} for entry in SCHEMA.to_json()["features"]]
        return JSONResponse({"name": "model", "features": features})

    async def predict(self, request: Request) -> Response:
        self.times.append(time.perf_counter())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.002)
            if self._predict is not None:
                return await self._predict(request)
            return await self.answer(request)
        finally:
            self.under_way -= 1

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        rows = body if request.url.path == "/predict/batch" else [body]
        self.rows += rows
        self.batches.append(len(rows))
        return JSONResponse({"predictions": [{"probability": 0.5} for _ in rows]})


@contextlib.contextmanager
def serving(service: Service) -> Iterator[Service]:
    """A real uvicorn on a free loopback port, in a thread."""
    settings = uvicorn.Config(service.app, log_config=None, lifespan="off")
    server = uvicorn.Server(settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        service.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield service
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows of one's own for `--data`."""
    lines = ["age,MonthlyIncome,DebtRatio"]
    for age, income, ratio in some_features():
        lines.append(f"{int(age)},{'' if np.isnan(income) else income},{ratio}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


async def test_every_row_is_sent_once_as_planned(service: Service) -> None:
    rows = plan(some_features(), SCHEMA, rows=60).rows
    shares: list[float] = []
    summary = await simulate.send(rows, service.url, advance=shares.append)
    assert sorted(service.rows, key=str) == sorted(rows, key=str)
    assert (summary.sent, summary.answered, summary.failed) == (60, 60, {})
    assert set(service.batches) == {1}
    assert 1 < service.most_under_way <= simulate.CONCURRENCY
    assert summary.p50_ms is not None
    assert summary.p99_ms is not None
    assert 2 <= summary.p50_ms <= summary.p99_ms <= summary.seconds * 1000
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


async def test_batches_hold_so_many_rows(service: Service) -> None:
    rows = plan(some_features(), SCHEMA, rows=25).rows
    summary = await simulate.send(rows, service.url, batch=10)
    assert sorted(service.batches) == [5, 10, 10]
    assert summary.answered == 25


async def test_the_rate_is_kept(service: Service) -> None:
    rows = plan(some_features(), SCHEMA, rows=41).rows
    summary = await simulate.send(rows, service.url, rate=100)
    assert 0.4 <= summary.seconds < 2
    first, last = min(service.times), max(service.times)
    assert last - first == pytest.approx(0.4, abs=0.2)


async def test_a_busy_service_is_asked_again() -> None:
    busy = [True] * 3

    async def predict(request: Request) -> Response:
        if busy and busy.pop():
            return JSONResponse({"detail": "busy"}, 503, {"Retry-After": "0.05"})
        return await asked.answer(request)

    asked = Service(predict)
    with serving(asked):
        summary = await simulate.send(plan(some_features(), SCHEMA, rows=10).rows, asked.url)
    assert (summary.answered, summary.retried, summary.failed) == (10, 3, {})
    assert len(asked.rows) == 10


async def test_a_service_that_stays_busy_is_not_asked_for_ever() -> None:
    async def predict(_: Request) -> Response:
        return JSONResponse({"detail": "busy"}, 503, {"Retry-After": "0"})

    with serving(service := Service(predict)):
        summary = await simulate.send(plan(some_features(), SCHEMA, rows=3).rows, service.url)
    assert len(service.times) == 3 * simulate.ATTEMPTS
    assert (summary.answered, summary.failed, summary.p50_ms) == (0, {"503": 3}, None)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "nan"}])
async def test_a_503_that_asks_for_nothing_is_final(headers: dict[str, str]) -> None:
    async def predict(_: Request) -> Response:
        return JSONResponse({}, 503, headers)

    with serving(service := Service(predict)):
        summary = await simulate.send(plan(some_features(), SCHEMA, rows=3).rows, service.url)
    assert len(service.times) == 3
    assert summary.failed == {"503": 3}


async def test_failures_are_counted_by_status() -> None:
    statuses = iter([422, 200, 500, 422, 200])

    async def predict(_: Request) -> Response:
        return JSONResponse({}, next(statuses))

    with serving(service := Service(predict)):
        summary = await simulate.send(plan(some_features(), SCHEMA, rows=5).rows, service.url)
    assert (summary.sent, summary.answered) == (5, 2)
    assert summary.failed == {"422": 2, "500": 1}


async def test_a_service_that_goes_away_is_counted_and_ends() -> None:
    with serving(service := Service()):
        pass
    summary = await simulate.send(plan(some_features(), SCHEMA, rows=20).rows, service.url)
    assert (summary.answered, summary.failed) == (0, {"ConnectError": 20})


def test_the_command_plans_sends_and_tells(service: Service, data: Path) -> None:
    with capture_logs() as events:
        summary = simulate.run(
            Config(), rows=30, shifts=["Income=0.5", "age+=100"], data=data, url=service.url + "/"
        )
    assert summary.answered == len(service.rows) == 30
    assert {row["age"] for row in service.rows} == {100}
    planned, started, done, told = events
    assert planned["event"] == "rows_planned"
    assert planned["shifts"] == ["MonthlyIncome=0.5", "age+=100"]
    assert planned["clipped"] == {"age": 30}
    assert planned["source"] == str(data)
    assert (started["event"], done["event"]) == ("simulate_started", "simulate_done")
    assert told["event"] == "simulated"
    assert (told["sent"], told["answered"], told["failed"]) == (30, 30, {})
    assert {event["log_level"] for event in events} == {"info"}


def test_the_same_command_sends_the_same_rows(service: Service, data: Path) -> None:
    for _ in range(2):
        simulate.run(Config(), rows=20, seed=3, data=data, url=service.url)
    first, second = service.rows[:20], service.rows[20:]
    assert sorted(first, key=str) == sorted(second, key=str)


def test_without_a_file_the_held_out_rows_are_sent(service: Service, tmp_path: Path) -> None:
    from monitorkit.training import dataset  # noqa: PLC0415 - scikit-learn, for this test only

    settings = Config(
        data={"path": tmp_path / "none.csv", "synthetic_rows": 1000, "seed": 5},
        training={"test_share": 0.3, "seed": 11},
    )
    _, held_out = dataset.split(dataset.load(settings.data), test_share=0.3, seed=11)
    simulate.run(settings, rows=len(held_out), url=service.url)
    position = held_out.columns.index("DebtRatio")
    sent = sorted(row["DebtRatio"] for row in service.rows)
    assert sent == sorted(held_out.features[:, position])
    assert set(service.rows[0]) == set(SCHEMA.names)


def test_columns_that_the_model_does_not_read_may_hold_anything(
    service: Service, tmp_path: Path
) -> None:
    rows = [f"south,{20 + row},{row}.5,0.5,{row % 2}" for row in range(40)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["region,age,MonthlyIncome,DebtRatio,y", *rows]) + "\n")
    settings = Config(data={"path": path, "target": "y"})
    simulate.run(settings, rows=8, url=service.url)
    assert len(service.rows) == 8
    assert set(service.rows[0]) == set(SCHEMA.names)


def test_ctrl_c_ends_it_with_an_account_of_what_was_sent(data: Path, tmp_path: Path) -> None:
    async def predict(request: Request) -> Response:
        if len(asked.rows) < 20:
            return await asked.answer(request)
        await request.body()
        await request.receive()  # that the client is gone
        return JSONResponse({}, 500)

    command = [sys.executable, "-m", "monitorkit", "simulate", "--data", str(data)]
    with serving(asked := Service(predict)):
        process = subprocess.Popen(
            [*command, "--rows", "100", "--url", asked.url],
            cwd=tmp_path,
            env=CLEAN,
            stdout=subprocess.PIPE,
            text=True,
        )
        until(lambda: asked.under_way == simulate.CONCURRENCY and len(asked.rows) == 20, 60)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    *_, simulated, last = events_of(stdout)
    assert (simulated["event"], last["event"]) == ("simulated", "interrupted")
    assert (simulated["sent"], simulated["answered"]) == (28, 20)
    assert simulated["failed"] == {"interrupted": simulate.CONCURRENCY}


def refusal(kind: type[Exception], status: int, detail: str, data: Path) -> str:
    """What is said when a service answers all predictions so."""

    async def predict(_: Request) -> Response:
        return JSONResponse({"detail": detail}, status)

    with serving(service := Service(predict)), pytest.raises(kind) as caught:
        simulate.run(Config(), rows=4, data=data, url=service.url)
    return str(caught.value)


def test_rows_that_were_not_answered_are_an_error(data: Path) -> None:
    told = refusal(SimulationFailed, 422, "too large.", data)
    assert "answered 0 of 4 rows" in told
    assert "4 x HTTP 422: too large" in told


def test_a_key_that_may_read_only_is_told_of_as_a_key(data: Path) -> None:
    told = refusal(KeyRefused, 403, "The key has no scope `predict`.", data)
    assert "The key has no scope `predict`" in told
    assert "MONITORKIT_KEY" in told


def test_a_data_set_of_another_model_is_refused(tmp_path: Path) -> None:
    async def info(_: Request) -> Response:
        return JSONResponse({"features": [{"name": "radius", "type": "number"}]})

    settings = Config(data={"path": tmp_path / "none.csv", "synthetic_rows": 1000})
    with (
        serving(service := Service(info=info)),
        pytest.raises(DataError, match=r"'radius'.*--data"),
    ):
        simulate.run(settings, rows=4, url=service.url)
    assert service.times == []


def test_a_wrong_shift_sends_nothing(service: Service, data: Path) -> None:
    for shift in ("income", "salary=2"):
        with pytest.raises(ConfigError):
            simulate.run(Config(), rows=4, shifts=[shift], data=data, url=service.url)
    assert service.times == []


def test_no_service_is_told_with_its_address(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServiceUnreachable, match=url):
            simulate.run(Config(), rows=4, data=data, url=url)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", ConfigError),
        ("ftp://127.0.0.1", ConfigError),
        ("http://[", ServiceUnreachable),
        ("http://127.0.0.1:99999", ServiceUnreachable),
    ],
)
def test_an_address_that_is_none_is_told(data: Path, url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        simulate.run(Config(), rows=4, data=data, url=url)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (JSONResponse({"detail": "No model is loaded."}, 503), "HTTP 503: No model is loaded"),
        (PlainTextResponse("not here", 404), "HTTP 404"),
        (PlainTextResponse("hello"), "not monitorkit's"),
        (JSONResponse({"features": [{"name": "x", "type": "colour"}]}), "not monitorkit's"),
        (JSONResponse([]), "not monitorkit's"),
    ],
)
def test_a_service_that_cannot_be_used_is_told_why(
    data: Path, answer: Response, reason: str
) -> None:
    async def info(_: Request) -> Response:
        return answer

    with (
        serving(service := Service(info=info)),
        pytest.raises(ServiceUnreachable, match=reason),
    ):
        simulate.run(Config(), rows=4, data=data, url=service.url)
