"""MLflow's scoring protocol: its own client, its own server's answers, and every refusal."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import mlflow
import mlflow_twin
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow_twin import COLUMNS, Twin, frame
from pydantic import TypeAdapter
from structlog.testing import capture_logs
from wire import listening, logged

from monitorkit.schema import Feature, FeatureSchema, request_model, spellings
from monitorkit.serving.fields import SHOWN_ERRORS
from monitorkit.serving.problems import Problem
from monitorkit.serving.protocols import csv_tables, parquet_tables
from monitorkit.serving.protocols.tables import read_records
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services
from monitorkit.worker import Worker

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
LATE = "late 30-59 days"
ROW = {"age": 45, LATE: 2, "DebtRatio": 0.25, "MonthlyIncome": 5400.5, "owner": True}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return mlflow_twin.make(tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def served(twin: Twin) -> Served:
    half: Served = twin.served
    return half


def check_logged(services: Services, answer: dict[str, Any], rows: pd.DataFrame) -> None:
    """Every answered row is in the log once, as it was sent, under the id that came back."""
    entries = logged(services)
    assert [entry["prediction_id"] for entry in entries] == answer["prediction_ids"]
    assert len(set(answer["prediction_ids"])) == len(rows) == services.writer.rows
    assert [entry["prediction"] for entry in entries] == [str(p) for p in answer["predictions"]]
    assert [float(entry["probability"]) for entry in entries] == answer["probabilities"]
    kept = pd.DataFrame(entries)[COLUMNS].replace("", "nan").astype(float).to_numpy()
    np.testing.assert_array_equal(kept, rows[COLUMNS].astype(float).to_numpy())


async def post(client: httpx.AsyncClient, body: Any, media_type: str = JSON) -> httpx.Response:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return await client.post("/invocations", content=content, headers={"Content-Type": media_type})


def error(response: httpx.Response, code: str, *words: str, status: int = 400) -> str:
    """Check the shape of an error; returns its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == JSON
    document = response.json()
    assert document.keys() == {"error_code", "message"}
    assert document["error_code"] == code
    for word in words:
        assert word in document["message"]
    return str(document["message"])


# -- MLflow's own client


def connect(port: int) -> Any:
    return ScoringServerClient("127.0.0.1", port)  # type: ignore[no-untyped-call] # theirs


async def test_mlflows_client_is_answered_as_by_mlflow(serve: Serve, twin: Twin) -> None:
    rows = frame(500, seed=3)
    async with serve() as (services, _), listening(services) as (port, _):

        def talk() -> dict[str, Any]:
            client = connect(port)
            client.wait_server_ready(timeout=10)
            client.ping()
            assert client.get_version() == mlflow.__version__
            answer = client.invoke(rows)
            assert answer.get_predictions().to_numpy().ravel().tolist() == answer["predictions"]
            return dict(answer)

        answer = await asyncio.to_thread(talk)
        assert answer["predictions"] == twin.pyfunc.predict(rows).tolist()
        assert answer["model_version"] == "1"
        expected = twin.served.model.scores(rows.astype(float).to_numpy())
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-12)
        check_logged(services, answer, rows)


async def test_mlflows_client_sees_why_it_is_refused(serve: Serve) -> None:
    async with serve() as (services, _), listening(services) as (port, _):
        client = connect(port)
        with pytest.raises(Exception, match=r"error code 400.*Columns are missing: 'age'"):
            await asyncio.to_thread(client.invoke, frame(3, seed=4).drop(columns="age"))
        assert services.writer.rows == 0


# -- the same bodies to MLflow's own server


