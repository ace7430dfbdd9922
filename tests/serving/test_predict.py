"""POST /predict and /predict/batch: answers, the log, every refusal and its words."""

from __future__ import annotations

import asyncio
import difflib
import gc
import json
import math
import resource
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs
from wire import logged

from monitorkit.engines import Choice, Engine, Scorer, Timed, as_fitted
from monitorkit.prediction_log import Predictions
from monitorkit.schema import Feature, FeatureSchema, request_model
from monitorkit.serving.fields import SHOWN_ERRORS, field_errors, known_fields, trimmed
from monitorkit.serving.parallel import Parallel
from monitorkit.serving.pipeline import predict
from monitorkit.serving.served import Rows, Served, example, matrix
from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]
Row = dict[str, Any]
LATE = "NumberOfTime30-59DaysPastDueNotWorse"
LATE_ = "NumberOfTime30_59DaysPastDueNotWorse"


def probability(served: Served, row: Row) -> float:
    values = [np.nan if row.get(n) is None else row[n] for n in served.schema.names]
    return float(served.model.scores(np.array([values], dtype=np.float64))[0])


def with_scores(served: Served, scores: Callable[[Any], Any]) -> Served:
    """The same model with other scores: what a broken one would do."""
    timed = Timed(Engine("test", scores), 0.01, 0.0)
    scorer = Scorer(Choice("test"), timed, timed, math.inf)
    return replace(served, model=replace(served.model, scorer=scorer))


def problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Check the one shape of errors, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert list(document) == ["type", "title", "status", "detail", "request_id", "errors"]
    assert document["type"] == f"urn:monitorkit:problem:{name}"
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["title"]
    assert document["detail"].endswith(".")
    return document


@contextmanager
def full_disk(services: Services) -> Iterator[None]:
    """No file can grow beyond what the log has now: writes fail as on a full disk."""
    path = services.config.storage.predictions / "predictions.csv"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# -- answers


