"""What endpoints for tables have in common: a body in, rows through the pipeline, a body out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive, Scope

from monitorkit.prediction_log import Predictions
from monitorkit.serving import request_ids
from monitorkit.serving.answering import Answering
from monitorkit.serving.requests import check_head, read_body, unless_gone
from monitorkit.serving.served import Rows, Served
from monitorkit.serving.services import Services

T = TypeVar("T")

INLINE_BYTES = 4 * 1024
"""A body up to this is read on the event loop, in about 0.2 ms."""

INLINE_ROWS = 100
"""So many answers are written on the event loop."""


class Scoring(Answering):
    """An endpoint that answers tables of rows, all or nothing."""

    def __init__(self, services: Services) -> None:
        self._slot = services.slot
        self._pipeline = services.pipeline
        self._max_body = int(services.config.serving.max_body)
        self._max_rows = services.config.serving.max_batch_rows
        self._threads = CapacityLimiter(1)

    async def body(self, scope: Scope, receive: Receive) -> bytes | bytearray:
        """The body, refused before it is sent when its announced length is too much.

        Raises:
            Problem: 403, 413, and 415 for a compressed body.
            ClientDisconnect: the client left before the end.
        """
        check_head(scope, self._max_body, json=False)
        return await read_body(scope, receive, self._max_body)

    async def read(self, reader: Callable[..., T], *arguments: object, inline: bool) -> T:
        """Read a body, in a thread unless that takes no time."""
        if inline:
            return reader(*arguments)
        return await to_thread.run_sync(reader, *arguments, limiter=self._threads)

    async def predict(
        self, served: Served, rows: Rows, scope: Scope, receive: Receive
    ) -> Predictions:
        """Predict and log rows, and give it up when the client leaves; no rows have no answers.

        Raises:
            MonitorkitError: what `Pipeline.answer` raises.
            ClientDisconnect: the client left.
        """
        if not len(rows):
            return Predictions.of(())
        predictions = await unless_gone(receive, self._pipeline.answer(served, rows))
        request_ids.answered(scope, predictions)
        return predictions

    async def write(
        self, writer: Callable[..., bytes], predictions: Predictions, *arguments: object
    ) -> bytes:
        """Write an answer, in a thread unless that takes no time."""
        if len(predictions) <= INLINE_ROWS:
            return writer(predictions, *arguments)
        return await to_thread.run_sync(writer, predictions, *arguments, limiter=self._threads)
