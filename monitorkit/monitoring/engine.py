"""The engine: holds the timeline and the monitors, reads what is new, and lets monitors judge."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import monitorkit
from monitorkit import logs, plugin_manager
from monitorkit.config import Config
from monitorkit.contracts import Finding, Judgement, Monitor, Timeline, Window
from monitorkit.errors import MonitorkitError, PluginError, told
from monitorkit.monitoring import checkpoint
from monitorkit.monitoring.active import say_active
from monitorkit.monitoring.protocol import Absorbed, checked
from monitorkit.monitoring.scoring import ScoredReferences
from monitorkit.monitoring.timeline import Span, Track, bucket_number, from_microseconds
from monitorkit.prediction_log import Block, Reader

log = logs.get(__name__)

CHECKPOINT = "timeline.ckpt"


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
        self._references = ScoredReferences(config)
        self._monitors: dict[tuple[str, str], Monitor[Any, Any]] = {}
        self._first: int | None = None
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
        self._verify()
        self._refresh()
        self._first = bucket_number(horizon, self._bucket)
        rows = self._whole(self._rows_id)
        failures: dict[str, str] = {}
        total, more = self._read(_Step(rows.cursor, horizon, deadline, rows=rows), names, failures)
        if not more:
            for step in self._behind(rows, names, failures):
                step.since, step.deadline, step.until = horizon, deadline, rows.cursor
                read, more = self._read(step, names, failures)
                total += read
                if more:
                    break
                self._pass_over_gone(step, rows)
        dropped = [track.forget(horizon, self._bucket) for track in self._tracks.values()]
        if total or any(dropped) or self._stamp is None:
            self._save(horizon, names, failures)
        return Absorbed(
            window=self._window(rows, now),
            cursor=dict(rows.cursor),
            reference_hash=self._references.hash,
            failures=failures,
            rows_read=total,
            more=more,
        )

    def _pass_over_gone(self, step: _Step, rows: Track) -> None:
        """Segments that are gone can keep no track from being where the others are."""
        here = Reader(self._config.storage.predictions).identities()
        gone = {segment: at for segment, at in rows.cursor.items() if segment not in here}
        for track in step.tracks.values():
            track.cursor = {**track.cursor, **gone}

    def _behind(
        self, rows: Track, names: Sequence[str], failures: dict[str, str]
    ) -> Iterable[_Step]:
        """Monitors that are new, or failed before, read what the others know; grouped by cursor."""
        steps: dict[str, _Step] = {}
        for name in names:
            if name in failures or rows.newest is None:
                continue
            identity = self._track_of(rows.newest, name, failures, renew=True)
            if identity is None:
                continue
            track = self._tracks[identity]
            if dict(track.cursor) != dict(rows.cursor):
                key = json.dumps(dict(track.cursor), sort_keys=True)
                steps.setdefault(key, _Step(track.cursor)).tracks[identity] = track
        return steps.values()

    def ready(self, version: str, name: str) -> None:
        """Make everything that judging needs, so that only judging is timed."""
        self._verify()
        self._refresh()
        failures: dict[str, str] = {}
        if self._track_of(version, name, failures, renew=False) is None:
            raise PluginError(name, failures[name])

    def judge(
        self,
        name: str,
        version: str,
        now: datetime,
        previous: Sequence[Finding],
        *,
        cursor: Mapping[str, int],
        reports: bool,
    ) -> Judgement:
        """Let one monitor judge its window.

        Args:
            name: of the monitor.
            version: of the model whose rows are judged.
            now: the end of the window.
            previous: the monitor's findings in the last result.
            cursor: where `absorb` said that it stands.
            reports: make the reports that are not made at every cycle.

        Raises:
            PluginError: it has no window, or its judgement is not one.
        """
        self.ready(version, name)
        monitor = self._monitors[version, name]
        track = self._tracks[self._identity(name, monitor)]
        if dict(track.cursor) != dict(cursor):
            raise PluginError(
                name, "its summaries do not reach the end of the log; the next cycle reads on"
            )
        buckets = track.buckets(
            version, now - self._lookbacks[name], self._bucket, now + self._lookbacks[name]
        )
        if not buckets:  # its look-back is shorter, and was quiet
            return Judgement([])
        self._say_active((name,))
        judgement = monitor.judge(Timeline(buckets, now, monitor.merge, reports), previous)
        self._say_active(())
        return checked(name, judgement)

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
                return told(error)
            finally:
                self._say_active(())
            made_with = self._references.model(block.model_version)
            track.models.setdefault(
                block.model_version, made_with
            )  # another one makes `_behind` act
        track.cursor = block.cursor
        return None

    def _monitors_by_track(
        self, version: str, names: Iterable[str], failures: dict[str, str]
    ) -> dict[str, Monitor[Any, Any]]:
        """One monitor for each track of a version; none when the version cannot be judged."""
        found: dict[str, Monitor[Any, Any]] = {}
        try:
            self._references.chunk(version)
        except MonitorkitError as error:  # if it is the newest version, `_behind` raises it again
            log.warning("model_version_not_judged", model_version=version, reason=str(error))
            return found
        for name in names:
            if name not in failures:
                identity = self._track_of(version, name, failures, renew=False)
                if identity is not None:
                    found.setdefault(identity, self._monitors[version, name])
        return found

    def _track_of(
        self, version: str, name: str, failures: dict[str, str], *, renew: bool
    ) -> str | None:
        """The identity of a monitor's track, which is made or restored when need be."""
        chunk = self._references.chunk(version)
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
            failures[name] = told(error)
            return None
        finally:
            self._say_active(())
        track = self._whole(identity)
        made_with = self._references.model(version)
        changed = track.models.get(version, made_with) != made_with
        if renew and (version in track.missing or changed):
            # It can be judged now, or is another model than it was: read its rows again.
            self._tracks[identity] = Track(since=self._first)
        return identity

    def _whole(self, identity: str) -> Track:
        """A track that lacks nothing of the look-back; an empty one, if need be."""
        track = self._tracks.get(identity)
        dropped = track is not None and None not in (track.since, self._first)
        if track is None or (dropped and self._first < track.since):  # type: ignore[operator] # said above
            track = self._tracks[identity] = Track(since=self._first)
        return track

    def _identity(self, name: str, monitor: Monitor[Any, Any]) -> str:
        """What two monitors, or two runs, must have in common to share summaries."""
        entry = self._entries[name]
        kind = next(kind for kind in self._kinds if kind.kind == entry.use)
        shared = monitor.summary_key()
        parts = [
            monitorkit.__version__,
            self._bucket.total_seconds(),
            self._references.hash,
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

    def _verify(self) -> None:
        """Verify the reference, and forget the monitors that were made with another one."""
        changed = self._references.verify()
        for key in [key for key in self._monitors if key[0] in changed]:
            del self._monitors[key]

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

    def _save(self, horizon: datetime, names: Sequence[str], failures: dict[str, str]) -> None:
        for identity, document in list(self._unread.items()):
            # Nobody asked for these (a monitor that was removed, or is skipped): they age as well.
            first = bucket_number(horizon, self._bucket)
            numbers = [int(n) for buckets in document["versions"].values() for n in buckets]
            if all(number < first for number in numbers):
                del self._unread[identity]
        try:
            self._write()
        except (TypeError, ValueError):
            self._drop_unkeepable(names, failures)
            self._write()
        self._stamp = _stamp(self._path)

    def _write(self) -> None:
        tracks = {identity: track.to_document() for identity, track in self._tracks.items()}
        try:
            checkpoint.save(self._path, {"tracks": {**self._unread, **tracks}})
        except OSError as error:  # a cache: the next start reads the log again
            log.warning("checkpoint_not_written", file=str(self._path), reason=str(error))

    def _drop_unkeepable(self, names: Sequence[str], failures: dict[str, str]) -> None:
        """A plugin's summary may be anything; one that no checkpoint takes fails its monitors."""
        for identity, track in list(self._tracks.items()):
            try:
                checkpoint.check(track.to_document())
            except (TypeError, ValueError) as error:
                del self._tracks[identity]
                for version in track.versions:
                    guilty = self._names_of(version, identity, names)
                    failures.update(dict.fromkeys(guilty, f"its summary cannot be kept: {error}"))

    def _say_active(self, names: tuple[str, ...]) -> None:
        """Leave word of whose code runs, for whoever has to find out after a crash or a kill."""
        say_active(self._config.storage.state, names)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
