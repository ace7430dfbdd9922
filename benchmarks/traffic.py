"""Clients that ask without pause, through restarts too, and remember what they were answered."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

APPLICANT: dict[str, Any] = {
    "RevolvingUtilizationOfUnsecuredLines": 0.35,
    "age": 47,
    "NumberOfTime30-59DaysPastDueNotWorse": 0,
    "DebtRatio": 0.4,
    "MonthlyIncome": 5400,
    "NumberOfOpenCreditLinesAndLoans": 8,
    "NumberOfTimes90DaysLate": 0,
    "NumberRealEstateLoansOrLines": 1,
    "NumberOfTime60-89DaysPastDueNotWorse": 0,
    "NumberOfDependents": None,
}
BATCHES = (1, 1, 1, 5, 20)
HEADERS = {"Content-Type": "application/json"}
TIMEOUT = 30.0


class Traffic:
    """Threads that send rows for as long as the context lasts.

    Args:
        threads: clients, each with a connection of its own.
        seed: of the rows.
        pause: seconds between two requests of one client.
    """

    def __init__(self, *, threads: int = 4, seed: int = 0, pause: float = 0.0) -> None:
        self.answered: list[str] = []
        """The ids of all rows in answers that came whole."""
        self.statuses: Counter[int] = Counter()
        """Answers by status."""
        self.cut = 0
        """Requests whose connection was lost: whether they were logged nobody was told."""
        self.slowest = 0.0
        """Seconds that the slowest answer took."""
        self._address: tuple[str, int] | None = None
        self._stopping = threading.Event()
        self._pause = pause
        self._threads = [
            threading.Thread(target=self._send, args=(random.Random(f"{seed} {n}"),))  # noqa: S311 - rows, no secrets
            for n in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def to(self, url: str | None) -> None:
        """Send there from now on; None: wait."""
        parts = urlsplit(url or "")
        self._address = (parts.hostname, parts.port) if parts.hostname and parts.port else None

    def _send(self, random_: random.Random) -> None:
        connection: http.client.HTTPConnection | None = None
        connected: tuple[str, int] | None = None
        while not self._stopping.wait(self._pause):
            address = self._address
            if connection is not None and connected != address:  # nobody keeps an idle one for long
                connection.close()
                connection = None
            if address is None:
                time.sleep(0.01)
                continue
            if connection is None:
                connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
                connected = address
            try:
                self._ask(connection, random_)
            except (OSError, http.client.HTTPException):
                self.cut += 1
                connection.close()
                connection = None
                time.sleep(0.02)
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, random_: random.Random) -> None:
        many = random_.choice(BATCHES)
        some = [drawn(random_) for _ in range(many)]
        path, body = ("/predict", some[0]) if many == 1 else ("/predict/batch", some)
        began = time.monotonic()
        connection.request("POST", path, json.dumps(body), HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[answer.status] += 1
        if answer.status == http.client.OK:
            document = json.loads(content)
            rows = [document] if many == 1 else document["predictions"]
            self.answered += [row["prediction_id"] for row in rows]


def drawn(random_: random.Random) -> dict[str, Any]:
    """A row within the bounds of the schema."""
    return {
        **APPLICANT,
        "age": random_.randint(21, 90),
        "DebtRatio": round(random_.expovariate(2), 6),
        "MonthlyIncome": None if random_.random() < 0.2 else random_.randint(500, 20_000),
        "NumberOfOpenCreditLinesAndLoans": random_.randint(0, 20),
    }
