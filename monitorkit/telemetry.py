"""Traces for OpenTelemetry, when asked for: a span for each request and each cycle, over OTLP/HTTP.

Nothing of it is imported while `[telemetry] traces` is empty.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from monitorkit import logs
from monitorkit.errors import ConfigError
from monitorkit.settings import Telemetry

if TYPE_CHECKING:
    from starlette.types import ASGIApp

SECONDS = 5
"""That an export may take, and all that are left at the end: no collector may hold it up."""

_PREFIX = "monitorkit."

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _Tracing:
    provider: Any
    tracer: Any


_current: list[_Tracing] = []
"""Of this process: one, or none."""


def require(settings: Telemetry) -> None:
    """Make sure that the packages are there which the configuration needs.

    Raises:
        ConfigError: one of them is not installed.
    """
    if settings.traces:
        try:
            import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            import_module("opentelemetry.sdk.trace.export")
        except ImportError as error:
            reason = f"needs {error.name}: `pip install 'monitorkit[otel]'`"
            raise ConfigError("[telemetry] traces", (reason,)) from error


@contextmanager
def traces(settings: Telemetry) -> Iterator[None]:
    """Send spans for a while, if the configuration says where to.

    Raises:
        ConfigError: the packages for it are not installed.
    """
    if not settings.traces:
        yield
        return
    require(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the same
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - the same
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - the same

    about = {"service.version": version("monitorkit")}
    usual = type(settings).model_fields["service_name"].default
    if settings.service_name != usual or "OTEL_SERVICE_NAME" not in os.environ:
        about["service.name"] = settings.service_name
    # The sampler is that of OTEL_TRACES_SAMPLER.
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=settings.traces, timeout=SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _current.append(_Tracing(provider, provider.get_tracer("monitorkit")))
    try:
        yield
    finally:
        _current.clear()
        _shut_down(provider)


def _shut_down(provider: Any) -> None:
    """Send what is left, in bounded time: it is in batches, each of which may take `SECONDS`."""
    sending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    sending.start()
    sending.join(SECONDS)
    if sending.is_alive():
        log.warning("spans_not_sent", reason=f"the collector took them for more than {SECONDS} s")


def wrapped(app: ASGIApp) -> ASGIApp:
    """An application whose every request is a span, the child of the client's; itself, when off."""
    if not _current:
        return app
    from opentelemetry.instrumentation.asgi import (  # noqa: PLC0415 - an extra
        OpenTelemetryMiddleware,
    )

    traced: ASGIApp = OpenTelemetryMiddleware(
        app, tracer_provider=_current[0].provider, exclude_spans=["receive", "send"]
    )
    return traced


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[dict[str, Any]]:
    """A piece of work as a span; an error in it is noted there and goes on.

    Yields:
        Its attributes, to add to; they get the prefix `monitorkit.`.
    """
    if not _current:
        yield attributes
        return
    with _current[0].tracer.start_as_current_span(name) as current:
        try:
            yield attributes
        finally:
            current.set_attributes(
                {_PREFIX + key: value for key, value in attributes.items() if value is not None}
            )
