"""Requests and cycles as spans of OpenTelemetry, and nothing of it when nobody asks."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import httpx
import pytest
from otlp_receiver import attributes, receiving
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from monitorkit import telemetry
from monitorkit.errors import ConfigError
from monitorkit.settings import Telemetry

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def application() -> Starlette:
    async def run(_: Request) -> JSONResponse:
        with telemetry.span("cycle", trigger="forced") as told:
            told["rows"] = 250
            told["drifted_features"] = ["age"]
            told["nothing"] = None
        return JSONResponse({})

    return Starlette(routes=[Route("/monitoring/run", run, methods=["POST"])])


async def test_a_request_is_a_span_of_its_clients_trace_and_what_it_does_is_below_it() -> None:
    with receiving() as received:
        with telemetry.traces(Telemetry(traces=received.url, service_name="credit")):
            app = telemetry.wrapped(application())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                answer = await client.post("/monitoring/run", headers=headers)
        assert answer.status_code == 200
        assert received.resource["service.name"] == "credit"
        request, cycle = received.named("POST /monitoring/run"), received.named("cycle")
    assert request.trace_id.hex() == cycle.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    assert cycle.parent_span_id == request.span_id
    assert 200 in attributes(request).values()
    assert attributes(cycle) == {
        "monitorkit.trigger": "forced",
        "monitorkit.rows": 250,
        "monitorkit.drifted_features": ["age"],
    }
    assert len(received.spans) == 2


@pytest.mark.parametrize(
    ("given", "told"), [({}, "scoring"), ({"service_name": "credit"}, "credit")]
)
def test_the_environment_may_name_the_service_where_the_configuration_does_not(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "scoring")
    with receiving() as received:
        with telemetry.traces(Telemetry(traces=received.url, **given)), telemetry.span("cycle"):
            pass
        received.named("cycle")
        assert received.resource["service.name"] == told


def test_an_error_is_noted_and_goes_on() -> None:
    with receiving() as received:
        with (
            telemetry.traces(Telemetry(traces=received.url)),
            pytest.raises(ZeroDivisionError),
            telemetry.span("cycle"),
        ):
            raise ZeroDivisionError("by nothing")
        cycle = received.named("cycle")
    assert cycle.status.code == 2  # ERROR
    assert "by nothing" in cycle.status.message


def test_without_an_address_nothing_is_wrapped_or_imported() -> None:
    app = application()
    with telemetry.traces(Telemetry()):
        assert telemetry.wrapped(app) is app
    script = (
        "import sys\n"
        "from monitorkit import telemetry\n"
        "from monitorkit.settings import Telemetry\n"
        "with telemetry.traces(Telemetry()), telemetry.span('cycle'):\n"
        "    telemetry.wrapped(None)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, missing, None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'monitorkit\[otel\]'"),
        telemetry.traces(Telemetry(traces="http://127.0.0.1:1")),
    ):
        pass


def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    started = time.monotonic()
    with telemetry.traces(Telemetry(traces="http://127.0.0.1:1/v1/traces")):
        for _ in range(10):
            with telemetry.span("cycle"):
                pass
    assert time.monotonic() - started < 3 * telemetry.SECONDS


def test_a_collector_that_never_answers_does_not_hold_up_the_end_either() -> None:
    """It takes a connection and reads nothing; there are several batches of spans."""
    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs() as events:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        with telemetry.traces(Telemetry(traces=url)):
            for _ in range(1500):
                with telemetry.span("cycle"):
                    pass
            started = time.monotonic()
        assert time.monotonic() - started < 2 * telemetry.SECONDS
    assert [event["event"] for event in events if event["event"] == "spans_not_sent"]


@pytest.mark.parametrize("wrong", ["collector:4318", "ftp://x", "http://", "http://a b"])
def test_an_address_is_one_of_the_web(wrong: str) -> None:
    with pytest.raises(ValidationError, match="traces"):
        Telemetry(traces=wrong)
