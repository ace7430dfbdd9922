"""`Compressing`: what a cycle has read of the log becomes Parquet, before the next one.

It runs in the worker of the monitors, in slices, so that a cycle never waits long for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from monitorkit import logs
from monitorkit.config import Config
from monitorkit.errors import told
from monitorkit.prediction_log.compression import Compression
from monitorkit.worker import Worker

log = logs.get(__name__)

SHARE = 0.2  # of the interval between two cycles
SLICE_SECONDS = 1.0
LIMIT_SECONDS = 120.0  # for a slice, and to start the worker


class Compressing:
    """Compresses closed segments of the log when it is wanted.

    Args:
        config: the whole configuration.
        worker: does it.
    """

    def __init__(self, config: Config, worker: Worker) -> None:
        self._wanted = config.log.compress
        self._folder = config.storage.predictions
        self._seconds = SHARE * config.monitoring.interval.total_seconds()
        self._worker = worker

    def run(
        self,
        cursor: Mapping[str, int],
        *,
        to_the_end: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Go on with it; blocks its thread. A failure is an event, and the next cycle tries again.

        Args:
            cursor: up to where a cycle has read the log.
            to_the_end: when the time is up, go on to the end of the segment that is under way. A
                worker that ends with this cycle would never get any further.
            cancelled: asked between slices; true ends it.
        """
        deadline = time.monotonic() + self._seconds
        more, late = self._wanted, False
        while more and not cancelled() and (to_the_end or not late):
            try:
                more = self._worker.call(
                    "compressing the log",
                    LIMIT_SECONDS,
                    _compress,
                    self._folder,
                    dict(cursor),
                    SLICE_SECONDS,
                    begin=not late,
                )
                late = time.monotonic() >= deadline
            except Exception as error:  # noqa: BLE001 - the log is whole without it
                if not cancelled():
                    log.warning("compression_failed", reason=told(error))
                return


# Of a worker process: what is under way goes on in the next slice.
_under_way: dict[Path, Compression] = {}


def _compress(folder: Path, cursor: Mapping[str, int], seconds: float, *, begin: bool) -> bool:
    if folder not in _under_way:
        _under_way[folder] = Compression(folder)
    return _under_way[folder].work(cursor, seconds=seconds, begin=begin)