def bodies(rows: pd.DataFrame) -> dict[str, tuple[Any, str]]:
    """A table in each form that clients send."""
    records = json.loads(rows.to_json(orient="records", double_precision=15))
    columns = {name: [record[name] for record in records] for name in rows}
    parquet = io.BytesIO()
    rows.to_parquet(parquet)
    shuffled = rows[COLUMNS[::-1]]
    return {
        "split": ({"dataframe_split": rows.to_dict(orient="split")}, JSON),
        "split of pandas": ('{"dataframe_split": ' + rows.to_json(orient="split") + "}", JSON),
        "records": ({"dataframe_records": records}, JSON),
        "instances": ({"instances": records}, JSON),
        "inputs": ({"inputs": columns}, JSON),
        "inputs by row": ({"inputs": records}, JSON),
        "params": ({"params": {"a": 1}, "dataframe_records": records}, JSON),
        "csv": (rows.to_csv(index=False), CSV),
        "csv with an index": (rows.to_csv(), CSV),
        "parquet": (parquet.getvalue(), PARQUET),
        "another order": ({"dataframe_split": shuffled.to_dict(orient="split")}, JSON),
        "another order of csv": (shuffled.to_csv(index=False), f"{CSV}; charset=utf-8"),
        "more columns": ({"dataframe_records": [r | {"id": "x"} for r in records]}, JSON),
    }


