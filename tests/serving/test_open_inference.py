"""The Open Inference Protocol: Triton's own client, and refusals in the shape that it reads."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException
from wire import listening, logged

from monitorkit.engines import Choice, Engine, Scorer, Timed
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services

Serve = Callable[..., AbstractAsyncContextManager[tuple[Services, httpx.AsyncClient]]]

MODEL = "credit-risk-model"
INFER = f"/v2/models/{MODEL}/infer"
LATE = "NumberOfTime30-59DaysPastDueNotWorse"
NAMES = ("age", LATE, "DebtRatio", "MonthlyIncome")
ROW = [45.0, 2.0, 0.25, 5400.5]


def matrix(rows: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows of random customers, some without an income."""
    random = np.random.default_rng(rows)
    columns = [
        random.integers(18, 90, rows),
        random.integers(0, 6, rows),
        random.exponential(0.5, rows),
        random.normal(5000, 2000, rows),
    ]
    table = np.column_stack(columns).astype(np.float64)
    table[::7, 3] = np.nan
    return table


def check_logged(services: Services, ids: list[str], rows: Any) -> None:
    """Every row is in the log once, as it was sent, under the id that came back."""
    entries = logged(services)
    assert [entry["prediction_id"] for entry in entries] == ids
    assert len(set(ids)) == len(rows) == services.writer.rows
    kept = [[float(entry[name] or "nan") for name in NAMES] for entry in entries]
    np.testing.assert_array_equal(kept, rows)


def tensor(data: Any, shape: Any = None, *, name: str = "rows", datatype: str = "FP64") -> Any:
    """One input of one row, unless told otherwise."""
    return {"name": name, "shape": shape or [1, 4], "datatype": datatype, "data": data}


def columns(rows: Any, shape: Callable[[int], list[int]]) -> list[Any]:
    """One input for each feature."""
    return [
        tensor([row[index] for row in rows], shape(len(rows)), name=name)
        for index, name in enumerate(NAMES)
    ]


async def infer(client: httpx.AsyncClient, body: Any, path: str = INFER) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return await client.post(path, content=content)


def error(response: httpx.Response, status: int, *words: str) -> str:
    """Check the shape of an error; returns what it says."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document.keys() == {"error"}
    for word in words:
        assert word in document["error"]
    return str(document["error"])


def output(response: httpx.Response, name: str) -> Any:
    """The data of one output."""
    assert response.status_code == 200, response.text
    [found] = [each for each in response.json()["outputs"] if each["name"] == name]
    assert found["shape"] == [len(found["data"])]
    return found["data"]


# -- Triton's own client


async def talk(services: Services, conversation: Callable[[Any], Any]) -> Any:
    """Run a conversation of Triton's client, in a thread, against a real server."""

    def run(port: int) -> Any:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            return conversation(client)

    async with listening(services) as (port, _):
        return await asyncio.to_thread(run, port)


async def test_tritons_client_finds_the_server_and_the_model(services: Services) -> None:
    def conversation(client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.is_model_ready(MODEL, "1")
        assert not client.is_model_ready(MODEL, "2")
        assert not client.is_model_ready("another")
        assert client.get_server_metadata()["name"] == "monitorkit"
        for version in ("", "1"):
            described = client.get_model_metadata(MODEL, version)
            assert (described["name"], described["versions"]) == (MODEL, ["1"])
            assert [each["name"] for each in described["inputs"]] == list(NAMES)
            assert {tuple(each["shape"]) for each in described["inputs"]} == {(-1, 1)}
            datatypes = [each["datatype"] for each in described["inputs"]]
            assert datatypes == ["INT64", "INT64", "FP64", "FP64"]
            given = {each["name"]: each["datatype"] for each in described["outputs"]}
            assert given == {"prediction": "INT64", "probability": "FP64", "prediction_id": "BYTES"}

    await talk(services, conversation)


async def test_tritons_client_infers_a_matrix_with_missing_values(
    services: Services, served: Served
) -> None:
    rows = matrix(300)

    def conversation(client: Any) -> Any:
        given = triton.InferInput("rows", list(rows.shape), "FP64")
        given.set_data_from_numpy(rows, binary_data=False)
        wanted = [
            triton.InferRequestedOutput(name, binary_data=False)
            for name in ("probability", "prediction", "prediction_id")
        ]
        answer = client.infer(MODEL, [given], outputs=wanted, request_id="mine-7")
        response = answer.get_response()
        assert (response["id"], response["model_version"]) == ("mine-7", "1")
        return [answer.as_numpy(each.name()) for each in wanted]

    probabilities, predictions, ids = await talk(services, conversation)
    expected = served.model.scores(rows)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-12)
    assert predictions.dtype == np.int64
    np.testing.assert_array_equal(predictions, expected > 0.5)
    check_logged(services, ids.tolist(), rows)


