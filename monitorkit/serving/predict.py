"""POST /predict and /predict/batch as bare ASGI: bytes in, rows through the pipeline, bytes out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from monitorkit.errors import MonitorkitError
from monitorkit.prediction_log import Predictions
from monitorkit.serving import problems, request_ids
from monitorkit.serving.problems import Problem
from monitorkit.serving.requests import read_json_body, unless_gone
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services

WATCH_FROM_ROWS = 1000
"""A lone row that finds a shorter queue is answered by one of the next two batches, before anybody
can be seen to leave; to watch for it would cost as much as the answer (35 us)."""

THREAD_FROM_BYTES = 32 * 1024
"""About 100 rows: what takes longer to read than 1 ms is read in a thread."""


class Answering(ABC):
    """A bare ASGI endpoint that answers by itself whatever goes wrong with a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nobody gets one who has left."""
        try:
            body = await self.answer(scope, receive)
        except ClientDisconnect:
            return
        except (Problem, MonitorkitError) as error:
            await problems.told(error, scope)(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    @abstractmethod
    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The JSON that answers one request.

        Raises:
            Problem, MonitorkitError: what is answered instead.
            ClientDisconnect: nobody waits any more.
        """


class Predict(Answering):
    """One row: an object in, an object out."""

    def __init__(self, services: Services) -> None:
        self._slot = services.slot
        self._pipeline = services.pipeline
        self._max_body = int(services.config.serving.max_body)
        self._threads = CapacityLimiter(1)

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The answer to one row."""
        body = await read_json_body(scope, receive, self._max_body)
        served = self._slot.current
        if served is None:
            raise problems.no_model()
        if len(body) < THREAD_FROM_BYTES:
            row = served.read_row(body)
        else:  # no row is that large: most of it is wrong, and telling what takes a while
            row = await to_thread.run_sync(served.read_row, body, limiter=self._threads)
        answer = self._pipeline.answer(served, [row])
        if self._pipeline.batcher.waiting_rows < WATCH_FROM_ROWS:
            predictions = await answer
        else:
            predictions = await unless_gone(receive, answer)
        request_ids.answered(scope, predictions)
        return served.encode(predictions).encode()


class PredictBatch(Answering):
    """An array of rows in, `{"predictions": [...]}` in their order out; all or nothing."""

    def __init__(self, services: Services) -> None:
        self._slot = services.slot
        self._pipeline = services.pipeline
        self._max_body = int(services.config.serving.max_body)
        self._max_rows = services.config.serving.max_batch_rows
        self._threads = CapacityLimiter(1)

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The answers to the rows of one array."""
        body = await read_json_body(scope, receive, self._max_body)
        served = self._slot.current
        if served is None:
            raise problems.no_model()
        predictions = Predictions.of(())
        if len(body) < THREAD_FROM_BYTES:
            rows = served.read_rows(body, self._max_rows)
            if len(rows):
                predictions = await unless_gone(receive, self._pipeline.answer(served, rows))
                request_ids.answered(scope, predictions)
            return encode_batch(served, predictions)
        rows = await to_thread.run_sync(
            served.read_rows, body, self._max_rows, limiter=self._threads
        )
        if len(rows):
            predictions = await unless_gone(receive, self._pipeline.answer(served, rows))
            request_ids.answered(scope, predictions)
        return await to_thread.run_sync(encode_batch, served, predictions, limiter=self._threads)


def encode_batch(served: Served, predictions: Predictions) -> bytes:
    """The JSON of a batch's answers."""
    return f'{{"predictions":[{served.encode(predictions) if predictions else ""}]}}'.encode()
