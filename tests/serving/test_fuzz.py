"""Bodies that hypothesis makes up, over a real socket: no 500, no open end, no row when refused."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from wire import listening

from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]

VALID: dict[str, Any] = {
    "age": 45,
    "NumberOfTime30-59DaysPastDueNotWorse": 2,
    "DebtRatio": 0.25,
    "MonthlyIncome": 5400.5,
}
EXAMPLES = 150

numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(),
    st.sampled_from([0, -0.0, 5e-324, 1.7976931348623157e308, 2**53 + 1, 18, 120, 1e22]),
)
texts = st.text(st.characters(), max_size=20)  # lone surrogates are among them
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
    max_leaves=8,
)
names = st.sampled_from([*VALID, "NumberOfTime30_59DaysPastDueNotWorse", "Age", ""]) | texts
almost_rows = st.one_of(
    st.builds(lambda changes: VALID | changes, st.dictionaries(names, numbers, max_size=3)),
    st.builds(lambda changes: VALID | changes, st.dictionaries(names, anything, max_size=3)),
    anything,
)


def written(value: Any) -> bytes:
    """As Python writes JSON: with NaN, Infinity, and lone surrogates as escapes."""
    return json.dumps(value).encode()


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """A text of which a part is left out, doubled or replaced."""
    text = draw(texts)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 10)))
    return (
        text[:start] + draw(st.sampled_from([b"", text[start:end] * 2]) | st.binary()) + text[end:]
    )


rows = almost_rows.map(written)
batches = st.lists(almost_rows, max_size=6).map(written)
bodies = st.one_of(st.binary(max_size=300), rows, batches, damaged(rows), damaged(batches))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
async def test_whatever_body_comes_is_answered_and_only_what_was_predicted_is_logged(
    serve: Serve, path: str
) -> None:
    statuses: list[int] = []
    async with serve() as (services, _), listening(services) as (port, running):
        predicted = 0

        def ask(connection: http.client.HTTPConnection, body: bytes) -> None:
            nonlocal predicted
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            document = json.loads(answer.read())
            statuses.append(answer.status)
            assert answer.status in (200, 400, 422), (body, document)
            if answer.status == 200:
                predicted += 1 if path == "/predict" else len(document["predictions"])
            assert services.writer.rows == predicted, body

        def fuzz() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

            @seed(20260101)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(bodies)
            def each(body: bytes) -> None:
                ask(connection, body)

            each()
            connection.close()

        with capture_logs() as events:
            await asyncio.to_thread(fuzz)
        assert events == [], "nothing that a client sends is an event"
        async with asyncio.timeout(10):
            while running.server_state.connections or running.server_state.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert len(statuses) >= EXAMPLES
    assert {200, 400, 422} <= set(statuses), "every kind was among them"


async def test_a_number_that_a_model_cannot_compute_with_is_refused(
    services: Services, client: httpx.AsyncClient
) -> None:
    """Found by schemathesis: sums of such numbers overflow, and a score of NaN is a 500."""
    for number in (9.9e307, -9.9e307, 3.5e38):
        for name in ("DebtRatio", "MonthlyIncome"):
            answer = await client.post("/predict", json=VALID | {name: number})
            assert answer.status_code == 422
            message = answer.json()["errors"][0]["message"]
            assert re.search(r"must be at (most 3\.403e\+38|least (-3\.403e\+38|0))$", message)
    for number in (3.4e38, -3.4e38):
        body = VALID | {"MonthlyIncome": number, "NumberOfTime30-59DaysPastDueNotWorse": number}
        assert (await client.post("/predict", json=body)).status_code == 200
    assert services.writer.rows == 2