async def test_an_answer_is_the_models_and_stands_in_the_log(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    before = datetime.now(UTC)
    response = await client.post("/predict", json=row)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == [
        "prediction_id",
        "timestamp",
        "model_version",
        "prediction",
        "probability",
    ]
    assert answer["probability"] == probability(served, row)
    assert answer["prediction"] == int(answer["probability"] > 0.5)
    assert answer["model_version"] == "1"
    assert answer["timestamp"].endswith("Z")
    assert before <= datetime.fromisoformat(answer["timestamp"]) <= datetime.now(UTC)
    [entry] = logged(services)
    assert {key: str(value) for key, value in answer.items()} == {k: entry[k] for k in answer}
    assert [float(entry[name]) for name in served.schema.names] == [45, 2, 0.25, 5400.5]


async def test_a_missing_value_may_be_null_or_left_out_and_is_empty_in_the_log(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    null = await client.post("/predict", json=row | {"MonthlyIncome": None})
    del row["MonthlyIncome"]
    absent = await client.post("/predict", json=row)
    assert null.json()["probability"] == absent.json()["probability"] == probability(served, row)
    assert [entry["MonthlyIncome"] for entry in logged(services)] == ["", ""]


async def test_a_column_may_be_spelled_with_underscores(
    client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    expected = probability(served, row)
    row[LATE_] = row.pop(LATE)
    response = await client.post("/predict", json=row)
    assert response.json()["probability"] == expected


async def test_fields_come_in_any_order_and_a_whole_number_may_be_written_with_a_point(
    client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    shuffled = dict(reversed(row.items())) | {"age": 45.0}
    response = await client.post("/predict", json=shuffled)
    assert response.json()["probability"] == probability(served, row)


async def test_a_repeated_name_counts_as_its_last_value(
    client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    text = json.dumps(row)[:-1] + ', "age": 50}'
    response = await client.post("/predict", content=text)
    assert response.json()["probability"] == probability(served, row | {"age": 50})


async def test_ids_sort_in_the_order_of_the_log_and_are_unique(
    services: Services, client: httpx.AsyncClient, row: Row
) -> None:
    for _ in range(5):
        await asyncio.gather(*(client.post("/predict", json=row) for _ in range(20)))
        await client.post("/predict/batch", json=[row] * 50)
    ids = [entry["prediction_id"] for entry in logged(services)]
    assert len(set(ids)) == 350
    assert ids == sorted(ids)
    assert services.writer.rows == 350


async def test_a_batch_is_answered_in_the_order_of_its_rows(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    rows = [row | {"age": age, "MonthlyIncome": age * 100 or None} for age in range(18, 100)]
    response = await client.post("/predict/batch", json=rows)
    answers = response.json()["predictions"]
    assert list(response.json()) == ["predictions"]
    batch = served.model.scores(matrix([[list(map(r.get, served.schema.names)) for r in rows]]))
    assert [answer["probability"] for answer in answers] == batch.tolist()
    assert [entry["prediction_id"] for entry in logged(services)] == [
        answer["prediction_id"] for answer in answers
    ]


async def test_batches_and_single_rows_that_wait_together_share_a_flush(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    rows = [row | {"DebtRatio": n / 8, "MonthlyIncome": n or None} for n in range(1000)]
    begun, held = asyncio.Event(), asyncio.Event()
    flush = services.pipeline.batcher._flush
    sizes = []

    async def slow(group: Served, parts: Sequence[Rows]) -> Predictions:
        sizes.append(sum(map(len, parts)))
        begun.set()
        await held.wait()
        return await flush(group, parts)

    services.pipeline.batcher._flush = slow
    first = asyncio.create_task(client.post("/predict", json=rows[0]))
    await begun.wait()
    waiting = [
        asyncio.create_task(client.post("/predict/batch", json=rows[1:200])),
        asyncio.create_task(client.post("/predict", json=rows[200])),
        asyncio.create_task(client.post("/predict/batch", json=rows[201:203])),
        asyncio.create_task(client.post("/predict/batch", json=rows[203:])),
    ]
    while services.pipeline.batcher.waiting_rows < 202 or len(sizes) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    held.set()
    answers = [(await first).json()]
    for response in await asyncio.gather(*waiting):
        answers += response.json().get("predictions", [response.json()])
    assert sizes == [1, 797, 202], "many rows wait for nobody"
    expected = served.model.scores(matrix([[list(map(r.get, served.schema.names)) for r in rows]]))
    by_id = {entry["prediction_id"]: entry for entry in logged(services)}
    for mine, answer, probability in zip(rows, answers, expected, strict=True):
        # BLAS adds up a single row and many in different orders.
        assert answer["probability"] == pytest.approx(probability, rel=0, abs=1e-12)
        assert float(by_id[answer["prediction_id"]]["DebtRatio"]) == mine["DebtRatio"]


async def test_ten_thousand_rows_are_one_batch(
    services: Services, client: httpx.AsyncClient, row: Row
) -> None:
    response = await client.post("/predict/batch", json=[row] * 10_000)
    assert len(response.json()["predictions"]) == services.writer.rows == 10_000


async def test_an_empty_batch_has_no_predictions(
    services: Services, client: httpx.AsyncClient
) -> None:
    response = await client.post("/predict/batch", json=[])
    assert (response.status_code, response.json()) == (200, {"predictions": []})
    assert services.writer.rows == 0


async def test_two_hundred_clients_get_their_own_answers_while_the_model_changes(
    services: Services, client: httpx.AsyncClient, served: Served, successor: Served, row: Row
) -> None:
    models = {"1": served, "2": successor}
    answers: list[tuple[Row, dict[str, Any]]] = []

    async def work(number: int) -> None:
        for turn in range(5):
            mine = row | {"DebtRatio": number + turn / 10}
            response = await client.post("/predict", json=mine)
            answers.append((mine, response.json()))

    async def reload() -> None:
        for version in "2121":
            await asyncio.sleep(0.05)
            services.slot.current = models[version]

    await asyncio.gather(reload(), *(work(n) for n in range(200)))
    assert {answer["model_version"] for _, answer in answers} == {"1", "2"}
    for mine, answer in answers:
        expected = probability(models[answer["model_version"]], mine)
        assert answer["probability"] == pytest.approx(expected, abs=1e-12)
    entries = {entry["prediction_id"]: entry for entry in logged(services)}
    assert len(entries) == len(answers) == 1000
    for mine, answer in answers:
        entry = entries[answer["prediction_id"]]
        assert float(entry["DebtRatio"]) == mine["DebtRatio"]
        assert float(entry["probability"]) == answer["probability"]


# -- wrong fields

WRONG: list[tuple[Row, str, str, Any]] = [
    ({"age": "x"}, "age", "must be a number", "x"),
    ({"age": True}, "age", "must be a number", True),
    ({"age": [1]}, "age", "must be a number", None),
    ({"age": 17}, "age", "must be at least 18", 17),
    ({"age": 121}, "age", "must be at most 120", 121),
    ({"age": 45.5}, "age", "must be a whole number", 45.5),
    (
        {"age": None},
        "age",
        "must be a number, not null; the model has learned no missing values here",
        None,
    ),
    ({"MonthlyIncome": "much"}, "MonthlyIncome", "must be a number or null", "much"),
    ({"DebtRatio": "y" * 5000}, "DebtRatio", "must be a number", "y" * 100 + "…"),
    ({"Age": 3}, "Age", "is unknown; did you mean 'age'?", 3),
    ({"zzz": 3}, "zzz", "is unknown", 3),
    (
        {LATE_: 1},
        LATE_,
        f"given twice: as {LATE!r} and as {LATE_!r}; send one of them",
        1,
    ),
]


def test_a_spelling_that_two_columns_would_share_is_unknown() -> None:
    schema = FeatureSchema((Feature("x<1"), Feature("x>1")))
    with pytest.raises(ValidationError) as caught:
        request_model(schema).model_validate_json('{"x<1": 1, "x>1": 2, "x_1": 3}')
    (error,) = field_errors(caught.value, known_fields(schema))
    assert (error.field, error.input) == ("x_1", 3)
    assert error.message in {f"is unknown; did you mean {name!r}?" for name in schema.names}


@pytest.mark.parametrize(("change", "field", "message", "shown"), WRONG)
async def test_a_wrong_field_is_named_with_its_remedy(
    services: Services,
    client: httpx.AsyncClient,
    row: Row,
    change: Row,
    field: str,
    message: str,
    shown: Any,
) -> None:
    document = problem(await client.post("/predict", json=row | change), 422, "invalid-fields")
    expected = {"field": field, "message": message}
    assert document["errors"] == [expected if shown is None else expected | {"input": shown}]
    assert document["detail"] == "1 field is wrong; see errors."
    assert services.writer.rows == 0


@pytest.mark.parametrize(
    ("token", "shown"),
    [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf"), ("1e999", "inf")],
)
async def test_nan_and_infinity_are_refused_by_name(
    client: httpx.AsyncClient, row: Row, token: str, shown: str
) -> None:
    strict = json.dumps(row).replace("0.25", token)
    nullable = json.dumps(row).replace("5400.5", token)
    for body, field, more in (
        (strict, "DebtRatio", ""),
        (nullable, "MonthlyIncome", "; null means missing"),
    ):
        document = problem(await client.post("/predict", content=body), 422, "invalid-fields")
        assert document["errors"] == [
            {
                "field": field,
                "message": f"must be a finite number (NaN and Infinity are not JSON{more})",
                "input": shown,
            }
        ]
        batch = await client.post("/predict/batch", content=f"[{body}]")
        assert problem(batch, 422, "invalid-fields")["errors"][0]["field"] == field


async def test_a_number_too_large_for_a_float_is_refused(
    client: httpx.AsyncClient, row: Row
) -> None:
    body = json.dumps(row).replace("0.25", "1" + "0" * 400)
    for path, text in (("/predict", body), ("/predict/batch", f"[{body}]")):
        document = problem(await client.post(path, content=text), 422, "invalid-fields")
        assert [error["field"] for error in document["errors"]] == ["DebtRatio"]
        assert "input" not in document["errors"][0], "hundreds of digits help nobody"


async def test_all_wrong_fields_come_at_once(client: httpx.AsyncClient) -> None:
    document = problem(
        await client.post("/predict", json={"DebtRatio": -1, "age": "x", "more": 1}),
        422,
        "invalid-fields",
    )
    found = {error["field"]: error["message"] for error in document["errors"]}
    assert found == {
        "age": "must be a number",
        LATE: "is required",
        "DebtRatio": "must be at least 0",
        "more": "is unknown",
    }
    assert document["detail"] == "4 fields are wrong; see errors."


@pytest.mark.parametrize("body", ["[]", "null", "3", '"x"'])
async def test_a_row_that_is_no_object_is_refused(client: httpx.AsyncClient, body: str) -> None:
    document = problem(await client.post("/predict", content=body), 422, "invalid-fields")
    [error] = document["errors"]
    assert (error["field"], error["message"]) == (None, "must be an object")


@pytest.mark.parametrize("body", ["{}", "null", "3"])
async def test_a_batch_that_is_no_array_is_refused(client: httpx.AsyncClient, body: str) -> None:
    document = problem(await client.post("/predict/batch", content=body), 422, "invalid-fields")
    message = "must be an array of objects, one for each row"
    assert document["errors"] == [{"field": None, "message": message}]


async def test_a_batch_is_all_or_nothing_and_names_every_wrong_row(
    services: Services, client: httpx.AsyncClient, row: Row
) -> None:
    rows = [row, row | {"age": 3}, row, 5, row | {"zzz": 1, "DebtRatio": None}]
    document = problem(await client.post("/predict/batch", json=rows), 422, "invalid-fields")
    found = [(error["row"], error["field"]) for error in document["errors"]]
    assert found == [(1, "age"), (3, None), (4, "DebtRatio"), (4, "zzz")]
    assert services.writer.rows == 0


async def test_a_thoroughly_wrong_batch_does_not_drown_its_client(
    client: httpx.AsyncClient,
) -> None:
    document = problem(
        await client.post("/predict/batch", json=[{}] * 10_000), 422, "invalid-fields"
    )
    assert len(document["errors"]) == SHOWN_ERRORS
    assert document["detail"] == "30000 fields are wrong; the first 100 are shown; see errors."


# -- bodies


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b"{'age': 1}", "key must be a string at line 1 column 2"),
        (b'{"age": "\xff"}', "it is not UTF-8 (invalid unicode code point at line 1 column 10)"),
        (b"[" * 3000, "recursion limit exceeded"),
        (b"{} {}", "trailing characters"),
    ],
)
async def test_what_is_no_json_is_a_400_that_says_where(
    client: httpx.AsyncClient, path: str, body: bytes, reason: str
) -> None:
    document = problem(await client.post(path, content=body), 400, "invalid-json")
    assert document["detail"].startswith(f"The body is not JSON: {reason}")
    assert document["errors"] == []


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json;",
    ],
)
async def test_json_is_taken_under_its_names_and_without_one(
    client: httpx.AsyncClient, row: Row, media_type: str | None
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    response = await client.post("/predict", content=json.dumps(row), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "media_type", ["text/csv", "application/json; charset=latin-1", "application/jsonx", ""]
)
async def test_other_media_types_are_a_415(
    client: httpx.AsyncClient, row: Row, media_type: str
) -> None:
    response = await client.post(
        "/predict", content=json.dumps(row), headers={"Content-Type": media_type}
    )
    document = problem(response, 415, "unsupported-media-type")
    assert repr(media_type) in document["detail"]


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/monitoring/run"])
async def test_a_body_beyond_the_limit_is_a_413_whether_it_is_announced_or_not(
    serve: Serve, path: str
) -> None:
    sent = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 50
            yield b" " * 50

    async with serve({"max_body": 200}) as (_, client):
        announced = problem(await client.post(path, content=b" " * 201), 413, "too-large")
        assert "200 bytes" in announced["detail"]
        assert "max_body" in announced["detail"]
        problem(await client.post(path, content=stream()), 413, "too-large")
        assert sent == 250, "it was read no further than needed"


async def test_a_body_of_exactly_the_limit_is_read(serve: Serve, row: Row) -> None:
    body = json.dumps(row).encode()
    async with serve({"max_body": len(body)}) as (_, client):
        assert (await client.post("/predict", content=body)).status_code == 200


async def test_a_body_in_many_parts_is_one(client: httpx.AsyncClient, row: Row) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for byte in json.dumps(row).encode():
            yield bytes([byte])

    assert (await client.post("/predict", content=stream())).status_code == 200


async def test_more_rows_than_the_limit_are_a_413(serve: Serve, row: Row) -> None:
    async with serve({"max_batch_rows": 3}) as (services, client):
        assert (await client.post("/predict/batch", json=[row] * 3)).status_code == 200
        document = problem(await client.post("/predict/batch", json=[row] * 4), 413, "too-large")
        assert document["detail"].startswith("The batch has 4 rows; at most 3 are taken")
        assert services.writer.rows == 3


# -- when it cannot be answered


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/model/info", "/ready"])
async def test_without_a_model_it_is_a_503(
    services: Services, client: httpx.AsyncClient, path: str
) -> None:
    services.slot.current = None
    if path.startswith("/predict"):
        response = await client.post(path, content=b"{}")
    else:
        response = await client.get(path)
    document = problem(response, 503, "not-ready" if path == "/ready" else "no-model")
    assert document["detail"].startswith("No model is loaded")


async def test_rows_that_cannot_be_written_are_a_503_until_they_can(
    services: Services, client: httpx.AsyncClient, row: Row
) -> None:
    await client.post("/predict", json=row)
    with capture_logs() as events:
        with full_disk(services):
            first = await client.post("/predict", json=row)
            batch = await client.post("/predict/batch", json=[row] * 3)
            problem(await client.get("/ready"), 503, "not-ready")
            health = (await client.get("/health")).json()
        document = problem(first, 503, "log-not-writable")
        problem(batch, 503, "log-not-writable")
        assert first.headers["retry-after"]
        assert "nothing was answered" in document["detail"]
        assert str(services.config.storage.root) not in first.text
        assert health["status"] == "degraded"
        assert health["reasons"] == ["the prediction log cannot be written"]
        assert health["log"]["failure"]
        # Ready again before a row has shown it: a load balancer would never send that row.
        assert (await client.get("/ready")).status_code == 200
        assert (await client.post("/predict", json=row)).status_code == 200
    assert (await client.get("/health")).json()["status"] == "ok"
    assert services.writer.rows == len(logged(services)) == 2
    ours = [e["event"] for e in events if e["event"].startswith("prediction_log")]
    assert ours == ["prediction_log_failed", "prediction_log_works_again"]


def raises(_: Any) -> Any:
    raise ValueError("a secret path")


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (lambda rows: np.full(len(rows), np.nan), "its score is nan"),
        (lambda rows: np.full(len(rows), np.inf), "its score is inf"),
        (lambda rows: np.full(len(rows), 1.5), "its score is 1.5"),
        (raises, "ValueError: a secret path"),
    ],
)
async def test_a_model_that_fails_is_a_500_that_is_not_logged_as_an_answer(
    services: Services,
    client: httpx.AsyncClient,
    served: Served,
    row: Row,
    scores: Callable[[Any], Any],
    words: str,
) -> None:
    services.slot.current = with_scores(served, scores)
    with capture_logs() as events:
        response = await client.post("/predict", json=row)
    document = problem(response, 500, "prediction-failed")
    assert "secret" not in response.text
    [event] = events
    assert event["event"] == "prediction_failed"
    assert event["log_level"] == "error"
    assert words in event["reason"]
    assert event["request_id"] == document["request_id"]
    assert services.writer.rows == 0


async def test_a_single_row_does_not_wait_for_a_batch(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    """Ten thousand rows are scored, and become lines, as long as hundreds of single ones."""
    waits, go_on = threading.Event(), threading.Event()

    def scores(rows: Any) -> Any:
        if len(rows) > 1:
            waits.set()
            assert go_on.wait(10)
        return np.full(len(rows), 0.5)

    services.slot.current = with_scores(served, scores)
    batch = asyncio.create_task(client.post("/predict/batch", json=[row] * 1000))
    try:
        assert await asyncio.to_thread(waits.wait, 10)
        assert (await client.post("/predict", json=row)).status_code == 200
        assert services.writer.rows == 1
    finally:
        go_on.set()
    assert (await batch).status_code == 200
    entries = logged(services)
    assert len(entries) == 1001
    assert len({entry["prediction_id"] for entry in entries}) == 1001
    assert [entry["prediction_id"] for entry in entries[1:]] == [
        each["prediction_id"] for each in (await batch).json()["predictions"]
    ]


async def test_a_batch_that_fails_leaves_nothing_behind(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    """An error whose traceback leads to itself would hold its rows until a full collection."""
    seen: list[weakref.ref[Any]] = []

    def scores(rows: Any) -> Any:
        seen.append(weakref.ref(rows if rows.base is None else rows.base))
        raise ValueError("no such applicant")

    services.slot.current = with_scores(served, scores)
    gc.collect()
    gc.disable()
    try:
        with capture_logs():
            for count in (300, 1, 300, 1):
                failed = await client.post("/predict/batch", json=[row] * count)
                assert failed.status_code == 500
        await client.get("/health")  # lets the threads go on
        assert [rows() is None for rows in seen[:2]] == [True, True]
    finally:
        gc.enable()


async def test_a_row_that_the_model_cannot_answer_harms_no_other_caller(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    def scores(rows: Any) -> Any:
        return np.where(rows[:, 2] == 7, np.nan, 0.5)

    services.slot.current = with_scores(served, scores)
    with capture_logs():
        responses = await asyncio.gather(
            *(client.post("/predict", json=row | {"DebtRatio": n % 10}) for n in range(50)),
            client.post("/predict/batch", json=[row, row | {"DebtRatio": 7}, row]),
        )
    assert [r.status_code for r in responses[:50]] == [
        500 if n % 10 == 7 else 200 for n in range(50)
    ]
    assert responses[50].status_code == 500, "a batch is all or nothing"
    assert services.writer.rows == 45
    assert "7.0" not in {entry["DebtRatio"] for entry in logged(services)}


# -- the functions behind


def test_predictions_have_one_time_and_ascending_ids(served: Served) -> None:
    rows: Sequence[list[float | None]] = [[45.0, 2.0, 0.25, None]] * 1000
    predictions = predict(served, [rows], Parallel())
    ids = [prediction.prediction_id for prediction in predictions]
    assert ids == sorted(set(ids))
    assert {prediction.timestamp for prediction in predictions} == {predictions[0].timestamp}
    assert type(predictions[0].probability) is float


async def test_what_a_model_writes_into_its_input_is_not_logged(
    services: Services, client: httpx.AsyncClient, served: Served, row: Row
) -> None:
    class Writes:
        def predict_proba(self, rows: Any) -> Any:
            rows[:] = -1.0
            return np.full((len(rows), 2), 0.5)

    engine = as_fitted(Writes(), served.schema.names)
    services.slot.current = with_scores(served, engine.scores)
    assert (await client.post("/predict", json=row)).status_code == 200
    for count in (3, 1000):  # of which the last are read as an array
        answer = await client.post("/predict/batch", json=[row] * count)
        assert answer.status_code == 200
    found = {(entry["age"], entry["DebtRatio"]) for entry in logged(services)}
    assert found == {("45", "0.25")}


async def test_the_example_row_is_a_valid_one(client: httpx.AsyncClient, served: Served) -> None:
    response = await client.post("/predict", json=example(served.schema))
    assert response.status_code == 200


async def test_a_flood_of_unknown_fields_is_refused_in_a_moment(serve: Serve, row: Row) -> None:
    flood = {f"a{n:06x}": 1 for n in range(100_000)}
    async with serve() as (_, client):
        slow = asyncio.create_task(client.post("/predict", json={**row, **flood}))
        await asyncio.sleep(0)
        assert (await client.post("/predict", json=row)).status_code == 200
        answer = await slow
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == SHOWN_ERRORS
    assert answer.json()["detail"].startswith("100000 fields are wrong")


@pytest.mark.parametrize("features", [10, 60, 300])
def test_hints_cost_nobody_a_second(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that still sends the columns of another version does so with every request."""
    names = [f"number_of_customers_late_{number:03d}_days" for number in range(features)]
    schema = FeatureSchema(tuple(Feature(name) for name in names))
    row = {name.replace("customers", "customer"): 1 for name in names}
    with pytest.raises(ValidationError) as caught:
        request_model(schema).model_validate(row)
    compared = []
    real = difflib.get_close_matches

    def counting(word: str, possibilities: list[str], **named: Any) -> list[str]:
        compared.append(sum(map(len, possibilities)))
        return real(word, possibilities, **named)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    found = field_errors(caught.value, known_fields(schema))
    assert len(found) == min(2 * features, SHOWN_ERRORS)
    assert sum(compared) <= 2500
    assert any("did you mean" in error.message for error in found) == (features <= 60)


MANY = 100_000


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
async def test_a_hundred_thousand_unknown_fields_are_counted_and_not_all_validated(
    client: httpx.AsyncClient, row: Row, path: str
) -> None:
    """pydantic would make an error of each, which takes a second on the event loop."""
    given = {**{f"k{number:06d}": 1 for number in range(MANY)}, **row}
    del given["age"]
    body = json.dumps([given] if path.endswith("batch") else given)
    document = problem(await client.post(path, content=body), 422, "invalid-fields")
    assert f"; the first {SHOWN_ERRORS} are shown" in document["detail"]
    number = int(document["detail"].split()[0])
    assert MANY <= number <= MANY + 2 * len(row)
    assert len(document["errors"]) == SHOWN_ERRORS
    known = known_fields(FeatureSchema((Feature("age"),)))
    kept, left = trimmed(given, known)
    assert len(kept) == SHOWN_ERRORS + len(known)
    assert len(kept) + left == len(given)


async def test_a_large_row_is_read_as_any_other(client: httpx.AsyncClient, row: Row) -> None:
    """Above the size from which it is parsed before it is validated."""
    text = json.dumps(row)
    padded = text[:-1] + " " * 40_000 + "}"
    first, second = [await client.post("/predict", content=each) for each in (text, padded)]
    assert second.status_code == 200
    assert first.json()["probability"] == second.json()["probability"]
    for wrong, status, kind in (
        (padded[:-1], 400, "invalid-json"),
        (padded + "x", 400, "invalid-json"),
        (f"[{padded}]", 422, "invalid-fields"),
        (padded.replace(":", ': null, "x":', 1), 422, "invalid-fields"),
    ):
        small = "".join(wrong.split(" " * 40_000))
        one = problem(await client.post("/predict", content=wrong), status, kind)
        other = problem(await client.post("/predict", content=small), status, kind)
        assert one.get("errors") == other.get("errors")
