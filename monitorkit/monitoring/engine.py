"""Where monitors run: `LocalEngine` here, `ProcessEngine` in a worker that may be killed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import monitorkit
from monitorkit import logs, plugin_manager, reference
from monitorkit.config import Config
from monitorkit.contracts import Chunk, Finding, Judgement, Monitor, Timeline, Window
from monitorkit.errors import ModelNotFound, ModelRefused, PluginError, SchemaError, WorkerError
from monitorkit.monitoring import checkpoint
from monitorkit.monitoring.scoring import scored_reference
from monitorkit.monitoring.timeline import Span, Track, bucket_number, from_microseconds
from monitorkit.prediction_log import Block, Reader
from monitorkit.worker import Worker

log = logs.get(__name__)

CHECKPOINT = "timeline.ckpt"
ACTIVE = "active"
SLICE_SECONDS = 5.0
READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Absorbed:
    """Where the timeline stands after reading what is new in the log.

    Attributes:
        window: the newest model version's rows in the look-back.
        cursor: up to where the log was read.
        reference_hash: of the reference, verified in this call.
        failures: monitors that could not sum up their rows, with the reason.
        rows_read: rows that were new.
        more: time was up before the end of the log; call again.
    """

    window: Window
    cursor: Mapping[str, int]
    reference_hash: str
    failures: Mapping[str, str]
    rows_read: int
    more: bool


class Engine(Protocol):
    """What a cycle asks of the place where monitors run."""

    def absorb(self, names: Sequence[str], now: datetime) -> Absorbed:
        """Bring the tracks of some monitors up to the end of the log."""

    def judge(
        self,
        name: str,
        version: str,
        now: datetime,
        previous: Sequence[Finding],
        *,
        reports: bool,
    ) -> Judgement:
        """Let one monitor judge its window."""


@dataclass(slots=True)
class _Step:
    """One reading of the log from one cursor."""

    cursor: Mapping[str, int]
    since: datetime | None = None
    deadline: float | None = None
    until: Mapping[str, int] | None = None
    rows: Track | None = None
    tracks: dict[str, Track] = field(default_factory=dict)


class LocalEngine:
    """Holds the timeline and the monitors, in this process; nothing here has a time limit.

    Args:
        config: the whole configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        settings = config.monitoring
        self._bucket = settings.bucket
        self._kinds = plugin_manager.kinds(plugin_manager.build(settings.plugin_files))
        self._entries = {entry.name: entry for entry in config.monitors}
        self._lookbacks = {
            entry.name: entry.lookback or settings.lookback for entry in config.monitors
        }
        self._horizon = max((settings.lookback, *self._lookbacks.values()))
        self._path = config.storage.state / CHECKPOINT
        self._stamp: tuple[int, int, int] | None = None
        self._reference: reference.Reference | None = None
        self._reference_chunks: dict[str, Chunk] = {}
        self._monitors: dict[tuple[str, str], Monitor[Any, Any]] = {}
        self._rows_id = f"rows/{self._bucket.total_seconds():g}"
        self._tracks: dict[str, Track] = {}
        self._unread: dict[str, Any] = {}  # tracks of the checkpoint that nobody has asked for yet

    def absorb(
        self, names: Sequence[str], now: datetime, *, seconds: float | None = None
    ) -> Absorbed:
        """Read the log from where each monitor's track ends, and sum up what is new.

        Args:
            names: the monitors that take part.
            now: the end of the window.
            seconds: stop, with `more`, after the block that is under way by then.

        Raises:
            ReferenceProblem: the reference is missing or is not what was frozen.
            RegistryError, SchemaError: the newest model version cannot be judged.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        horizon = now - self._horizon
        self._verify_reference()
        self._refresh()
        rows = self._tracks.setdefault(self._rows_id, Track())
        failures: dict[str, str] = {}
        total, more = self._read(_Step(rows.cursor, horizon, deadline, rows=rows), names, failures)
        if not more:
            for step in self._behind(rows, names, failures):
                step.since, step.deadline, step.until = horizon, deadline, rows.cursor
                read, more = self._read(step, names, failures)
                total += read
                if more:
                    break
                for track in step.tracks.values():
                    # Whatever was deleted meanwhile, it has now read what the others have.
                    track.cursor = dict(rows.cursor)
        dropped = [track.forget(horizon, self._bucket) for track in self._tracks.values()]
        if total or any(dropped) or self._stamp is None:
            self._save(horizon)
        return Absorbed(
            window=self._window(rows, now),
            cursor=dict(rows.cursor),
            reference_hash=self._known_reference().metadata.reference_hash,
            failures=failures,
            rows_read=total,
            more=more,
        )

    def _behind(
        self, rows: Track, names: Sequence[str], failures: dict[str, str]
    ) -> Iterable[_Step]:
        """Monitors that are new, or failed before, read what the others know; grouped by cursor."""
        steps: dict[str, _Step] = {}
        for name in names:
            if name in failures or rows.newest is None:
                continue
            identity = self._track_of(rows.newest, name, failures)
            if identity is None:
                continue
            track = self._tracks[identity]
            if dict(track.cursor) != dict(rows.cursor):
                key = json.dumps(dict(track.cursor), sort_keys=True)
                steps.setdefault(key, _Step(track.cursor)).tracks[identity] = track
        return steps.values()

    def ready(self, version: str, name: str) -> None:
        """Make everything that judging needs, so that only judging is timed."""
        self._verify_reference()
        self._refresh()
        failures: dict[str, str] = {}
        if self._track_of(version, name, failures) is None:
            raise PluginError(name, failures[name])

    def judge(
        self,
        name: str,
        version: str,
        now: datetime,
        previous: Sequence[Finding],
        *,
        reports: bool,
    ) -> Judgement:
        """Let one monitor judge its window.

        Args:
            name: of the monitor.
            version: of the model whose rows are judged.
            now: the end of the window.
            previous: the monitor's findings in the last result.
            reports: make the reports that are not made at every cycle.

        Raises:
            PluginError: it has no window, or its judgement is not one.
        """
        self.ready(version, name)
        monitor = self._monitors[version, name]
        track = self._tracks[self._identity(name, monitor)]
        if track.cursor != self._tracks[self._rows_id].cursor:
            raise PluginError(name, "its summaries do not reach the end of the log")
        buckets = track.buckets(
            version, now - self._lookbacks[name], self._bucket, now + self._lookbacks[name]
        )
        if not buckets:
            raise PluginError(name, f"no rows in its look-back of {self._lookbacks[name]}")
        self._say_active((name,))
        judgement = monitor.judge(Timeline(buckets, now, monitor.merge, reports), previous)
        self._say_active(())
        return _checked(name, judgement)

    def _read(
        self, step: _Step, names: Sequence[str], failures: dict[str, str]
    ) -> tuple[int, bool]:
        """Read on from a cursor; returns rows read and whether there is more."""
        monitors: dict[str, dict[str, Monitor[Any, Any]]] = {}
        total = 0
        reader = Reader(self._config.storage.predictions)
        for block in reader.read(step.cursor, since=step.since, until=step.until):
            version = block.model_version
            if version not in monitors:
                monitors[version] = self._monitors_by_track(version, names, failures)
                if step.rows is not None:
                    self._join(step, monitors[version])
            for identity in list(step.tracks):
                monitor = monitors[version].get(identity)
                sharing = self._names_of(version, identity, names)
                reason = self._add(step.tracks[identity], block, monitor, sharing)
                if reason is not None:
                    del step.tracks[identity]  # it stays where it is, and reads again next time
                    failures.update(dict.fromkeys(sharing, reason))
            if step.rows is not None:
                step.rows.add(version, block.chunk, self._bucket, Span.of, Span.merge)
                step.rows.cursor = block.cursor
            step.cursor = block.cursor
            total += len(block.chunk)
            if step.deadline is not None and time.monotonic() > step.deadline:
                return total, True
        return total, False

    def _join(self, step: _Step, monitors: Iterable[str]) -> None:
        """The tracks that stand where the reading stands take part in it."""
        for identity in monitors:
            track = self._tracks[identity]
            if dict(track.cursor) == dict(step.cursor):
                step.tracks[identity] = track

    def _add(
        self,
        track: Track,
        block: Block,
        monitor: Monitor[Any, Any] | None,
        names: tuple[str, ...],
    ) -> str | None:
        """Sum up one block; returns the reason when that failed."""
        if monitor is None:  # a version that cannot be judged, so far
            track.missing.add(block.model_version)
        else:
            self._say_active(names)
            try:
                track.add(
                    block.model_version,
                    block.chunk,
                    self._bucket,
                    monitor.summarise,
                    monitor.merge,
                )
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                return _reason(error)
            finally:
                self._say_active(())
        track.cursor = block.cursor
        return None

    def _monitors_by_track(
        self, version: str, names: Iterable[str], failures: dict[str, str]
    ) -> dict[str, Monitor[Any, Any]]:
        """One monitor for each track of a version; none when the version cannot be judged."""
        found: dict[str, Monitor[Any, Any]] = {}
        try:
            self._reference_chunk(version)
        except (ModelNotFound, ModelRefused, SchemaError) as error:
            log.warning("model_version_not_judged", model_version=version, reason=str(error))
            return found
        for name in names:
            if name not in failures:
                identity = self._track_of(version, name, failures)
                if identity is not None:
                    found.setdefault(identity, self._monitors[version, name])
        return found

    def _track_of(self, version: str, name: str, failures: dict[str, str]) -> str | None:
        """The identity of a monitor's track, which is made or restored when need be."""
        chunk = self._reference_chunk(version)
        monitor = self._monitors.get((version, name))
        self._say_active((name,))
        try:
            if monitor is None:
                monitor = plugin_manager.make_monitor(self._kinds, self._entries[name], chunk)
                self._monitors[version, name] = monitor
            identity = self._identity(name, monitor)
            if identity in self._unread:
                kind = type(monitor.summarise(chunk.take(slice(0, 1))))
                self._tracks[identity] = Track.from_document(self._unread.pop(identity), kind)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            failures[name] = _reason(error)
            return None
        finally:
            self._say_active(())
        track = self._tracks.setdefault(identity, Track())
        if version in track.missing:  # it can be judged now: read its rows again
            self._tracks[identity] = Track()
        return identity

    def _identity(self, name: str, monitor: Monitor[Any, Any]) -> str:
        """What two monitors, or two runs, must have in common to share summaries."""
        entry = self._entries[name]
        kind = next(kind for kind in self._kinds if kind.kind == entry.use)
        shared = monitor.summary_key()
        parts = [
            monitorkit.__version__,
            self._bucket.total_seconds(),
            self._known_reference().metadata.reference_hash,
            # Without a shared key the plugin's code and options decide what a summary is.
            shared if shared is not None else [kind.kind, kind.digest, entry.options],
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
        return f"{shared or entry.use}/{digest.hexdigest()[:16]}"

    def _names_of(self, version: str, identity: str, names: Iterable[str]) -> tuple[str, ...]:
        """The monitors that share a track."""
        return tuple(
            name
            for name in names
            if (monitor := self._monitors.get((version, name))) is not None
            and self._identity(name, monitor) == identity
        )

    def _verify_reference(self) -> None:
        folder = self._config.storage.reference
        known = self._reference
        if known is None or reference.verify(folder) != known.metadata:
            self._reference = reference.load(folder)
            self._reference_chunks.clear()
            self._monitors.clear()

    def _known_reference(self) -> reference.Reference:
        if self._reference is None:
            self._reference = reference.load(self._config.storage.reference)
        return self._reference

    def _reference_chunk(self, version: str) -> Chunk:
        if version not in self._reference_chunks:
            self._reference_chunks[version] = scored_reference(
                self._config, self._known_reference(), version
            )
        return self._reference_chunks[version]

    def _window(self, rows: Track, now: datetime) -> Window:
        lookback = self._config.monitoring.lookback
        buckets = (
            rows.buckets(rows.newest, now - lookback, self._bucket, now + lookback)
            if rows.newest is not None
            else []
        )
        return Window(
            rows=sum(bucket.rows for bucket in buckets),
            first=from_microseconds(min(b.summary.first for b in buckets)) if buckets else None,
            last=from_microseconds(max(b.summary.last for b in buckets)) if buckets else None,
            model_version=rows.newest,
            lookback_seconds=lookback.total_seconds(),
        )

    def _refresh(self) -> None:
        """Take over the checkpoint when another process wrote it since (or at first)."""
        stamp = _stamp(self._path)
        if stamp == self._stamp and stamp is not None:
            return
        if stamp is None and self._tracks:
            return  # deleted: ours is as good
        document = checkpoint.load(self._path) or {}
        self._tracks, self._unread = {}, {}
        self._stamp = stamp
        try:
            self._unread = dict(document.get("tracks", {}))
            if self._rows_id in self._unread:
                restored = Track.from_document(self._unread.pop(self._rows_id), Span)
                self._tracks[self._rows_id] = restored
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            self._tracks, self._unread = {}, {}
            log.warning("checkpoint_ignored", file=str(self._path), reason=repr(error))

    def _save(self, horizon: datetime) -> None:
        for identity, document in list(self._unread.items()):
            # Nobody asked for these (a monitor that was removed, or is skipped): they age as well.
            first = bucket_number(horizon, self._bucket)
            numbers = [int(n) for buckets in document["versions"].values() for n in buckets]
            if all(number < first for number in numbers):
                del self._unread[identity]
        tracks = {identity: track.to_document() for identity, track in self._tracks.items()}
        try:
            checkpoint.save(self._path, {"tracks": {**self._unread, **tracks}})
        except OSError as error:  # a cache: the next start reads the log again
            log.warning("checkpoint_not_written", file=str(self._path), reason=str(error))
        self._stamp = _stamp(self._path)

    def _say_active(self, names: tuple[str, ...]) -> None:
        """Leave word of whose code runs, for whoever has to find out after a crash or a kill."""
        say_active(self._config.storage.state, names)


def say_active(state: Path, names: Sequence[str]) -> None:
    """Write down which monitors' code runs."""
    state.mkdir(parents=True, exist_ok=True)
    (state / ACTIVE).write_text(json.dumps(list(names)), encoding="utf-8")


def active(state: Path) -> tuple[str, ...]:
    """The monitors whose code ran last, when a process ended in it."""
    try:
        return tuple(json.loads((state / ACTIVE).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # never written, or the crash came in the middle of it
        return ()


class ProcessEngine:
    """`LocalEngine` in a worker process: what hangs or crashes there is named and left out.

    Args:
        config: the whole configuration.
        worker: the process.
    """

    def __init__(self, config: Config, worker: Worker) -> None:
        self._config = config
        self._worker = worker
        self._entries = {entry.name: entry for entry in config.monitors}

    def warm_up(self) -> None:
        """Start the process and load what every cycle needs, ahead of the first one."""
        self._worker.call("starting the monitors", READY_SECONDS, _open, self._config)

    def absorb(self, names: Sequence[str], now: datetime) -> Absorbed:
        """As `LocalEngine.absorb`; a monitor that ends the process is a failure of that monitor.

        Raises:
            WorkerError: when it ended and no monitor is to blame.
        """
        failures: dict[str, str] = {}
        rows_read = 0
        while True:
            taking_part = [name for name in names if name not in failures]
            limit = max(
                [READY_SECONDS, *(self._entries[n].timeout.total_seconds() for n in taking_part)]
            )
            say_active(self._config.storage.state, ())
            try:
                absorbed = self._worker.call(
                    "reading the log", limit, _absorb, self._config, taking_part, now, SLICE_SECONDS
                )
            except WorkerError as error:
                guilty = active(self._config.storage.state)
                if not guilty or not set(guilty) <= set(taking_part):
                    raise
                failures.update(dict.fromkeys(guilty, str(error)))
                continue
            failures.update(absorbed.failures)
            rows_read += absorbed.rows_read
            if not absorbed.more:
                return replace(absorbed, failures=failures, rows_read=rows_read)

    def judge(
        self,
        name: str,
        version: str,
        now: datetime,
        previous: Sequence[Finding],
        *,
        reports: bool,
    ) -> Judgement:
        """As `LocalEngine.judge`, within the monitor's timeout.

        Raises:
            WorkerTimeout: it took longer.
            WorkerDied: it ended the process.
            Exception: whatever the monitor raised.
        """
        task = f"monitor {name!r}"
        self._worker.call(task, READY_SECONDS, _ready, self._config, version, name)
        limit = self._entries[name].timeout.total_seconds()
        return self._worker.call(
            task, limit, _judge, self._config, name, version, now, previous, reports=reports
        )


# The engine of a worker process: it lives as long as the process, so that nothing is loaded twice.
_engines: dict[str, LocalEngine] = {}


def _open(config: Config) -> None:
    key = config.model_dump_json()
    if key not in _engines:
        _engines.clear()
        _engines[key] = LocalEngine(config)


def _local(config: Config) -> LocalEngine:
    _open(config)
    (engine,) = _engines.values()
    return engine


def _absorb(config: Config, names: Sequence[str], now: datetime, seconds: float) -> Absorbed:
    return _local(config).absorb(names, now, seconds=seconds)


def _ready(config: Config, version: str, name: str) -> None:
    _local(config).ready(version, name)


def _judge(
    config: Config,
    name: str,
    version: str,
    now: datetime,
    previous: Sequence[Finding],
    *,
    reports: bool,
) -> Judgement:
    return _local(config).judge(name, version, now, previous, reports=reports)


def _checked(name: str, judgement: object) -> Judgement:
    """Refuse what could not be written into a result."""
    if not isinstance(judgement, Judgement):
        raise PluginError(name, f"judge returned a {type(judgement).__name__}, not a Judgement")
    for finding in judgement.findings:
        if not isinstance(finding, Finding):
            raise PluginError(name, f"a finding is a {type(finding).__name__}, not a Finding")
        try:
            json.dumps({**asdict(finding), "since": None}, allow_nan=False)
        except (TypeError, ValueError) as error:
            where = f"finding {finding.measure!r} of column {finding.column!r}"
            raise PluginError(name, f"{where} is not JSON-safe: {error}") from error
    for file, content in judgement.attachments.items():
        if not isinstance(content, bytes) or Path(file).name != file or file.startswith("."):
            raise PluginError(name, f"attachment {file!r} is not bytes under a plain file name")
    return judgement


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