@pytest.mark.parametrize("width", [[], [1]])
async def test_tritons_client_infers_a_tensor_for_each_column_and_asks_for_nothing(
    services: Services, served: Served, width: list[int]
) -> None:
    rows = matrix(50)

    def conversation(client: Any) -> Any:
        described = client.get_model_metadata(MODEL)
        inputs = []
        for index, each in reversed(list(enumerate(described["inputs"]))):
            numpy_type = {"INT64": np.int64, "FP64": np.float64}[each["datatype"]]
            column = rows[:, index].astype(numpy_type).reshape(-1, *width)
            given = triton.InferInput(each["name"], list(column.shape), each["datatype"])
            given.set_data_from_numpy(column, binary_data=False)
            inputs.append(given)
        answer = client.infer(MODEL, inputs, model_version="1")
        assert "id" not in answer.get_response()
        binary = triton.InferRequestedOutput("prediction")
        again = client.infer(MODEL, inputs, outputs=[binary]).as_numpy("prediction")
        np.testing.assert_array_equal(again, answer.as_numpy("prediction"))
        return answer.as_numpy("probability"), answer.as_numpy("prediction_id")

    probabilities, ids = await talk(services, conversation)
    np.testing.assert_allclose(probabilities, served.model.scores(rows), rtol=0, atol=1e-12)
    assert [entry["prediction_id"] for entry in logged(services)][:50] == ids.tolist()
    assert services.writer.rows == 100, "each request once"


@pytest.mark.parametrize(
    ("classes", "datatype"), [(("no", "yes"), "BYTES"), ((False, True), "BOOL")]
)
async def test_tritons_client_reads_labels_as_the_model_has_them(
    services: Services, served: Served, classes: Any, datatype: str
) -> None:
    half = served.model
    services.slot.current = replace(
        served, model=replace(half, card=replace(half.card, classes=classes))
    )

    def conversation(client: Any) -> Any:
        given = triton.InferInput("rows", [2, 4], "FP64")
        data = np.array([ROW, [45, 5, 0.25, 5400.5]])
        given.set_data_from_numpy(data, binary_data=False)
        assert client.get_model_metadata(MODEL)["outputs"][0]["datatype"] == datatype
        return client.infer(MODEL, [given]).as_numpy("prediction")

    assert (await talk(services, conversation)).tolist() == list(classes)


async def test_tritons_client_reads_why_it_is_refused(services: Services) -> None:
    def refusal(client: Any, model: str = MODEL, **options: Any) -> str:
        given = triton.InferInput("rows", [1, 4], "FP64")
        given.set_data_from_numpy(np.array([ROW]), binary_data=options.pop("binary", False))
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model, [given], **options)
        return f"{refused.value.status()} {refused.value.message()}"

    def conversation(client: Any) -> list[str]:
        return [
            refusal(client, binary=True),
            refusal(client, "another"),
            refusal(client, model_version="2"),
            refusal(client, request_compression_algorithm="gzip"),
        ]

    binary, another, version, compressed = await talk(services, conversation)
    assert binary.startswith("400 Binary tensors")
    assert "binary_data=False" in binary
    assert another == "404 There is no model 'another'; 'credit-risk-model' is served."
    assert version.startswith("404 Version '2' of 'credit-risk-model' is not served; version 1 is")
    assert compressed.startswith("415 Content-Encoding is 'gzip'")
    assert services.writer.rows == 0


# -- every form of a request

