"""Spine 1: validated rows become logged answers, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import uuid_utils
from anyio import CapacityLimiter, to_thread

from monitorkit import logs
from monitorkit.errors import LogWriteFailed, PredictionFailed
from monitorkit.prediction_log import Predictions, Writer
from monitorkit.serving.batcher import Batcher
from monitorkit.serving.metrics import Metrics
from monitorkit.serving.parallel import Parallel
from monitorkit.serving.served import Rows, Served, matrix
from monitorkit.units import timestamp

log = logs.get(__name__)

INLINE_MILLISECONDS = 1.0
"""A batch that costs less runs on the event loop: a thread hand-off takes 0.1 ms of both threads
and makes every answer of the batch wait for it, while 1 ms on the loop delays nobody noticeably."""

MAKE_MILLISECONDS = 0.002
"""What stacking a row and giving it an id cost beside the model, at most; half of it on a quiet
machine."""


class Pipeline:
    """Predicts, logs and answers; nothing is answered that is not in the log.

    Run `run` in the lifespan's task group, and `close` before the log is closed.

    Args:
        writer: the prediction log.
        metrics: of batches.
        max_waiting_rows: rows that may wait before `answer` raises `Overloaded`.
    """

    def __init__(
        self,
        writer: Writer,
        metrics: Metrics,
        *,
        max_waiting_rows: int,
    ) -> None:
        self.batcher = Batcher(
            self._flush,
            max_waiting_rows=max_waiting_rows,
            isolate=(PredictionFailed,),
        )
        self._writer = writer
        self._metrics = metrics
        # One for each lane, and a limiter of its own, so that nothing else's threads delay them.
        self._threads = CapacityLimiter(2)
        self._failing = False
        self._parallel = Parallel()

    async def run(self) -> None:
        """Answer until closed."""
        await self.batcher.run()

    async def close(self) -> None:
        """Refuse new rows and return when every accepted one is answered."""
        await self.batcher.close()
        self._parallel.close()

    async def answer(self, served: Served, rows: Rows) -> Predictions:
        """Predict and log some rows.

        Args:
            served: the model they were validated for; it answers them, whatever is loaded since.
            rows: at least one, in schema order.

        Raises:
            Overloaded, Stopping: nothing was done.
            PredictionFailed: the model cannot answer these rows; nothing was logged.
            LogWriteFailed: the rows could not be written.
        """
        return await self.batcher.submit(served, rows)

    async def _flush(self, served: Served, parts: Sequence[Rows]) -> Predictions:
        started = time.perf_counter()
        count = sum([len(rows) for rows in parts])
        cost = served.model.scorer.milliseconds(count) + MAKE_MILLISECONDS * count
        if cost < INLINE_MILLISECONDS:
            predictions = predict(served, parts, self._parallel)
        else:
            predictions = await to_thread.run_sync(
                predict, served, parts, self._parallel, limiter=self._threads
            )
        try:
            await self._writer.append(served.schema, predictions)
        except LogWriteFailed as error:
            if not self._failing:  # the state is an event, not each of a thousand refused requests
                self._failing = True
                log.error("prediction_log_failed", path=error.path, reason=error.reason)  # noqa: TRY400
            raise
        if self._failing:
            self._failing = False
            log.info("prediction_log_works_again")
        self._metrics.batch_rows.observe(count)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)
        return predictions


def predict(served: Served, parts: Sequence[Rows], parallel: Parallel) -> Predictions:
    """Score rows and make their log entries, in order: ids ascend.

    Raises:
        PredictionFailed: the model raised, or a score is not a probability.
    """
    card = served.model.card
    try:
        table = matrix(parts)
        scores = parallel.scores(served.model, table).tolist()
        labels = served.model.labels(scores)
    except Exception as error:
        raise PredictionFailed(card.title(), f"{type(error).__name__}: {error}") from error
    for score in scores:
        if not 0.0 <= score <= 1.0:  # NaN neither
            raise PredictionFailed(card.title(), f"its score is {score}, which is no probability")
    # RFC 9562 allows any order within a millisecond; uuid_utils counts up, so ids sort as rows do.
    now = timestamp(datetime.now(UTC))
    new_id, count = uuid_utils.uuid7, len(scores)
    ids = [str(new_id()) for _ in scores]
    return Predictions(ids, [now] * count, [card.version] * count, labels, scores, table)
