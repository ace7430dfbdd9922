"""`DaskEngine`: what is new in the log is summed up on a Dask cluster, and judged here.

The log is cut into pieces; each is a task, and their summaries are merged as a tree, but for its
last branches: they are merged here, each when it is there, so that next to nothing is left to do
after the last piece. What comes back are some parts, each at most as large as the timeline.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from monitorkit import logs
from monitorkit.config import Config
from monitorkit.contracts import Judgement
from monitorkit.errors import ClusterError, MonitorkitError, told
from monitorkit.monitoring.engine import Step
from monitorkit.monitoring.monitors import AnyMonitor
from monitorkit.monitoring.pieces import (
    Part,
    PartsEngine,
    merge_parts,
    summarise_piece,
    unpacked,
)
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.monitoring.protocol import Case
from monitorkit.monitoring.timeline import Span, Track
from monitorkit.prediction_log import Piece
from monitorkit.prediction_log.pieces import split
from monitorkit.worker import NICENESS

log = logs.get(__name__)

PIECE_BYTES = 64 * 1024 * 1024
"""A third of a second's work: much more than a task costs, and many for each processor."""

UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
"""Dask looks at the stacks of its processes a hundred times a second, for a page that nobody sees
here: on two processors that is a twentieth of what two workers can do."""

HALVED = 8
"""So many of the last pieces are: always as many, so that monitors that add floats find the same on
every cluster."""

MERGED_AT_ONCE = 8
CONNECT_SECONDS = 30
REACH_SECONDS = 1.0


@contextmanager
def cluster(scheduler: str | None) -> Iterator[Any]:
    """A client of a cluster: of one that runs, or of one on this machine, a process a processor.

    Args:
        scheduler: its address, such as `tcp://10.0.0.5:8786`; None: begin one here.

    Raises:
        ClusterError: Dask is not installed, or the scheduler does not answer.
    """
    where = scheduler or "this machine"
    try:
        from distributed import Client  # noqa: PLC0415 - an extra, and 1 s
    except ImportError as error:
        remedy = "Install it: `pip install 'monitorkit[dask]'`."
        raise ClusterError(where, f"Dask is not installed ({error})", remedy) from error
    logs.adopt_library_loggers()
    with ExitStack() as stack:
        if scheduler is None:
            if sys.platform != "win32":
                os.nice(NICENESS)  # workers inherit it: a service beside them goes first
            scheduler = stack.enter_context(local_cluster())
        try:
            client: Any = Client(scheduler, timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]
            stack.enter_context(client)
        except (OSError, ValueError) as error:
            remedy = "Look whether the scheduler runs and its port can be reached from here."
            raise ClusterError(where, told(error), remedy) from error
        yield client


def local_cluster(workers: int | None = None) -> Any:
    """A cluster on this machine, to be used as a context.

    Args:
        workers: processes of one thread each; None: one for each processor.
    """
    from dask import config as settings  # noqa: PLC0415 - as above
    from distributed import LocalCluster  # noqa: PLC0415

    with settings.set(UNWATCHED):
        return LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",  # it cannot be left out; a free port is in no way
            silence_logs="WARNING",
        )


