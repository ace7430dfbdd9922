"""POST /predict and /predict/batch: rows through the pipeline."""

from __future__ import annotations

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive, Scope

from monitorkit.prediction_log import Predictions
from monitorkit.serving import request_ids
from monitorkit.serving.answering import Answering
from monitorkit.serving.requests import read_json_body, unless_gone
from monitorkit.serving.scoring import Scoring
from monitorkit.serving.served import Served
from monitorkit.serving.services import Services

WATCH_FROM_ROWS = 1000
"""A lone row that finds a shorter queue is answered by one of the next two batches, before anybody
can be seen to leave; to watch for it would cost as much as the answer (35 us)."""

THREAD_FROM_BYTES = 32 * 1024
"""About 100 rows: what takes longer to read than 1 ms is read in a thread."""


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
        served = self._slot.served()
        if len(body) < THREAD_FROM_BYTES:
            row = served.read_row(body)
        else:  # no row is that large: most of it is wrong, and telling what takes a while
            row = await to_thread.run_sync(served.read_row, body, limiter=self._threads)
        answer = self._pipeline.answer(served, [row])
        if self._pipeline.batcher.few.waiting_rows < WATCH_FROM_ROWS:
            predictions = await answer
        else:
            predictions = await unless_gone(receive, answer)
        request_ids.answered(scope, predictions)
        return served.encode(predictions).encode()


class PredictBatch(Scoring):
    """An array of rows in, `{"predictions": [...]}` in their order out."""

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The answers to the rows of one array."""
        body = await read_json_body(scope, receive, self._max_body)
        served = self._slot.served()
        inline = len(body) < THREAD_FROM_BYTES
        rows = await self.read(served.read_rows, body, self._max_rows, inline=inline)
        predictions = await self.predict(served, rows, scope, receive)
        return await self.write(encode_batch, predictions, served)


def encode_batch(predictions: Predictions, served: Served) -> bytes:
    """The JSON of a batch's answers."""
    return f'{{"predictions":[{served.encode(predictions) if predictions else ""}]}}'.encode()
