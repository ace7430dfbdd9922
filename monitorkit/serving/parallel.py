"""Many rows are scored by several threads at once: trees leave the interpreter to others."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from monitorkit.engines import Features, Scores
from monitorkit.model import Model

SHARE_MILLISECONDS = 5.0
"""Of scoring, in each thread at least: a hand-off takes 0.1 ms of two threads."""


class Parallel:
    """Scores rows, in shares when they take long.

    The caller's thread takes a share itself, and those that nobody has begun by the end of it, for
    the others' threads may be busy with somebody else's rows. Where other processors are busy, the
    shares come one after the other, as the rows would have.

    Args:
        threads: at most so many at once; None: one for each processor of this process.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or _processors()
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1), thread_name_prefix="scoring")

    def scores(self, model: Model, table: Features) -> Scores:
        """P(positive) of (rows, columns), each as `Model.scores` has it.

        Raises:
            Exception: what `Model.scores` raised for some of them, once no thread reads the rows.
        """
        shares = min(self._threads, int(model.scorer.milliseconds(len(table)) / SHARE_MILLISECONDS))
        if shares < 2:  # noqa: PLR2004
            return model.scores(table)
        first, *others = np.array_split(table, shares)
        running = [self._pool.submit(model.scores, share) for share in others]
        try:
            own = model.scores(first)
            taken_back = [
                model.scores(share) if other.cancel() else None
                for share, other in zip(others, running, strict=True)
            ]
        finally:
            wait([other for other in running if not other.cancelled()])
        rest = [
            other.result() if scores is None else scores
            for scores, other in zip(taken_back, running, strict=True)
        ]
        return np.concatenate([own, *rest])

    def close(self) -> None:
        """Let the threads go; nothing is to be scored any more."""
        self._pool.shutdown(wait=False)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