class DaskEngine(PartsEngine):
    """Sums up on a cluster, and lets monitors judge in a worker process of this machine.

    Args:
        config: the whole configuration. Every worker must find the reference, the models, the
            plug-in files and the log under its paths.
        judges: judges, from the timeline that this engine leaves on the disk.
        client: a `distributed.Client`.
        piece_bytes: of the log, for each task.
    """

    def __init__(
        self, config: Config, judges: ProcessEngine, client: Any, *, piece_bytes: int = PIECE_BYTES
    ) -> None:
        super().__init__(_portable(config))
        self._judges = judges
        self._client = client
        self._piece_bytes = piece_bytes

    def judge(self, case: Case) -> Judgement:
        """As `ProcessEngine.judge`."""
        return self._judges.judge(case)

    def _refresh(self) -> None:
        # What is in the file another process judges; this one only adds to it.
        self._store.check()
        super()._refresh()

    def _read(self, step: Step, names: Sequence[str], failures: dict[str, str]) -> tuple[int, bool]:
        """Read on from a cursor, all of it at once.

        Raises:
            ClusterError: the cluster gave up.
        """
        plan = self._reader.plan(
            step.cursor,
            since=step.since,
            until=step.until,
            newest=step.newest,
            piece_bytes=self._piece_bytes,
        )
        if not plan.pieces:
            return super()._read(step, names, failures)
        part = self._on_cluster(plan.pieces, [name for name in names if name not in failures])
        self._take(part, step, names, failures)
        for track in step.tracks.values():
            track.cursor = plan.cursor
        if step.rows is not None:
            step.rows.cursor = plan.cursor
        step.cursor = plan.cursor
        return part.count, False

    def _take(self, part: Part, step: Step, names: Sequence[str], failures: dict[str, str]) -> None:
        """Add what the cluster found to the tracks that stand where the reading began."""
        monitors = {
            version: self._monitors_by_track(version, names, failures)
            for version in part.rows.versions
        }
        if step.rows is not None:
            for of_version in monitors.values():
                self._join(step, of_version)
        failures.update(part.failures)
        for version, reason in part.not_judged.items():
            self._cannot_judge(version, reason)
        for identity, track in list(step.tracks.items()):
            sharing = {
                name
                for version in part.rows.versions
                for name in self._monitors.names_of(version, identity, names)
            }
            if not sharing.isdisjoint(part.failures):
                del step.tracks[identity]  # it stays where it is, and reads again next time
                continue
            try:
                self._take_into(track, identity, part, monitors)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                del step.tracks[identity]
                failures.update(dict.fromkeys(sharing, told(error)))
        if step.rows is not None:
            merges = dict.fromkeys(part.rows.versions, Span.merge)
            step.rows.take(part.rows.versions, merges)
            for version in part.rows.versions:
                made_with = self._monitors.references.model(version)
                step.rows.models.setdefault(version, made_with)

    def _take_into(
        self,
        track: Track,
        identity: str,
        part: Part,
        monitors: Mapping[str, Mapping[str, AnyMonitor]],
    ) -> None:
        """Add to one track what was found for it; nothing, when its monitor raises."""
        found = part.tracks.get(identity, Track()).versions
        whole = {
            version: buckets
            for version, buckets in found.items()
            if identity in monitors[version]
            and buckets.rows() == part.rows.versions[version].rows()
        }
        track.take(whole, {version: monitors[version][identity].merge for version in whole})
        track.missing |= part.rows.versions.keys() - whole.keys()  # could not be judged, so far
        for version in whole:
            track.models.setdefault(version, self._monitors.references.model(version))

    def _on_cluster(self, pieces: Sequence[Piece], names: Sequence[str]) -> Part:
        pieces = halved(pieces, HALVED, self._piece_bytes)
        log.info("log_on_cluster", pieces=len(pieces), scheduler=self._client.scheduler.address)
        with self._blaming_the_cluster():
            futures = self._submitted(pieces, names)
        found = self._brought(futures)
        whole = next(found)
        for part in found:
            whole = self.whole([whole, part], names)
        return whole

    def _submitted(self, pieces: Sequence[Piece], names: Sequence[str]) -> list[Any]:
        """Futures of parts that together are the whole, in the order of the log."""
        arguments = (self._config, list(names), self._now)
        submit = self._client.submit
        parts = [submit(summarise_piece, *arguments, piece, pure=False) for piece in pieces]
        # What is done last is merged here: all that is merged there was done some time before.
        parts, last = parts[:-MERGED_AT_ONCE], parts[-MERGED_AT_ONCE:]
        while len(parts) > MERGED_AT_ONCE:
            *groups, rest = (
                parts[start : start + MERGED_AT_ONCE]
                for start in range(0, len(parts), MERGED_AT_ONCE)
            )
            last = [*rest, *last]
            parts = [submit(merge_parts, *arguments, *group, pure=False) for group in groups]
        return [*parts, *last]

    def _brought(self, futures: list[Any]) -> Iterator[Part]:
        """Parts, each when it is there, from the workers themselves where those can be reached.

        Dask has them go through the scheduler, and asked to go straight it waits half a minute for
        a worker that it cannot reach.

        Args:
            futures: the parts are in their order; none is held when its part is given away.
        """
        from distributed import wait  # noqa: PLC0415 - an extra

        reached: dict[str, bool] = {}
        futures.reverse()
        while futures:
            with self._blaming_the_cluster():
                future = futures.pop()
                wait(future)  # type: ignore[no-untyped-call]
                holders = self._client.who_has(future).get(future.key, ())[:1]
                for holder in holders:
                    if holder not in reached:  # where one is not, the next one is not waited for
                        reached[holder] = all(reached.values()) and _reached(holder)
                direct = any(reached[holder] for holder in holders)
                part = unpacked(self._client.gather(future, direct=direct))
                del future
            yield part

    @contextmanager
    def _blaming_the_cluster(self) -> Iterator[None]:
        try:
            yield
        except MonitorkitError:
            raise
        except Exception as error:
            remedy = (
                "See the workers' log; a plugin that ends its process is found by running without "
                "--engine dask."
            )
            raise ClusterError(self._client.scheduler.address, told(error), remedy) from error


def halved(pieces: Sequence[Piece], last: int, piece_bytes: int) -> list[Piece]:
    """Pieces of which the last ones are half as long, so that no worker waits long for another."""
    begin = max(len(pieces) - last, 0)
    half = -(-piece_bytes // 2)
    return [*pieces[:begin], *(part for piece in pieces[begin:] for part in split(piece, half))]


def _reached(address: str) -> bool:
    """Whether a worker can be connected to from here."""
    from distributed.comm.addressing import get_address_host_port  # noqa: PLC0415 - an extra

    with (
        suppress(OSError, ValueError),
        socket.create_connection(get_address_host_port(address), timeout=REACH_SECONDS),
    ):
        return True
    return False


def _portable(config: Config) -> Config:
    """A configuration that says the same in a process with another folder and environment."""
    files = tuple(path.resolve() for path in config.monitoring.plugin_files)
    archives = tuple(
        each if "://" in each else str(Path(each).resolve()) for each in config.log.archives
    )
    changed = {
        "log": config.log.model_copy(update={"archives": archives}),
        "storage": config.storage.model_copy(update={"root": config.storage.root.resolve()}),
        "monitoring": config.monitoring.model_copy(update={"plugin_files": files}),
        "registry": config.registry.model_copy(update={"tracking_uri": config.tracking_uri}),
    }
    return config.model_copy(update=changed)