@pytest.mark.parametrize("form", list(bodies(frame(2, seed=0))))
async def test_each_form_is_answered_as_mlflows_server_does(
    serve: Serve, twin: Twin, form: str
) -> None:
    # JSON of 15 digits is what these bodies have, so that is what was sent.
    rows = frame(60, seed=5).round(6)
    body, media_type = bodies(rows)[form]
    transport = httpx.ASGITransport(twin.app)
    async with (
        serve() as (services, client),
        httpx.AsyncClient(transport=transport, base_url="http://mlflow") as mlflow_client,
    ):
        theirs = await post(mlflow_client, body, media_type)
        ours = await post(client, body, media_type)
        assert theirs.status_code == ours.status_code == 200, (theirs.text, ours.text)
        assert ours.headers["content-type"] == theirs.headers["content-type"] == JSON
        assert ours.json()["predictions"] == theirs.json()["predictions"]
        check_logged(services, ours.json(), rows)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"[]", JSON),
        (b"3", JSON),
        (b"\xff", JSON),
        (b"[" * 5000, JSON),
        ({}, JSON),
        ({"rows": [ROW]}, JSON),
        ({"instances": [ROW], "inputs": {"age": [1]}}, JSON),
        ({"dataframe_records": [ROW], "dataframe_split": {"data": []}}, JSON),
        ({"dataframe_split": [ROW]}, JSON),
        ({"dataframe_split": {"columns": COLUMNS}}, JSON),
        ({"dataframe_split": {"columns": COLUMNS, "data": [[1, 2]]}}, JSON),
        ({"dataframe_split": {"columns": COLUMNS, "data": [[1]] * 2, "index": [1]}}, JSON),
        ({"dataframe_split": {"columns": COLUMNS, "data": [], "name": "x"}}, JSON),
        ({"dataframe_records": ROW}, JSON),
        ({"inputs": {"age": [1, 2], LATE: [1]}}, JSON),
        (b"\xff\xfe", CSV),
        (b"PAR1", PARQUET),
        (b"", PARQUET),
    ],
    ids=str,
)
async def test_what_mlflows_server_refuses_is_a_400_here_as_well(
    serve: Serve, twin: Twin, body: Any, media_type: str
) -> None:
    transport = httpx.ASGITransport(twin.app, raise_app_exceptions=False)
    async with (
        serve() as (services, client),
        httpx.AsyncClient(transport=transport, base_url="http://mlflow") as mlflow_client,
    ):
        assert (await post(mlflow_client, body, media_type)).status_code >= 400
        with capture_logs() as events:
            response = await post(client, body, media_type)
        message = error(response, "BAD_REQUEST")
        assert "Traceback" not in message
        assert events == []
        assert services.writer.rows == 0


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "text/plain",
        "application/octet-stream",
        f"{JSON}; charset=latin-1",
        f"{JSON}; version=2",
        f"{CSV};charset=utf-16",
    ],
)
async def test_another_media_type_is_a_415_in_plain_text(
    client: httpx.AsyncClient, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    response = await client.post(
        "/invocations", content=json.dumps({"instances": [ROW]}), headers=headers
    )
    assert response.status_code == 415
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text.endswith(".")


@pytest.mark.parametrize("media_type", [JSON, f"{JSON};charset=UTF-8", f'{JSON}; charset="utf-8"'])
async def test_json_in_utf_8_is_taken(client: httpx.AsyncClient, media_type: str) -> None:
    assert (await post(client, {"instances": [ROW]}, media_type)).status_code == 200


# -- values: explicit where MLflow is lenient


def tables(row: dict[str, Any]) -> list[tuple[Any, str]]:
    """One row in each form of JSON."""
    return [
        ({"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}, JSON),
        ({"dataframe_records": [row]}, JSON),
        ({"instances": [row]}, JSON),
        ({"inputs": {name: [value] for name, value in row.items()}}, JSON),
        ({"inputs": row}, JSON),
    ]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"DebtRatio": "0.25"}, "row 0, column 'DebtRatio' must be a number."),
    ({"DebtRatio": True}, "row 0, column 'DebtRatio' must be a number."),
    ({"DebtRatio": {"a": 1}}, "row 0, column 'DebtRatio' must be a number."),
    ({"age": 45.5}, "row 0, column 'age' must be a whole number."),
    ({"age": 3}, "row 0, column 'age' must be at least 18."),
    ({"owner": 2}, "row 0, column 'owner' must be at most 1."),
    ({"owner": "yes"}, "row 0, column 'owner' must be a number."),
    ({"age": float("nan")}, "row 0, column 'age' must be a number, not null"),
    ({"MonthlyIncome": float("inf")}, "row 0, column 'MonthlyIncome' must be a finite number"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
async def test_a_wrong_value_is_a_400_that_names_its_column_and_not_the_value(
    serve: Serve, change: dict[str, Any], words: str
) -> None:
    async with serve() as (services, client):
        for body, media_type in tables(ROW | change):
            message = error(await post(client, body, media_type), "INVALID_PARAMETER_VALUE", words)
            assert "yes" not in message
        assert services.writer.rows == 0


@pytest.mark.parametrize(
    "change",
    [
        {"DebtRatio": 1},
        {"age": 45.0},
        {"MonthlyIncome": None},
        {"MonthlyIncome": float("nan")},
        {"owner": False},
        {"owner": 1},
        {"owner": 0.0},
    ],
)
async def test_what_means_the_same_is_taken(
    serve: Serve, twin: Twin, change: dict[str, Any]
) -> None:
    row = ROW | change
    values = [[np.nan if row[name] is None else float(row[name]) for name in COLUMNS]]
    expected = twin.served.model.scores(np.array(values)).tolist()
    async with serve() as (_, client):
        for body, media_type in tables(row):
            response = await post(client, body, media_type)
            assert response.status_code == 200, response.text
            assert response.json()["probabilities"] == pytest.approx(expected, abs=1e-12)


def test_a_flag_may_be_spelled_as_any_other_column(served: Served) -> None:
    schema = FeatureSchema((Feature("has-car", "integer", minimum=0, maximum=1),))
    row = TypeAdapter(request_model(schema))
    for name in spellings(["has-car"])["has-car"]:
        given = replace(served, schema=schema, _row=row)
        assert read_records(given, [{name: True}, {name: 0}]) == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": 45.5}, "'age' must be a whole number"),  # theirs: 45
        ({"DebtRatio": "0.25"}, "'DebtRatio' must be a number"),  # theirs: 0.25
        ({"owner": 7}, "'owner' must be at most 1"),  # theirs: true
        ({"MonthlyIncome": None, "monthly_income": 1}, "row 1, column 'monthly_income' is unknown"),
    ],
)
async def test_where_mlflow_guesses_the_client_is_told(
    serve: Serve, twin: Twin, change: dict[str, Any], words: str
) -> None:
    row = {name: value for name, value in (ROW | change).items() if value is not None}
    transport = httpx.ASGITransport(twin.app)
    async with (
        serve() as (services, client),
        httpx.AsyncClient(transport=transport, base_url="http://mlflow") as mlflow_client,
    ):
        theirs = await post(mlflow_client, {"dataframe_records": [ROW, row]})
        assert theirs.status_code == 200, theirs.text
        ours = await post(client, {"dataframe_records": [ROW, row]})
        error(ours, "INVALID_PARAMETER_VALUE", words)
        assert services.writer.rows == 0


