"""The engine: holds the timeline and the monitors, reads what is new, and lets monitors judge."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from monitorkit import logs, model_store
from monitorkit.ahead import one_ahead
from monitorkit.config import Config
from monitorkit.contracts import Chunk, Judgement, Timeline, Window, no_rows
from monitorkit.errors import MonitorkitError, PluginError, told
from monitorkit.monitoring import encoding
from monitorkit.monitoring.active import Say, telling
from monitorkit.monitoring.heap import keep_freed_memory
from monitorkit.monitoring.ladder import BucketPart, Ladder, longest_lookback
from monitorkit.monitoring.merges import Merges
from monitorkit.monitoring.monitors import AnyMonitor, Monitors
from monitorkit.monitoring.protocol import Absorbed, Case, checked
from monitorkit.monitoring.steps import MICROSECOND, start_of
from monitorkit.monitoring.store import FILE, Store
from monitorkit.monitoring.timeline import Span, Track, newest_row, newest_version
from monitorkit.prediction_log import Block, Cursor, Reader

TOGETHER_ROWS = 8192
"""Of small blocks, which are summed up at once."""

log = logs.get(__name__)


@dataclass(slots=True)
class Step:
    """One reading of the log from one cursor.

    Attributes:
        cursor: where it begins, and then where it is.
        since: closed segments in which every row is older are passed over.
        deadline: `time.monotonic()` after which no further block is read.
        until: where it ends; None: where the log does.
        newest: the time of the newest row before it, when somebody is to look for edits.
        rows: the track that needs no monitor, when it takes part.
        tracks: by identity, those that take part.
    """

    cursor: Mapping[str, int]
    since: datetime | None = None
    deadline: float | None = None
    until: Mapping[str, int] | None = None
    newest: datetime | None = None
    rows: Track | None = None
    tracks: dict[str, Track] = field(default_factory=dict)


Batch = tuple[Cursor, Sequence[Block]]
"""Blocks, and the cursor after the last of them."""


def together(blocks: Iterable[Block]) -> Generator[Batch, None, None]:
    """Blocks in the order of the log, small ones together, with the cursor after them.

    Where versions take turns from row to row each block has a row or two.
    """
    held: list[Block] = []
    rows = 0
    for block in blocks:
        if held and rows + len(block.chunk) > TOGETHER_ROWS:
            yield held[-1].cursor, held
            held, rows = [], 0
        held.append(block)
        rows += len(block.chunk)
    if held:
        yield held[-1].cursor, held


class LocalEngine:
    """Holds the timeline and the monitors, in this process; nothing here has a time limit.

    Args:
        config: the whole configuration.
    """

    def __init__(self, config: Config) -> None:
        keep_freed_memory()
        self._config = config
        settings = config.monitoring
        self._lookbacks = {
            entry.name: entry.lookback or settings.lookback for entry in config.monitors
        }
        self._horizon = longest_lookback(config)
        self._store = Store(config.storage.state / FILE)
        # One for all cycles: it remembers what is in files that nobody changes any more.
        self._reader = Reader(config.storage.predictions, config.log.archives)
        self._monitors = Monitors(config)
        self._rows_id = self._monitors.rows_identity
        self._tracks: dict[str, Track] = {}
        self._unread: set[str] = set()  # tracks in the store that nobody has asked for yet
        self._not_judged: dict[str, str] = {}  # model versions, and why
        self._warned: set[tuple[str, str]] = set()  # the same, as far as told of at this moment
        self._foreign: set[tuple[str, tuple[str, ...]]] = set()  # told of: versions, and columns
        self._merges: defaultdict[str, Merges] = defaultdict(Merges)
        self._now = datetime.now(UTC)
        self._verified: datetime | None = None  # the moment for which the reference was
        self._ladder = self._ladder_at(self._now)

    def absorb(
        self,
        names: Sequence[str],
        now: datetime,
        *,
        seconds: float | None = None,
        until: Cursor | None = None,
    ) -> Absorbed:
        """Read the log from where each monitor's track ends, and sum up what is new.

        Args:
            names: the monitors that take part.
            now: the end of the window.
            seconds: stop, with `more`, after the block that is under way by then.
            until: read no further than this, however much was written since.

        Raises:
            ReferenceProblem: the reference is missing or is not what was frozen.
            RegistryError, SchemaError: the newest model version cannot be judged.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        horizon = now - self._horizon
        self._verify(now)
        self._refresh()
        self._look_from(now)
        rows = self._whole(self._rows_id)
        if self._reused(rows):
            self._tracks.clear()
            self._unread.clear()
            rows = self._whole(self._rows_id)
        rows.follow(self._ladder, Span.merge)  # else a bucket may end up before the look-back later
        dropped = [track.forget(self._ladder.first) for track in self._tracks.values()]
        failures: dict[str, str] = {}
        ahead = Step(rows.cursor, horizon, deadline, until, newest_row(rows), rows)
        total, more = self._read(ahead, names, failures)
        passed = False
        if not more:
            for step in self._behind(rows, names, failures):
                step.since, step.deadline, step.until = horizon, deadline, rows.cursor
                read, more = self._read(step, names, failures)
                total += read
                if more:
                    break
                passed |= self._pass_over(step, rows)
        if self._reader.read_again:  # some rows were added a second time: all are read anew
            self._reader.read_again = False
            self._tracks.clear()
            self._unread.clear()
            return self.absorb(names, now, seconds=seconds, until=until)
        if total or passed or any(dropped) or self._store.damaged or self._store.look() != "ours":
            self._save(names, failures)
        self._monitors.keep(rows.versions)
        return Absorbed(
            window=self._window(rows, now),
            cursor=dict(rows.cursor),
            reference_hash=self._monitors.references.hash,
            failures=failures,
            rows_read=total,
            more=more,
        )

    def _verify(self, now: datetime) -> None:
        """Verify the reference for all that is done at a moment."""
        self._verified = None
        self._monitors.verify()
        self._verified = now

    def _reused(self, rows: Track) -> bool:
        """Whether another model has a version's number by now: its rows may have other columns."""
        now = self._monitors.references.model_now
        known = ((version, rows.models.get(version)) for version in rows.versions)
        return any(model and now(version) not in ("", model) for version, model in known)

    def _pass_over(self, step: Step, rows: Track) -> bool:
        """Segments that are gone, or too old, can keep no track from being where the others are.

        Returns:
            Whether there were such.
        """
        here, too_old = self._reader.begun(), self._reader.too_old
        gone = {
            segment: at
            for segment, at in rows.cursor.items()
            if segment not in here or too_old.get(segment) == at
        }
        moved = False
        for track in step.tracks.values():
            before, track.cursor = track.cursor, {**track.cursor, **gone}
            moved |= dict(before) != dict(track.cursor)
        return moved

    def _behind(
        self, rows: Track, names: Sequence[str], failures: dict[str, str]
    ) -> Iterable[Step]:
        """Monitors that are new, or failed before, read what the others know; grouped by cursor."""
        steps: dict[str, Step] = {}
        newest = self._newest_version(rows)
        for name in names:
            if name in failures or newest is None:
                continue
            identity = self._track_of(newest, name, failures, renew=True)
            if identity is None:
                continue
            track = self._tracks[identity]
            if dict(track.cursor) != dict(rows.cursor):
                key = json.dumps(dict(track.cursor), sort_keys=True)
                steps.setdefault(key, Step(track.cursor)).tracks[identity] = track
        return steps.values()

    def _newest_version(self, rows: Track) -> str | None:
        """That of the latest row until now; that of rows ahead of it only when there are no others.

        A clock that was ahead for a moment must not keep the next version unwatched for hours.
        """
        return newest_version(rows, self._now) or newest_version(rows, self._ladder.until)

    def ready(self, case: Case) -> None:
        """Make everything that judging needs, so that only judging is timed."""
        self._look_from(case.now)
        if self._verified != case.now:  # else it was for the reading, or another judgement
            self._verify(case.now)
        self._refresh()
        failures: dict[str, str] = {}
        if self._track_of(case.version, case.monitor, failures, renew=False) is None:
            raise PluginError(case.monitor, failures[case.monitor])
        if rows := self._tracks.get(self._rows_id):  # where it judges and never reads: no more
            self._monitors.keep(rows.versions.keys() | {case.version})

    def judge(self, case: Case) -> Judgement:
        """Let one monitor judge its window.

        Raises:
            PluginError: it has no window, or its judgement is not one.
        """
        name, version, now = case.monitor, case.version, case.now
        self.ready(case)
        monitor = self._monitors.get(version, name)
        identity = self._monitors.identity(version, name)
        track = self._tracks[identity]
        if dict(track.cursor) != dict(case.cursor):
            raise PluginError(
                name, "its summaries do not reach the end of the log; the next cycle reads on"
            )
        if version in track.missing:
            reason = self._not_judged.get(version, "see the event model_version_not_judged")
            raise PluginError(name, f"rows of model version {version} are not summed up: {reason}")
        lookback, merge = self._lookbacks[name], monitor.merge
        judgement = Judgement([no_rows()])
        with self._telling(name):
            buckets = track.buckets(version, now - lookback, now + lookback, self._ladder, merge)
            if buckets:  # else its look-back is shorter, and was quiet
                merged = partial(self._merges[identity].merged, merge_all=monitor.merge_all)
                length, since = self._config.monitoring.bucket, now - lookback
                timeline = Timeline(buckets, now, merge, case.reports, merged, length, since)
                judgement = monitor.judge(timeline, case.previous)
        return checked(name, judgement)

    def _read(self, step: Step, names: Sequence[str], failures: dict[str, str]) -> tuple[int, bool]:
        """Read on from a cursor; returns rows read and whether there is more."""
        blocks = self._reader.read(
            step.cursor, since=step.since, until=step.until, newest=step.newest
        )
        with closing(one_ahead(together(blocks))) as ahead:
            return self._sum_up(ahead, step, names, failures)

    def _sum_up(
        self, batches: Iterable[Batch], step: Step, names: Sequence[str], failures: dict[str, str]
    ) -> tuple[int, bool]:
        monitors: dict[str, dict[str, AnyMonitor]] = {}
        total = 0
        with self._telling() as say:
            for cursor, blocks in batches:
                for version in dict.fromkeys(block.model_version for block in blocks):
                    if version not in monitors:
                        monitors[version] = self._monitors_by_track(version, names, failures)
                        if step.rows is not None:
                            self._join(step, monitors[version])
                chunks = self._by_version(blocks)
                parts = {each: list(self._ladder.split(chunk)) for each, chunk in chunks.items()}
                for identity, track in list(step.tracks.items()):
                    found = Track()
                    for version, some in parts.items():
                        monitor = monitors[version].get(identity)
                        sharing = self._monitors.names_of(version, identity, names)
                        say(sharing if monitor is not None else ())
                        reason = self._add(found, track, (version, some), monitor)
                        if reason is not None:
                            # It stays where it is, and reads again next time.
                            del step.tracks[identity]
                            failures.update(dict.fromkeys(sharing, reason))
                            break
                    else:
                        track.go_on(found, cursor)
                say(())
                self._count(step, parts, cursor)
                total += sum(map(len, chunks.values()))
                if step.deadline is not None and time.monotonic() > step.deadline:
                    return total, True
        return total, False

    def _by_version(self, blocks: Iterable[Block]) -> Mapping[str, Chunk]:
        """The rows of some blocks, of each version those of its model."""
        chunks: dict[str, list[Chunk]] = {}
        for block in blocks:
            chunk = self._of_its_model(block)
            if chunk is not None:
                chunks.setdefault(block.model_version, []).append(chunk)
        return {version: Chunk.joined(some) for version, some in chunks.items()}

    def _count(self, step: Step, parts: Mapping[str, list[BucketPart]], cursor: Cursor) -> None:
        """Add rows to the track that needs no monitor, and go on."""
        step.cursor = cursor
        if step.rows is None:
            return
        for version, some in parts.items():
            step.rows.add(version, some, self._ladder, Span.of_each, Span.merge)
            step.rows.models.setdefault(version, self._monitors.references.model(version))
        step.rows.cursor = cursor

    def _of_its_model(self, block: Block) -> Chunk | None:
        """A block's rows, with the columns of its model version; None: another model made them.

        A registry that was deleted and filled again counts its versions from one again, and so does
        a model of another name. As far as columns tell them apart, its rows are left out.
        """
        columns = self._monitors.references.columns(block.model_version)
        chunk = block.chunk
        if columns is None:  # nobody judges them: they are counted alone
            return replace(chunk, columns=(), features=chunk.features[:, :0])
        if columns == chunk.columns:
            return chunk
        if sorted(columns) == sorted(chunk.columns):
            order = [chunk.columns.index(name) for name in columns]
            return replace(chunk, columns=columns, features=chunk.features[:, order])
        if (block.model_version, chunk.columns) not in self._foreign:
            self._foreign.add((block.model_version, chunk.columns))
            log.warning(
                "rows_of_another_model",
                model_version=model_store.shown(block.model_version),
                segment=block.segment,
                columns=sorted({*columns} ^ {*chunk.columns}),
                reason="the model of that version has other columns; rows like these are left out",
            )
        return None

    def _join(self, step: Step, monitors: Iterable[str]) -> None:
        """The tracks that stand where the reading stands take part in it."""
        for identity in monitors:
            track = self._tracks[identity]
            if dict(track.cursor) == dict(step.cursor):
                step.tracks[identity] = track

    def _add(
        self,
        found: Track,
        track: Track,
        of_version: tuple[str, list[BucketPart]],
        monitor: AnyMonitor | None,
    ) -> str | None:
        """Sum up rows of one version, as they are to go on in a track; says why not."""
        version, parts = of_version
        if monitor is None:  # a version that cannot be judged, so far
            found.missing.add(version)
            return None
        try:
            if version in track.versions:
                found.versions[version] = track.versions[version].copy()
            found.add(version, parts, self._ladder, monitor.summarise_each, monitor.merge)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            return told(error)
        found.models[version] = self._monitors.references.model(version)
        return None

    def _monitors_by_track(
        self, version: str, names: Iterable[str], failures: dict[str, str]
    ) -> dict[str, AnyMonitor]:
        """One monitor for each track of a version; none when the version cannot be judged."""
        found: dict[str, AnyMonitor] = {}
        try:
            self._monitors.references.chunk(version)
        except (MonitorkitError, OSError) as error:  # `_behind` raises it for the newest version
            self._cannot_judge(version, str(error))
            return found
        for name in names:
            if name not in failures:
                identity = self._track_of(version, name, failures, renew=False)
                if identity is not None:
                    found.setdefault(identity, self._monitors.get(version, name))
        return found

    def _cannot_judge(self, version: str, reason: str) -> None:
        self._not_judged[version] = reason
        if (version, reason) in self._warned:
            return
        self._warned.add((version, reason))
        shown = model_store.shown(version)
        log.warning("model_version_not_judged", model_version=shown, reason=reason)

    def _track_of(
        self, version: str, name: str, failures: dict[str, str], *, renew: bool
    ) -> str | None:
        """The identity of a monitor's track, which is made or restored when need be."""
        chunk = self._monitors.references.chunk(version)
        try:
            with self._telling(name):
                monitor = self._monitors.get(version, name)
                identity = self._monitors.identity(version, name)
                if identity in self._unread:
                    self._unread.remove(identity)
                    kind = type(monitor.summarise(chunk.take(slice(0, 1))))
                    if (track := self._store.load(identity, kind)) is not None:
                        self._tracks[identity] = track
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            failures[name] = told(error)
            return None
        track = self._whole(identity)
        made_with = self._monitors.references.model(version)
        changed = track.models.get(version, made_with) != made_with
        if renew and (version in track.missing or changed):
            # It can be judged now, or is another model than it was: read its rows again.
            self._tracks[identity] = Track(since=self._ladder.first)
        return identity

    def _whole(self, identity: str) -> Track:
        """A track that lacks nothing of the look-back; an empty one, if need be."""
        track = self._tracks.get(identity)
        ladder = self._ladder
        if track is not None and (track.since is None or track.since <= ladder.first):
            if not track.too_long(ladder):
                return track
            log.info("timeline_made_again", track=identity, reason="the clock went back")
        track = self._tracks[identity] = Track(since=ladder.first)
        return track

    def _look_from(self, now: datetime) -> None:
        """Take the moment of a cycle, which may ask for several readings and judgements."""
        if now != self._now:
            self._warned.clear()
        ladder = self._ladder_at(now)
        if (ladder.step, ladder.first) != (self._ladder.step, self._ladder.first):
            for merges in self._merges.values():
                merges.tidy()
        self._now, self._ladder = now, ladder

    def _ladder_at(self, now: datetime) -> Ladder:
        settings = self._config.monitoring
        return Ladder(settings.bucket, settings.resolution, now, self._horizon)

    def _window(self, rows: Track, now: datetime) -> Window:
        lookback = self._config.monitoring.lookback
        newest = self._newest_version(rows)
        buckets = (
            rows.buckets(newest, now - lookback, now + lookback, self._ladder, Span.merge)
            if newest is not None
            else []
        )
        return Window(
            rows=sum(bucket.rows for bucket in buckets),
            first=start_of(min(b.summary.first for b in buckets), MICROSECOND) if buckets else None,
            last=start_of(max(b.summary.last for b in buckets), MICROSECOND) if buckets else None,
            model_version=newest,
            lookback_seconds=lookback.total_seconds(),
        )

    def _refresh(self) -> None:
        """Take over the store when another process wrote it since (or at first)."""
        match self._store.look():
            case "ours":
                return
            case "gone":  # ours is as good
                self._unread = set()
                return
        self._unread = self._store.identities()
        self._tracks = {}
        known = self._rows_id in self._unread
        rows = self._store.load(self._rows_id, Span) if known else None
        if rows is None:  # the others say as much as it does, no more
            self._unread = set()
        else:
            self._unread.remove(self._rows_id)
            self._tracks[self._rows_id] = rows

    def _save(self, names: Sequence[str], failures: dict[str, str]) -> None:
        try:
            self._store.save(self._tracks, self._unread, self._ladder.first)
        except (TypeError, ValueError):
            self._drop_unkeepable(names, failures)
            self._store.save(self._tracks, self._unread, self._ladder.first)

    def _drop_unkeepable(self, names: Sequence[str], failures: dict[str, str]) -> None:
        """A plugin's summary may be anything; one that cannot be bytes fails its monitors."""
        for identity, track in list(self._tracks.items()):
            try:
                for buckets in track.versions.values():
                    for kept in buckets.kept.values():
                        encoding.dump_summary(kept.summary)
            except (TypeError, ValueError) as error:
                del self._tracks[identity]
                for version in track.versions:
                    guilty = self._monitors.names_of(version, identity, names)
                    failures.update(dict.fromkeys(guilty, f"its summary cannot be kept: {error}"))

    def _telling(self, *names: str) -> AbstractContextManager[Say]:
        """Leave word of whose code runs, for whoever has to find out after a crash or a kill."""
        return telling(self._config.storage.state, *names)