PAIR = columns([ROW, ROW], lambda rows: [rows, 1])


@pytest.mark.parametrize(
    "inputs",
    [
        [tensor([*ROW, *ROW], [2, 4])],
        [tensor([ROW, ROW], [2, 4], name="age")],
        [tensor([45, 2, 0.25, 5400.5, *ROW], [2, 4])],
        columns([ROW, ROW], lambda rows: [rows]),
        PAIR[::-1],
        [each | {"data": [[value] for value in each["data"]]} for each in PAIR],
        [tensor([*ROW, *ROW], [2, 4], datatype="FP32")],
        [tensor([*ROW[:3], 5400.5, *ROW], [2, 4], datatype="FP16")],
        [
            each | ({"datatype": "UINT8", "data": [45, 45]} if each["name"] == "age" else {})
            for each in columns([ROW, ROW], lambda rows: [rows])
        ],
    ],
    ids=range(9),
)  # fmt: skip
async def test_the_same_rows_in_any_form(
    services: Services, client: httpx.AsyncClient, inputs: list[Any]
) -> None:
    response = await infer(client, {"inputs": inputs, "parameters": {"binary_data_output": True}})
    rows = [ROW, ROW]
    if inputs[0]["datatype"] == "FP16":
        rows = [[45.0, 2.0, 0.25, 5400.0]] * 2
    check_logged(services, output(response, "prediction_id"), rows)


async def test_an_fp32_is_the_nearest_single_float(
    services: Services, client: httpx.AsyncClient
) -> None:
    values = [45, 2, 0.1, None]
    await infer(client, {"inputs": [tensor(values, datatype="FP32")]})
    await infer(client, {"inputs": [tensor(values, datatype="FP64")]})
    kept = [float(entry["DebtRatio"]) for entry in logged(services)]
    assert kept == [float(np.float32(0.1)), 0.1]


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
async def test_the_ends_of_an_integers_range_are_in_it(
    services: Services, client: httpx.AsyncClient, bits: int
) -> None:
    half = 2 ** (bits - 1)
    sent = [("INT", -half), ("INT", half - 1), ("UINT", 0), ("UINT", 2 * half - 1)]
    for sign, value in sent:
        rows = [tensor([45, 2, 0, value], datatype=f"{sign}{bits}")]
        assert (await infer(client, {"inputs": rows})).status_code == 200
    kept = [float(entry["MonthlyIncome"]) for entry in logged(services)]
    assert kept == [float(value) for _, value in sent]


@pytest.mark.parametrize("value", ["null", "NaN"])
async def test_null_and_nan_are_missing(
    services: Services, client: httpx.AsyncClient, value: str
) -> None:
    body = json.dumps({"inputs": [tensor([*ROW[:3], 0])]}).replace(" 0]", f" {value}]")
    assert (await infer(client, body.encode())).status_code == 200
    assert logged(services)[0]["MonthlyIncome"] == ""


async def test_an_optional_column_may_be_left_out(
    services: Services, client: httpx.AsyncClient
) -> None:
    inputs = columns([ROW], lambda rows: [rows])[:3]
    assert (await infer(client, {"inputs": inputs})).status_code == 200
    assert logged(services)[0]["MonthlyIncome"] == ""


async def test_outputs_are_those_that_were_asked_for(client: httpx.AsyncClient) -> None:
    body = {"inputs": [tensor(ROW)], "outputs": [{"name": "probability"}, {"name": "prediction"}]}
    answer = (await infer(client, body)).json()
    assert [each["name"] for each in answer["outputs"]] == ["probability", "prediction"]
    assert list(answer) == ["model_name", "model_version", "outputs"]


async def test_no_rows_have_empty_outputs(services: Services, client: httpx.AsyncClient) -> None:
    for inputs in ([tensor([], [0, 4])], columns([], lambda rows: [rows])):
        response = await infer(client, {"inputs": inputs})
        assert output(response, "prediction") == output(response, "prediction_id") == []
    assert services.writer.rows == 0