async def test_an_optional_column_may_be_left_out(serve: Serve) -> None:
    without = {name: value for name, value in ROW.items() if name != "MonthlyIncome"}
    async with serve() as (services, client):
        answers = [
            (await post(client, body, media_type)).json()["probabilities"]
            for body, media_type in [
                *tables(without),
                *tables(ROW | {"MonthlyIncome": None}),
                (pd.DataFrame([without]).to_csv(index=False), CSV),
                (pd.DataFrame([without]).to_parquet(), PARQUET),
            ]
        ]
        assert np.ptp(answers) < 1e-12
        assert {entry["MonthlyIncome"] for entry in logged(services)} == {""}


async def test_a_misspelled_optional_column_is_refused_and_not_taken_as_missing(
    serve: Serve,
) -> None:
    wrong = {name.replace("MonthlyI", "monthly_i"): value for name, value in ROW.items()}
    async with serve() as (services, client):
        for body, media_type in [
            *tables(wrong),
            (pd.DataFrame([wrong]).to_csv(index=False), CSV),
            (pd.DataFrame([wrong]).to_parquet(), PARQUET),
        ]:
            message = (await post(client, body, media_type)).json()["message"]
            assert "monthly_income" in message
            assert "did you mean 'MonthlyIncome'" in message
        assert services.writer.rows == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([*COLUMNS, "age"], "Column 'age' is given twice"),
        ([*COLUMNS[:4], "Owner"], "Columns are missing: 'owner'; columns are unknown: 'Owner'"),
        ([1, None, ["x"], {}, 2.5], "columns are unknown: '1', 'None'"),
        ([], "Columns are missing: 'age', 'late 30-59 days', 'DebtRatio', 'owner'."),
    ],
)
async def test_wrong_columns_are_named(
    client: httpx.AsyncClient, columns: list[Any], words: str
) -> None:
    body = {"dataframe_split": {"columns": columns, "data": [[1] * len(columns)]}}
    error(await post(client, body), "BAD_REQUEST", words)


async def test_rows_without_names_are_refused_with_the_remedy(client: httpx.AsyncClient) -> None:
    for body in ({"instances": [[1, 2, 3, 4, 5]]}, {"inputs": [[1]]}, {"inputs": [1.5]}):
        error(await post(client, body), "BAD_REQUEST", "must name the columns")
    unnamed = {"dataframe_split": {"data": [[1, 2, 3, 4, 5]]}}
    error(await post(client, unnamed), "BAD_REQUEST", "the model reads them by name")


