"""structlog set-up: one JSON object a line on stdout, pretty on a terminal, libraries included."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOBase
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from monitorkit.redaction import redacted

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_DEEPEST = 10

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module; events are short lower-case keys, data goes into fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(
    level: LogLevel = "INFO", form: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Send every event of this process, the libraries' and Python's warnings too, to stdout.

    One event is one `write`, so that lines of several processes on one pipe do not mix.

    Args:
        level: events below it are left out.
        form: one JSON object a line, or for people; `auto`: for people on a terminal.
        stream: instead of stdout.
    """
    quiet_libraries()
    stream = sys.stdout if stream is None else stream
    pretty = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _collapse,
    ]
    # A traceback in the way of rich, which structlog prefers, would show the values of variables.
    console = structlog.dev.ConsoleRenderer(
        colors=stream.isatty() and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )
    renderer: list[Processor] = (
        [_one_line, console, _without_passwords]
        if pretty
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderer,
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    adopt_library_loggers()


@contextmanager
def through(stream: TextIO) -> Iterator[None]:
    """Send events to another stream for a while, such as one that knows of a progress bar."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    before = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, old in zip(handlers, before, strict=True):
            if old is not None:  # None: it was this one already
                handler.setStream(old)


class Printed(TextIOBase):
    """Turns what plugins print into events, so that stdout holds one JSON object a line."""

    def __init__(self, logger: str) -> None:
        self._log = logging.getLogger(logger)
        self._rest = ""

    @property
    def encoding(self) -> str:  # type: ignore[override] # what it takes is text already
        """UTF-8, for those who ask."""
        return "utf-8"

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """An event for each whole line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._log.info("%s", line)
        return len(text)

    def finish(self) -> None:
        """What was printed without an end of line is an event, too."""
        if self._rest:
            self.write("\n")


def adopt_library_loggers() -> None:
    """Route loggers that bring handlers of their own (MLflow, Alembic, Dask) through ours.

    Called again after such a library was imported.
    """
    for name in list(logging.Logger.manager.loggerDict):
        logger = logging.getLogger(name)
        if logger.handlers or not logger.propagate:
            logger.handlers.clear()
            logger.propagate = True
    # Progress reports of libraries, told at INFO for every statement: ours say the same once.
    level = max(logging.WARNING, logging.getLogger().level)
    for chatty in (
        "alembic",
        "mlflow",
        "httpx",
        "httpcore",
        "uvicorn.error",
        "asyncio",
        "distributed",
        "aiobotocore",
        "botocore",
    ):
        logging.getLogger(chatty).setLevel(level)


def quiet_libraries() -> None:
    """Tell libraries by their documented variables not to phone home and not to draw on stdout."""
    for name, value in {
        "DO_NOT_TRACK": "1",  # evidently
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)


def _to_json(event: Any, **_: Any) -> str:
    """Strict JSON on one line, whatever an event holds, without passwords.

    They are looked for before a text is escaped, for that changes what is not plain ASCII.
    """
    return json.dumps(_plain(event, 0))


def _plain(value: Any, depth: int) -> Any:
    """Numbers that JSON lacks as null, and keys and everything else as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping | list | tuple) and depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {redacted(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return redacted(str(value))


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What an event says begins no line on a terminal and moves no cursor; nor do its values."""
    for key, value in event.items():
        if key == "event" or (isinstance(value, str) and not _is_quoted(value)):
            event[key] = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
    return event


def _is_quoted(value: str) -> bool:
    """Whether structlog shows the `repr` of a text."""
    return not set(value).isdisjoint(" \t=\r\n\"'")


def _without_passwords(_logger: WrappedLogger, _method: str, line: Any) -> str:
    """The last step for people, so that tracebacks go through it, too; JSON has its own."""
    return redacted(str(line))


def _collapse(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop uvicorn's copy of its message with colour codes."""
    event.pop("color_message", None)
    return event