@pytest.mark.parametrize("shape", ["matrix", "nested matrix", "columns"])
async def test_ten_thousand_rows_are_answered_like_two(
    services: Services, client: httpx.AsyncClient, served: Served, shape: str
) -> None:
    rows = matrix(10_000)
    inputs = {
        "matrix": [tensor(rows.ravel().tolist(), [10_000, 4])],
        "nested matrix": [tensor(rows.tolist(), [10_000, 4])],
        "columns": columns(rows.tolist(), lambda count: [count]),
    }[shape]
    response = await infer(client, {"inputs": inputs})
    np.testing.assert_allclose(
        output(response, "probability"), served.model.scores(rows), rtol=0, atol=1e-12
    )
    check_logged(services, output(response, "prediction_id"), rows)


# -- refusals

WRONG: list[tuple[Any, str]] = [
    ([], "The body must be an object"),
    ({}, "inputs must be a list of tensors"),
    ({"inputs": []}, "inputs must be a list of tensors"),
    ({"inputs": [3]}, "Input 0 must be an object with a name"),
    ({"inputs": [{"name": 3}]}, "Input 0 must be an object with a name"),
    ({"inputs": [tensor(ROW)], "id": 7}, "id must be a string"),
    ({"inputs": [tensor(ROW)], "outputs": {}}, "outputs must be a list"),
    ({"inputs": [tensor(ROW)], "outputs": [{"name": "y"}]}, "outputs may name prediction, prob"),
    ({"inputs": [tensor(ROW)], "outputs": [{"name": ["y"]}]}, "outputs may name"),
    (
        {
            "inputs": [tensor(ROW)],
            "outputs": [{"name": "prediction", "parameters": {"classification": 2}}],
        },
        "has no classification",
    ),
    (
        {"inputs": [tensor(None) | {"parameters": {"binary_data_size": 32}}]},
        "has no data; tensors in binary or shared memory are not supported",
    ),
    ({"inputs": [tensor(ROW, [4])]}, "Columns are missing"),
    ({"inputs": [tensor(ROW, [2, 4])]}, "has 4 values, and its shape says 8"),
    ({"inputs": [tensor(ROW, [1, 2, 2])]}, "must be [rows] or [rows, columns]"),
    ({"inputs": [tensor(ROW, [-1, 4])]}, "must be [rows] or [rows, columns]"),
    ({"inputs": [tensor(ROW, [True, 4])]}, "must be [rows] or [rows, columns]"),
    ({"inputs": [tensor(ROW, [10**4000, 10**4000])]}, "must be [rows] or [rows, columns]"),
    ({"inputs": [tensor([ROW[:2], ROW[2:]])]}, "is not nested as its shape says"),
    ({"inputs": [tensor(ROW[:3], [1, 3])]}, "has 3 columns, and the model reads 4"),
    ({"inputs": [tensor(ROW, datatype="BYTES")]}, "must be one of FP16, FP32, FP64, INT16"),
    ({"inputs": [tensor("abcd")]}, "data of input 'rows' must be a list"),
    ({"inputs": [tensor(["45", 2, 0.25, 1])]}, "Value 0 of input 'rows' is no FP64"),
    ({"inputs": [tensor([True, 2, 0.25, 1])]}, "Value 0 of input 'rows' is no FP64"),
    ({"inputs": [tensor([45, 2, 0.25, 1], datatype="INT64")]}, "Value 2 of input 'rows' is no INT"),
    ({"inputs": [tensor([45, 2, 0, 128], datatype="INT8")]}, "Value 3 of input 'rows' is no INT8"),
    ({"inputs": [tensor([45, 2, 0, -129], datatype="INT8")]}, "Value 3 of input 'rows' is no INT8"),
    ({"inputs": [tensor([45, 2, 0, -1], datatype="UINT8")]}, "Value 3 of input 'rows' is no UINT8"),
    ({"inputs": [tensor([45, 2, 0, 2**64], datatype="UINT64")]}, "Value 3 of input 'rows' is no U"),
    ({"inputs": [tensor([17, 2, 0.25, 1])]}, "row 0, column 'age' must be at least 18"),
    ({"inputs": [tensor([45, 2, None, 1])]}, "column 'DebtRatio' must be a number, not null"),
    ({"inputs": [tensor([45, 2, 1e300, 1], datatype="FP32")]}, "must be a finite number"),
    ({"inputs": [tensor([45, 2, 10**400, 1], datatype="FP32")]}, "input 'rows' is no FP32"),
    ({"inputs": columns([ROW], lambda n: [n]) * 2}, "There are 8 inputs, and the model reads 4"),
    ({"inputs": [tensor([1], [1], name=n) for n in ("age", "age")]}, "'age' is given twice"),
    (
        {"inputs": [tensor([1], [1], name=n) for n in (*NAMES[:3], "monthlyIncome")]},
        "Columns are unknown: 'monthlyIncome' (did you mean 'MonthlyIncome'?)",
    ),
    (
        {"inputs": [tensor([1, 2], [2], name="age"), tensor([1], [1], name=LATE)]},
        f"Input {LATE!r} has the shape [1]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), WRONG)
async def test_a_wrong_request_is_a_400_that_says_what_is_wrong(
    services: Services, client: httpx.AsyncClient, body: Any, words: str
) -> None:
    with capture_logs() as events:
        error(await infer(client, body), 400, words)
    assert events == []
    assert services.writer.rows == 0


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 5000, b"{} {}"])
async def test_what_is_no_json_is_a_400(client: httpx.AsyncClient, body: bytes) -> None:
    error(await infer(client, body), 400, "The body is not JSON")