async def test_a_model_of_one_column_takes_values_without_names(
    services: Services, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    narrow = mlflow_twin.make(tmp_path, ["DebtRatio"])
    services.slot.current = narrow.served
    transport = httpx.ASGITransport(narrow.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as mlflow_client:
        for body in ({"instances": [0.5, 2.5]}, {"inputs": [0.5, 2.5]}):
            theirs = (await post(mlflow_client, body)).json()["predictions"]
            assert (await post(client, body)).json()["predictions"] == theirs
    error(await post(client, {"inputs": [[0.5]]}), "BAD_REQUEST", "must name the columns")


@pytest.mark.parametrize("classes", [("no", "yes"), (False, True), (3, 7)])
async def test_predictions_are_labels_as_the_model_has_them(
    services: Services, client: httpx.AsyncClient, twin: Twin, classes: Any
) -> None:
    half = twin.served.model
    labelled = replace(half, card=replace(half.card, classes=classes))
    services.slot.current = replace(twin.served, model=labelled)
    answer = (await post(client, {"instances": [ROW, ROW | {LATE: 5}]})).json()
    assert answer["predictions"] == list(classes)
    assert [p > 0.5 for p in answer["probabilities"]] == [False, True]


# -- CSV


@pytest.mark.parametrize(
    "text",
    [
        "age,late 30-59 days,DebtRatio,MonthlyIncome,owner\n45,2,0.25,5400.5,True\n",
        "\ufeffage,late 30-59 days,DebtRatio,MonthlyIncome,owner\r\n45,2,0.25,5400.5,true",
        '"age","late 30-59 days","DebtRatio","MonthlyIncome","owner"\n"45","2","0.25","5400.5",1\n',
        "\n\nage,late 30-59 days,DebtRatio,MonthlyIncome,owner\n\n 45 , 2.0 ,2.5e-1,+5400.5,1.0\n",
        'note,,,age,late_30_59_days,DebtRatio,MonthlyIncome,owner\n"\n,b",,,45,2,.25,5400.5,TRUE',
    ],
)
async def test_the_same_row_in_any_csv(serve: Serve, text: str) -> None:
    async with serve() as (services, client):
        response = await post(client, text, CSV)
        assert response.status_code == 200, response.text
        [entry] = logged(services)
        assert [float(entry[name]) for name in COLUMNS] == [45, 2, 0.25, 5400.5, 1]


HEAD = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "BAD_REQUEST", "The body is empty"),
        ("\n\n", "BAD_REQUEST", "The body is empty"),
        (f"{HEAD}\n45,2\n", "BAD_REQUEST", "Expected 5 columns, got 2"),
        (f'{HEAD}\n45,2,"0.25,1,1\n', "BAD_REQUEST", "The body is not a CSV table"),
        (f'{HEAD}\n45,2,0.25,1,1\n45,2,0.25,1,"1', "BAD_REQUEST", "unexpected end of data"),
        ("45,2,0.25,5400.5,1\n", "BAD_REQUEST", "Columns are missing: 'age'"),
        (
            f"{HEAD}\n45,2,secret,1,1\n45,2,1,nan,maybe\n45,2,1,1,1\n",
            "INVALID_PARAMETER_VALUE",
            "row 0, column 'DebtRatio' must be a number; row 1, column 'owner' must be a number.",
        ),
        (f"{HEAD}\n45,2,0x10,1,1\n", "INVALID_PARAMETER_VALUE", "must be a number"),
        (f"{HEAD}\n45,2,inf,1,1\n", "INVALID_PARAMETER_VALUE", "must be a finite number"),
        (f"{HEAD}\n45,2,,1,1\n", "INVALID_PARAMETER_VALUE", "not null"),
        (f"{HEAD}\n45,2,1e999,1,1\n", "INVALID_PARAMETER_VALUE", "must be a finite number"),
    ],
)
async def test_a_wrong_csv_is_refused_without_a_word_of_its_values(
    serve: Serve, text: str, code: str, words: str
) -> None:
    async with serve() as (services, client):
        message = error(await post(client, text, CSV), code, words)
        assert "secret" not in message
        assert services.writer.rows == 0


@pytest.mark.parametrize("rows", [1, 2, 3, 100, 4097])
def test_whatever_texts_are_no_numbers_are_found_in_order(rows: int) -> None:
    random = np.random.default_rng(rows)
    for share in (0.0, 0.001, 0.5, 1.0):
        wrong = random.random(rows) < share
        texts = np.where(wrong, "x", " 1.5 ").tolist()
        expected = np.flatnonzero(wrong).tolist()[:SHOWN_ERRORS]
        assert csv_tables._no_numbers(pa.array(texts)) == expected


