"""`LogRetention`: deletes segments of the log that were monitored and are too old or too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitorkit import logs
from monitorkit.config import Config
from monitorkit.errors import told
from monitorkit.monitoring.ladder import longest_lookback
from monitorkit.prediction_log import chain, names, segment, sidecar
from monitorkit.prediction_log.compressed import read_compressed
from monitorkit.prediction_log.names import Name
from monitorkit.retention import Kept, Limits, delete, surplus

log = logs.get(__name__)

_ALWAYS = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Segment:
    name: Name
    kept: Kept
    identity: str | None
    rows: int
    csv_bytes: int


class LogRetention:
    """Keeps the log within `[log.retention]`; what is not limited there stays for ever.

    Only closed segments go that a cycle has read to the end and whose newest row is older than the
    longest look-back, so that no window ever lacks rows. The chain is told first: `verify-log`
    knows them from those that somebody else removed.

    Args:
        config: the whole configuration.
    """

    def __init__(self, config: Config) -> None:
        limits = config.log.retention
        self._limits = Limits(max_age=limits.max_age, max_size=int(limits.max_size))
        self._folder = config.storage.predictions
        self._horizon: timedelta = longest_lookback(config)

    def run(self, cursor: Mapping[str, int]) -> int:
        """Delete what is too much; a failure is an event, and the next cycle tries again.

        Args:
            cursor: up to where a cycle has read the log.

        Returns:
            How many segments were deleted.
        """
        if not self._limits.limited:
            return 0
        deleted = 0
        stuck: set[Path] = set()  # chains that cannot be told: the others go all the same
        with self._telling(self._folder):
            for each, reason in self._too_much(cursor, datetime.now(UTC)):
                chained = chain.path_of(self._folder, each.name)
                if chained not in stuck:
                    stuck.add(chained)
                    with self._telling(each.kept.path):
                        self._delete(each, reason)
                        stuck.remove(chained)
                        deleted += 1
        return deleted

    @staticmethod
    @contextmanager
    def _telling(path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("retention_failed", folder=str(path), reason=told(error))

    def _too_much(self, cursor: Mapping[str, int], now: datetime) -> Iterator[tuple[_Segment, str]]:
        """The segments that may go, the oldest first, and why."""
        looked = (self._look(name) for name in names.segments(self._folder))
        segments = sorted(
            (each for each in looked if each is not None), key=lambda each: each.kept.at
        )
        by_path = {each.kept.path: each for each in segments}
        for kept, reason in surplus((each.kept for each in segments[::-1]), self._limits, now):
            each = by_path[kept.path]
            read = cursor.get(each.identity or "") == each.csv_bytes
            if each.name.closed and read and now - kept.at > self._horizon:
                yield each, reason

    def _delete(self, each: _Segment, reason: str) -> None:
        chain.append(
            chain.path_of(self._folder, each.name),
            "pruned",
            segment=each.name.text,
            rows=each.rows,
            bytes=each.kept.bytes,
            sha256=None,
            identity=each.identity,
            reason=reason,
        )
        delete(each.kept, reason, "segment")
        sidecar.path_of(each.kept.path).unlink(missing_ok=True)

    def _look(self, name: Name) -> _Segment | None:
        """What is known of a segment; None when it is gone, or not ours."""
        path = self._folder / name.text
        with self._telling(path), suppress(FileNotFoundError):
            return self._known(path, name)
        return None

    @staticmethod
    def _known(path: Path, name: Name) -> _Segment | None:
        with path.open("rb") as file:
            read, size = segment.reading(file.fileno()), path.stat().st_size
            if not name.closed:
                return _Segment(name, Kept(path, size, _ALWAYS), None, 0, size)
            if name.compressed:
                found = read_compressed(read, size)
                if found is None or found.last_timestamp is None:
                    return None
                at = _moment(path, found.last_timestamp)
                kept = Kept(path, size, at)
                return _Segment(name, kept, found.head.identity, found.rows, found.bytes)
        rows = sidecar.rows_of(path)  # gives it a sidecar, if need be
        known = sidecar.read(path)
        if known is None or known.bytes != size or known.last_timestamp is None:
            return None
        at = _moment(path, known.last_timestamp)
        return _Segment(name, Kept(path, size, at), known.identity, rows, size)


def _moment(path: Path, timestamp: str) -> datetime:
    """When the newest row of a segment was answered; one that cannot be told makes it stay."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:  # somebody edited the row: the thirteenth month
        moment = None
    if moment is None or moment.tzinfo is None:
        reason = f"its newest timestamp is {timestamp!r}, which is no moment"
        log.warning("retention_failed", folder=str(path), reason=reason)
        return _ALWAYS
    return moment