async def test_an_absent_content_type_means_json_and_another_one_is_a_415(
    client: httpx.AsyncClient,
) -> None:
    content = json.dumps({"inputs": [tensor(ROW)]})
    for headers, status in (
        ({}, 200),
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "application/octet-stream"}, 415),
    ):
        response = await client.post(INFER, content=content, headers=headers)
        assert response.status_code == status
    error(response, 415, "Content-Type is 'application/octet-stream'")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/another", 404),
        ("GET", f"/v2/models/{MODEL}/versions/2", 404),
        ("GET", f"/v2/models/{MODEL}/versions/2/ready", 404),
        ("POST", f"/v2/models/{MODEL}/versions/2/infer", 404),
        ("POST", "/v2/models/{model}/infer", 404),
        ("POST", "/v2/models/another/infer", 404),
        ("POST", f"/v2/models/{MODEL}/config", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("DELETE", f"/v2/models/{MODEL}", 405),
    ],
)
async def test_what_the_router_refuses_has_the_protocols_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path, content=b"{}" if method == "POST" else None)
    error(response, status)


async def test_the_root_is_answered_with_and_without_a_slash(client: httpx.AsyncClient) -> None:
    for path in ("/v2", "/v2/"):
        response = await client.get(path)
        assert response.status_code == 200
        assert response.json().keys() == {"name", "version", "extensions"}
    error_elsewhere = await client.get("/v2x")
    assert error_elsewhere.headers["content-type"] == "application/problem+json"


async def test_too_large_a_body_or_too_many_rows_are_a_413(serve: Serve) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 50

    async with serve({"max_body": 400, "max_batch_rows": 2}) as (services, client):
        error(await infer(client, b" " * 401), 413, "max_body")
        error(await client.post(INFER, content=stream()), 413, "max_body")
        for inputs in ([tensor(ROW * 3, [3, 4])], columns([ROW] * 3, lambda rows: [rows])):
            body = json.dumps({"inputs": inputs}, separators=(",", ":")).encode()
            error(await infer(client, body), 413, "The batch has 3 rows; at most 2 are taken")
        assert services.writer.rows == 0