def test_a_wrong_value_at_the_end_is_found_without_a_look_at_every_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trimmed = pa.array(["1.5"] * 10_000 + ["x"])
    looks = []

    class Counted:
        def __init__(self, texts: Any) -> None:
            self.texts = texts

        def __len__(self) -> int:
            return len(self.texts)

        def __getitem__(self, part: slice) -> Any:
            looks.append(part)
            return self.texts[part]

    monkeypatch.setattr("pyarrow.compute.utf8_trim_whitespace", Counted)
    assert csv_tables._no_numbers(trimmed) == [10_000]
    assert len(looks) < 40


@pytest.mark.parametrize("word", ["", "NA", "NaN", "null", "None", "<NA>", '""'])
async def test_a_missing_value_of_csv_is_one_of_pandas(serve: Serve, word: str) -> None:
    assert pd.read_csv(io.StringIO(f"a,b\n1,{word}\n"))["b"].isna().all()
    async with serve() as (services, client):
        assert (await post(client, f"{HEAD}\n45,2,1,{word},1\n", CSV)).status_code == 200
        assert logged(services)[0]["MonthlyIncome"] == ""


# -- Parquet


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "brotli", "lz4", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_parquet_in_any_compression_and_page_format(
    serve: Serve, compression: str, version: str
) -> None:
    rows = frame(500, seed=6)
    table = pa.Table.from_pandas(rows.assign(note="x" * 50), preserve_index=True)
    body = parquet(
        table,
        compression=compression,
        data_page_version=version,
        row_group_size=120,
        data_page_size=300,
        write_page_checksum=True,
    )
    async with serve() as (services, client):
        response = await post(client, body, PARQUET)
        assert response.status_code == 200, response.text
        check_logged(services, response.json(), rows)


async def test_parquet_of_other_number_types(serve: Serve) -> None:
    table = pa.table(
        {
            "age": pa.array([45], pa.uint8()),
            LATE: pa.array([2], pa.decimal128(5, 1)),
            "DebtRatio": pa.array([0.25], pa.float16()),
            "MonthlyIncome": pa.array([None], pa.null()),
            "owner": pa.array([1], pa.int64()),
        }
    )
    async with serve() as (services, client):
        response = await post(client, parquet(table), PARQUET)
        assert response.status_code == 200, response.text
        [entry] = logged(services)
        assert [entry[name] for name in COLUMNS] == ["45", "2", "0.25", "", "1"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": ["45"]}, "Column 'age' is string, and must be numbers"),
        ({"DebtRatio": [True]}, "Column 'DebtRatio' is true and false, and must be numbers"),
        ({"age": [[45]]}, "Column 'age' is list<element: int64>, and must be numbers"),
        ({"age": [{"a": 1}]}, "Column 'age' is struct<a: int64>, and must be numbers"),
        ({"age": pa.array([1], pa.timestamp("ns"))}, "Column 'age' is timestamp[ns]"),
    ],
)
async def test_a_parquet_column_that_is_no_number_is_named(
    client: httpx.AsyncClient, change: dict[str, Any], words: str
) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in ROW.items()}
    table = pa.table(columns | change)
    error(await post(client, parquet(table), PARQUET), "BAD_REQUEST", words)


def test_a_parquet_file_that_says_that_it_is_too_large_is_not_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = parquet(pa.Table.from_pandas(frame(1000, seed=10)))
    names, columns = parquet_tables.read_columns(body, served.schema, 1000)
    assert columns.shape == (len(names), 1000)
    monkeypatch.setattr(parquet_tables, "MAX_BYTES_BESIDE", 0)
    monkeypatch.setattr(parquet_tables, "MAX_BYTES_A_VALUE", 1)
    with pytest.raises(
        Problem, match=r"413 .*become \d+ bytes, and 1000 rows of them 5000 at most"
    ):
        parquet_tables.read_columns(body, served.schema, 1000)


