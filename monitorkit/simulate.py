"""Real HTTP traffic from the data set against a running service, shifted when asked."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import numpy as np
from numpy.typing import NDArray

from monitorkit import client as service
from monitorkit import logs, progress
from monitorkit.config import Config
from monitorkit.errors import (
    DataError,
    KeyRefused,
    SchemaError,
    ServiceUnreachable,
    SimulationFailed,
)
from monitorkit.scenario import Row, Shift, parse_shift, plan, resolve
from monitorkit.schema import Feature, FeatureSchema

CONCURRENCY = 8
ATTEMPTS = 5
LONGEST_WAIT = 5.0
TIMEOUT = 60.0
_WANT_A_KEY = {str(int(status)) for status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)}

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """How it went.

    Attributes:
        sent: rows.
        answered: rows with a prediction.
        failed: the others, by HTTP status or by the kind of error; `interrupted` are those that
            were under way at Ctrl-C, of which nobody knows whether they were logged.
        retried: requests that were sent again after a 503.
        seconds: from the first request to the last answer.
        p50_ms, p99_ms: of the answered requests' times; None without any.
    """

    sent: int
    answered: int
    failed: Mapping[str, int]
    retried: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None


def run(
    config: Config,
    *,
    rows: int,
    shifts: Sequence[str] = (),
    rate: float | None = None,
    batch: int = 1,
    seed: int = 0,
    data: Path | None = None,
    url: str | None = None,
) -> Summary:
    """Send rows and say how it went.

    Args:
        config: names the data set and the service.
        rows: how many to send.
        shifts: as the user writes them, see `parse_shift`.
        rate: rows per second; None: as fast as they are answered.
        batch: rows per request.
        seed: the same one sends the same rows.
        data: a CSV file to take rows from, instead of the held-out part of the data set.
        url: of the service; None: where the configuration says it listens.

    Raises:
        ConfigError: a shift that cannot be read, or names no feature.
        DataError: the rows cannot be had.
        KeyRefused: the service wants a key in `MONITORKIT_KEY`, or another one.
        ServiceUnreachable: there is no service, or it has no model.
        SimulationFailed: not every row was answered.
    """
    parsed = [parse_shift(text) for text in shifts]
    address = (url or service.address(config)).rstrip("/")
    schema = fetch_schema(address)
    named = [Shift(resolve(s.feature, schema.names), s.operation, s.number) for s in parsed]
    source, features = _rows_of(config, schema, data)
    planned = plan(features, schema, rows=rows, shifts=named, seed=seed)
    log.info(
        "rows_planned",
        rows=rows,
        source=source,
        shifts=[str(shift) for shift in planned.shifts],
        clipped=dict(planned.clipped),
        repeated=planned.repeated,
    )
    sender = _Sender(address, planned.rows, rate, batch)
    try:
        with progress.step("simulate", url=address, rows=rows) as advance:
            anyio.run(sender.send, advance)
    finally:  # after Ctrl-C, too: what was sent until then is in the log for good
        summary = sender.summary()
        _tell(summary)
    if summary.answered < summary.sent:
        if want_a_key := _WANT_A_KEY.intersection(sender.reasons):
            raise KeyRefused(address, sender.reasons[min(want_a_key)])
        failed = {sender.reasons.get(why, why): count for why, count in summary.failed.items()}
        raise SimulationFailed(address, summary.sent, summary.answered, failed)
    return summary


def _tell(summary: Summary) -> None:
    log.info(
        "simulated",
        sent=summary.sent,
        answered=summary.answered,
        failed=dict(summary.failed),
        retried=summary.retried,
        seconds=round(summary.seconds, 3),
        p50_ms=summary.p50_ms,
        p99_ms=summary.p99_ms,
    )


async def send(
    rows: Sequence[Row],
    url: str,
    *,
    rate: float | None = None,
    batch: int = 1,
    advance: progress.Advance = lambda _: None,
) -> Summary:
    """Send rows to a service, a few requests at a time.

    Args:
        rows: JSON objects.
        url: of the service.
        rate: rows per second; None: as fast as they are answered.
        batch: rows per request; one is sent to /predict, more to /predict/batch.
        advance: told the share that is done.
    """
    sender = _Sender(url, rows, rate, batch)
    await sender.send(advance)
    return sender.summary()


def fetch_schema(url: str) -> FeatureSchema:
    """Ask a service what its model reads.

    Raises:
        KeyRefused: it wants a key, or another one.
        ServiceUnreachable: it does not answer, has no model, or is something else.
    """
    try:
        with httpx.Client(timeout=TIMEOUT, **service.options(url)) as client:
            answer = client.get(f"{url}/model/info")
        if str(answer.status_code) in _WANT_A_KEY:
            raise KeyRefused(url, _reason(answer))
        if answer.status_code != httpx.codes.OK:
            raise ServiceUnreachable(url, _reason(answer))
        taken = ("name", "type", "nullable", "minimum", "maximum")
        return FeatureSchema(
            tuple(
                Feature(**{key: value for key, value in entry.items() if key in taken})
                for entry in answer.json()["features"]
            )
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceUnreachable(url, str(error) or type(error).__name__) from error
    except (ValueError, KeyError, TypeError, AttributeError, SchemaError) as error:
        reason = "its /model/info is not monitorkit's"
        raise ServiceUnreachable(url, reason) from error


@dataclass(slots=True)
class _Sender:
    """What the tasks that send share."""

    url: str
    rows: Sequence[Row]
    rate: float | None
    batch: int
    started: float = field(default_factory=time.perf_counter)
    sent: int = 0
    answered: int = 0
    retried: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)

    async def send(self, advance: progress.Advance) -> None:
        """Send all rows."""
        firsts = iter(range(0, len(self.rows), self.batch))
        async with _client(self.url) as client, anyio.create_task_group() as tasks:
            for _ in range(CONCURRENCY):
                tasks.start_soon(self._work, client, firsts, advance)

    def summary(self) -> Summary:
        """How it went until now; what has no answer when it is over was interrupted."""
        failed = self.failed + Counter(interrupted=self._under_way)
        times = self.milliseconds
        p50, p99 = np.percentile(times, (50, 99)).round(3).tolist() if times else (None, None)
        return Summary(
            sent=self.sent,
            answered=self.answered,
            failed=dict(sorted(failed.items())),
            retried=self.retried,
            seconds=time.perf_counter() - self.started,
            p50_ms=p50,
            p99_ms=p99,
        )

    @property
    def _under_way(self) -> int:
        return self.sent - self.answered - self.failed.total()

    async def _work(
        self, client: httpx.AsyncClient, firsts: Iterator[int], advance: progress.Advance
    ) -> None:
        """Take requests until there are none; each is due when the rate says so."""
        for first in firsts:
            rows = self.rows[first : first + self.batch]
            if self.rate is not None:
                due = self.started + first / self.rate
                await anyio.sleep(max(0.0, due - time.perf_counter()))
            self.sent += len(rows)
            problem = await self._request(client, rows)
            if problem is None:
                self.answered += len(rows)
            else:
                self.failed[problem] += len(rows)
            advance((self.sent - self._under_way) / len(self.rows))

    async def _request(self, client: httpx.AsyncClient, rows: Sequence[Row]) -> str | None:
        """Send one request, again when the service asks for it; returns what went wrong."""
        path, body = ("/predict/batch", rows) if self.batch > 1 else ("/predict", rows[0])
        for attempt in range(1, ATTEMPTS + 1):
            started = time.perf_counter()
            try:
                answer = await client.post(f"{self.url}{path}", json=body)
            except httpx.HTTPError as error:
                # Not again: nobody knows whether the rows were logged.
                return type(error).__name__
            if answer.status_code == httpx.codes.OK:
                self.milliseconds.append((time.perf_counter() - started) * 1000)
                return None
            wait = _seconds_to_wait(answer)
            if wait is None or attempt == ATTEMPTS:
                status = str(answer.status_code)
                self.reasons.setdefault(status, _reason(answer))  # of the first one
                return status
            self.retried += 1
            await anyio.sleep(wait)
        raise AssertionError  # the last attempt returns


def _client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    return httpx.AsyncClient(timeout=TIMEOUT, limits=limits, **service.options(url))


def _seconds_to_wait(answer: httpx.Response) -> float | None:
    """What a 503 asks for, at most `LONGEST_WAIT`; None when it does not ask for another try."""
    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
        return None
    try:
        asked = float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return min(max(asked, 0.0), LONGEST_WAIT) if math.isfinite(asked) else None


def _reason(answer: httpx.Response) -> str:
    """The status, and what the service says of it."""
    try:
        detail = str(answer.json()["detail"]).removesuffix(".")
    except (ValueError, KeyError, TypeError):
        detail = "not an answer of monitorkit's"
    return f"HTTP {answer.status_code}: {detail}"


def _rows_of(
    config: Config, schema: FeatureSchema, path: Path | None
) -> tuple[str, NDArray[np.float64]]:
    """The features to draw from, in the schema's order, and where they come from."""
    from monitorkit.training import dataset  # noqa: PLC0415 - only when there is a service

    if path is not None:
        features = dataset.load_features(path, schema)
        if not len(features):
            raise DataError(str(path), "there are no rows", "Name a file that has some.")
        return str(path), features
    # What the reference is made of, too: no shift, no drift.
    remedy = "Name the model's own data with --data."
    return dataset.held_out(config.data, config.training, schema, remedy)
