"""Hands committed results to the sinks, in order, and remembers how far each one is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from filelock import FileLock, Timeout

from monitorkit import delivered, logs, plugin_manager
from monitorkit.config import Config
from monitorkit.contracts import Sink, SinkContext
from monitorkit.errors import told
from monitorkit.results import Results
from monitorkit.settings import SinkEntry
from monitorkit.worker import Worker

BATCH = 100  # results that one sink takes in one go at most, so that a new sink delays nobody long

log = logs.get(__name__)


class Delivery:
    """Delivers results from a worker process, each within its sink's timeout.

    The positions of all sinks are a file; without its position a sink gets everything again,
    which sinks have to bear.

    Args:
        config: the whole configuration.
        worker: the process in which sinks run.
        results: where the results are.
    """

    def __init__(self, config: Config, worker: Worker, results: Results) -> None:
        self._config = config
        self._worker = worker
        self._results = results
        self._folder = config.storage.state

    def deliver(
        self, *, patience: float = 0.0, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Deliver what each sink has not taken yet; what fails is an event, and tried again.

        Args:
            patience: seconds to wait for another process that delivers.
            cancelled: asked between deliveries and while waiting; true ends the call.
        """
        if not self._config.sinks or not (run_ids := self._results.run_ids()):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "delivery.lock", thread_local=False)
        try:
            lock.acquire(timeout=patience, poll_interval=0.05, cancel_check=cancelled)
        except Timeout:
            return  # the other process delivers ours too, now or the next time
        try:
            self._begin_anew(run_ids)
            for entry in self._config.sinks:
                for run_id in self._waiting(entry.name, run_ids)[:BATCH]:
                    if not self._one(entry, run_id, cancelled):
                        break
        finally:
            lock.release()

    def undelivered(self) -> dict[str, int]:
        """How many results each sink has still to take."""
        run_ids = self._results.run_ids()
        return {entry.name: len(self._waiting(entry.name, run_ids)) for entry in self._config.sinks}

    def _one(self, entry: SinkEntry, run_id: str, cancelled: Callable[[], bool]) -> bool:
        if cancelled():
            return False
        timeout = entry.timeout.total_seconds()
        try:
            task = f"sink {entry.name!r}"
            there, link = self._worker.call(task, timeout, _deliver, self._config, entry, run_id)
        except Exception as error:  # noqa: BLE001 - one failing sink harms itself alone
            if cancelled():  # its worker was closed
                return False
            log.error(  # noqa: TRY400 - a sink's traceback helps nobody at three in the morning
                "sink_failed",
                sink=entry.name,
                run_id=run_id,
                undelivered=len(self._waiting(entry.name, self._results.run_ids())),
                reason=told(error),
            )
            return False
        known = delivered.read(self._folder)
        delivered.write(self._folder, known.with_result(entry.name, run_id, link))
        if there:
            log.info("result_delivered", sink=entry.name, run_id=run_id)
        return True

    def _begin_anew(self, run_ids: Sequence[str]) -> None:
        """Forget the positions that are later than every result, and whose own result is gone.

        Somebody deleted what a clock that was ahead had made. New results sort before such a
        position, and which of them are new it cannot tell, so all are delivered again. Retention
        never deletes the newest result; a damaged one is there, though it is no run id any more.
        """
        known = delivered.read(self._folder)
        for entry in self._config.sinks:
            position = known.positions.get(entry.name, "")
            if run_ids and position > run_ids[-1] and not self._results.holds(position):
                known = known.without(entry.name)
                delivered.write(self._folder, known)
                log.warning(
                    "delivery_begins_anew",
                    sink=entry.name,
                    position=position,
                    newest=run_ids[-1],
                    undelivered=len(run_ids),
                )

    def _waiting(self, sink: str, run_ids: Sequence[str]) -> Sequence[str]:
        """The results that a sink has still to take, of all in their order."""
        position = delivered.read(self._folder).positions.get(sink, "")
        return run_ids[bisect_right(run_ids, position) :]


def context(config: Config) -> SinkContext:
    """What sinks are told of their surroundings."""
    root = config.artifact_root
    return SinkContext(
        tracking_uri=config.tracking_uri,
        artifact_root=str(root) if root is not None else None,
        model_name=config.registry.model_name,
        reports=str(config.storage.reports),
    )


# The sinks of a worker process: they live as long as it does.
_sinks: dict[str, Sink[Any]] = {}


def _deliver(config: Config, entry: SinkEntry, run_id: str) -> tuple[bool, str | None]:
    """Whether there was something to deliver (it may have been pruned), and its link.

    Raises:
        OSError: the result cannot be read now; it is there, and the next time it may be.
        Exception: whatever the sink raised.
    """
    key = f"{config.model_dump_json()}\n{entry.name}"
    if key not in _sinks:
        kinds = plugin_manager.kinds(plugin_manager.build(config.monitoring.plugin_files))
        _sinks[key] = plugin_manager.make_sink(kinds, entry, context(config))
    found = Results(config.storage.results).find(run_id, whatever_happens=False)
    if found is None:
        return False, None
    document, result = found
    link = _sinks[key].deliver(result, document)
    logs.adopt_library_loggers()
    return True, link if isinstance(link, str) else None