async def test_a_parquet_file_that_ends_the_process_that_reads_it_harms_nobody(
    services: Services, client: httpx.AsyncClient
) -> None:
    # Found by damaging files at random: pyarrow 25 aborts when asked for the size of a column.
    body = (Path(__file__).parent / "damaged.parquet").read_bytes()
    error(await post(client, body, PARQUET), "BAD_REQUEST", "The body is not a Parquet file")
    good = parquet(pa.Table.from_pandas(frame(3, seed=11)))
    assert (await post(client, good, PARQUET)).status_code == 200
    assert services.writer.rows == 3


def test_a_parquet_file_is_not_blamed_for_a_process_that_does_not_start(served: Served) -> None:
    body = parquet(pa.Table.from_pandas(frame(3, seed=11)))
    process = Worker("parquet")
    process.close()  # as when the service stops
    with pytest.raises(Problem, match=r"503 not-ready: Parquet cannot be read now: ") as found:
        parquet_tables.read_parquet(served, body, 10, process)
    assert found.value.headers["Retry-After"]


@pytest.mark.parametrize("rows", [3, 10_000])
async def test_a_parquet_file_that_says_too_many_rows_is_refused(serve: Serve, rows: int) -> None:
    table = pa.table({name: np.full(rows + 1, 20.0) for name in COLUMNS}).slice(0, rows + 1)
    async with serve({"max_batch_rows": rows}) as (_, client):
        error(await post(client, parquet(table), PARQUET), "BAD_REQUEST", status=413)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