async def test_without_a_model_it_is_live_and_not_ready(
    services: Services, client: httpx.AsyncClient
) -> None:
    services.slot.current = None
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    for path in ("/v2/health/ready", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready"):
        error(await client.get(path), 503, "No model is loaded")
    error(await infer(client, {"inputs": [tensor(ROW)]}), 503, "No model is loaded")


async def test_a_model_that_fails_is_a_500_without_insides(
    services: Services, client: httpx.AsyncClient, served: Served
) -> None:
    timed = Timed(Engine("test", lambda rows: np.full(len(rows), np.nan)), 0.01, 0.0)
    scorer = Scorer(Choice("test"), timed, timed, math.inf)
    services.slot.current = replace(served, model=replace(served.model, scorer=scorer))
    with capture_logs() as events:
        response = await infer(client, {"inputs": [tensor(ROW)]})
    error(response, 500, "gave no answer")
    assert [event["event"] for event in events] == ["prediction_failed"]
    assert events[0]["request_id"] == response.headers["x-request-id"]
    assert services.writer.rows == 0


async def test_when_the_service_stops(services: Services, client: httpx.AsyncClient) -> None:
    await services.pipeline.close()
    response = await infer(client, {"inputs": [tensor(ROW)]})
    error(response, 503, "The service is stopping")
    assert response.headers["retry-after"]


async def test_answers_are_as_documented(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    model = "/v2/models/{model}"
    sample = document["paths"][f"{model}/infer"]["post"]["requestBody"]["content"]
    calls = [
        ("get", "/v2", None),
        ("get", "/v2/", None),
        ("get", "/v2/health/live", None),
        ("get", "/v2/health/ready", None),
        ("get", model, None),
        ("get", f"{model}/ready", None),
        ("post", f"{model}/infer", sample["application/json"]["example"]),
        ("post", f"{model}/infer", {}),
    ]
    for method, template, body in calls:
        response = await client.request(method, template.replace("{model}", MODEL), json=body)
        told = document["paths"][template][method]["responses"][str(response.status_code)]
        told = told["content"]["application/json"]
        schema = {**told["schema"], "components": document["components"]}
        jsonschema.validate(response.json(), schema)
        if template == model:
            assert response.json() == told["example"]


async def test_an_error_nobody_foresaw_is_a_500_in_the_protocols_shape(
    client: httpx.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a secret path")

    monkeypatch.setattr(type(served), "accept", broken)
    with capture_logs() as events:
        response = await infer(client, {"inputs": [tensor(ROW)]})
    assert "secret" not in error(response, 500, "The service failed")
    assert [event["event"] for event in events] == ["request_failed"]


# -- anything at all

values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([45, 2, 0.5, [], {}, [1], [45, 2, 0.5, 1]])
)
keys = st.sampled_from(["name", "shape", "datatype", "data", "inputs", "id", "parameters"])
anything = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)
datatypes = st.sampled_from(["FP64", "FP32", "FP16", "INT64", "BOOL", "BYTES"]) | values
almost = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*NAMES, "rows", "NumberOfTime30_59DaysPastDueNotWorse"]) | values,
        "shape": st.lists(st.integers(0, 5), min_size=1, max_size=3) | values,
        "datatype": datatypes,
        "data": st.lists(values, max_size=8) | values,
    }
)
good = st.lists(
    st.tuples(
        st.integers(18, 90), st.integers(0, 5), st.floats(0, 9), st.none() | st.floats(0, 9e4)
    ),
    max_size=3,
).map(lambda rows: tensor([value for row in rows for value in row], [len(rows), 4]))
documents = anything | st.fixed_dictionaries(
    {"inputs": st.lists(almost | good, max_size=4) | anything},
    optional={
        "id": st.text() | values,
        "outputs": anything | st.lists(st.fixed_dictionaries({"name": st.just("prediction_id")})),
        "parameters": anything,
    },
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents)
async def test_any_json(services: Services, client: httpx.AsyncClient, document: Any) -> None:
    before = services.writer.rows
    with capture_logs() as events:
        response = await infer(client, document)
    assert events == []
    if response.status_code != 200:
        error(response, 400)
        assert services.writer.rows == before
        return
    sizes = {each["shape"][0] for each in response.json()["outputs"]}
    assert sizes == {services.writer.rows - before}
    for each in response.json()["outputs"]:
        if each["name"] == "prediction_id" and each["data"]:
            assert [entry["prediction_id"] for entry in logged(services)][before:] == each["data"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(good)
async def test_any_good_rows(services: Services, client: httpx.AsyncClient, rows: Any) -> None:
    before = services.writer.rows
    response = await infer(client, {"inputs": [rows]})
    ids = output(response, "prediction_id")
    assert len(ids) == rows["shape"][0] == services.writer.rows - before