async def test_a_damaged_parquet_file_harms_nothing(
    services: Services, client: httpx.AsyncClient, data: st.DataObject
) -> None:
    body = bytearray(parquet(pa.Table.from_pandas(frame(50, seed=9)), compression="zstd"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    await attempt(services, client, bytes(body), PARQUET)


# -- limits


async def test_more_rows_than_the_limit_are_a_413_in_any_form(serve: Serve) -> None:
    forms = bodies(frame(4, seed=7))
    async with serve({"max_batch_rows": 3}) as (services, client):
        for form, (body, media_type) in forms.items():
            response = await post(client, body, media_type)
            message = error(response, "BAD_REQUEST", status=413)
            assert message.startswith("The batch has 4 rows; at most 3 are taken"), form
        assert services.writer.rows == 0


async def test_a_body_beyond_the_limit_is_a_413(serve: Serve) -> None:
    async with serve({"max_body": 200}) as (_, client):
        for media_type in (JSON, CSV, PARQUET):
            response = await post(client, b" " * 201, media_type)
            error(response, "BAD_REQUEST", "max_body", status=413)


async def test_no_rows_have_no_predictions(serve: Serve) -> None:
    async with serve() as (services, client):
        for body, media_type in bodies(frame(4, seed=7).iloc[:0]).values():
            response = await post(client, body, media_type)
            assert response.status_code == 200, response.text
            assert response.json()["predictions"] == response.json()["prediction_ids"] == []
        assert services.writer.rows == 0


# -- when it cannot be answered


async def test_without_a_model(services: Services, client: httpx.AsyncClient) -> None:
    assert (await client.get("/ping")).content == b"\n"
    services.slot.current = None
    ping = await client.get("/ping")
    assert (ping.status_code, ping.content) == (404, b"\n")
    response = await post(client, {"instances": [ROW]})
    error(response, "TEMPORARILY_UNAVAILABLE", "No model is loaded", status=503)
    assert response.headers["retry-after"]


async def test_when_the_service_stops(services: Services, client: httpx.AsyncClient) -> None:
    await services.pipeline.close()
    response = await post(client, {"instances": [ROW]})
    error(response, "TEMPORARILY_UNAVAILABLE", "The service is stopping", status=503)
    assert response.headers["retry-after"]


async def test_the_wrong_method(client: httpx.AsyncClient) -> None:
    response = await client.get("/invocations")
    error(response, "BAD_REQUEST", "/invocations takes POST", status=405)
    assert response.headers["allow"] == "POST"


async def test_answers_are_as_documented(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/invocations"]["post"]
    examples = operation["requestBody"]["content"]
    for body, media_type, status in (
        (examples[JSON]["example"], JSON, 200),
        (examples[CSV]["example"], CSV, 200),
        ({}, JSON, 400),
        ("", "text/plain", 415),
    ):
        response = await post(client, body, media_type)
        assert response.status_code == status, response.text
        content = operation["responses"][str(status)]["content"]
        told = content[response.headers["content-type"].partition(";")[0]]
        if told:
            schema = {**told["schema"], "components": document["components"]}
            jsonschema.validate(response.json(), schema)


# -- rows in great numbers


@pytest.mark.parametrize(
    "form", ["split", "split of pandas", "records", "instances", "inputs", "csv", "parquet"]
)
async def test_ten_thousand_rows_are_answered_like_sixty(
    serve: Serve, twin: Twin, form: str
) -> None:
    rows = frame(10_000, seed=8).round(6)
    body, media_type = bodies(rows)[form]
    async with serve() as (services, client):
        answer = (await post(client, body, media_type)).json()
        assert answer["predictions"] == twin.pyfunc.predict(rows).tolist()
        check_logged(services, answer, rows)


# -- anything at all

values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([45, 0.5, [], {}, [1], {"a": 1}])
)
names = st.sampled_from([*COLUMNS, "late_30_59_days", "id", ""])
anything = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6)
)
rows = st.fixed_dictionaries(
    {
        "age": st.integers(18, 90),
        LATE: st.integers(0, 5),
        "DebtRatio": st.floats(0, 9),
        "owner": st.booleans(),
    },
    optional={"MonthlyIncome": st.none() | st.floats(0, 9e4), "id": values, "age ": values},
)
almost = st.dictionaries(names, values, max_size=6) | rows
documents = st.one_of(
    st.fixed_dictionaries(
        {
            "dataframe_split": st.fixed_dictionaries(
                {
                    "columns": st.lists(names | values, max_size=6),
                    "data": st.lists(st.lists(values, max_size=6), max_size=3),
                },
                optional={"index": st.lists(values, max_size=3), "more": values},
            )
        }
    ),
    st.fixed_dictionaries({"dataframe_records": st.lists(almost | values, max_size=3)}),
    st.fixed_dictionaries({"instances": st.lists(almost, max_size=3) | anything}),
    st.fixed_dictionaries({"inputs": st.lists(almost, max_size=3) | almost | anything}),
    st.dictionaries(
        st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]),
        anything,
        max_size=2,
    ),
    anything,
)


async def attempt(
    services: Services, client: httpx.AsyncClient, body: Any, media_type: str
) -> None:
    """Nothing is a 500; what is refused leaves no trace, what is answered is logged once."""
    before = services.writer.rows
    with capture_logs() as events:
        response = await post(client, body, media_type)
    assert events == []
    assert response.status_code in (200, 400, 413), response.text
    if response.status_code == 200:
        ids = response.json()["prediction_ids"]
        assert services.writer.rows == before + len(ids)
        if ids:
            assert [entry["prediction_id"] for entry in logged(services)][before:] == ids
    else:
        assert response.json().keys() == {"error_code", "message"}
        assert services.writer.rows == before


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents)
async def test_any_json(services: Services, client: httpx.AsyncClient, document: Any) -> None:
    await attempt(services, client, document, JSON)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.text(max_size=30)
    | st.lists(
        st.lists(
            st.sampled_from([*COLUMNS, "45", "1", "0.5", "", "x", '"', "\r", "é", "True"]),
            min_size=1,
            max_size=6,
        ).map(",".join),
        max_size=5,
    ).map("\n".join),
    st.booleans(),
)
async def test_any_csv(
    services: Services, client: httpx.AsyncClient, text: str, headed: bool
) -> None:
    await attempt(services, client, f"{HEAD}\n{text}" if headed else text, CSV)
