"""Pieces of the log, summed up anywhere and merged in any grouping: what a cluster's tasks run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from monitorkit.config import Config
from monitorkit.errors import told
from monitorkit.monitoring.active import Say
from monitorkit.monitoring.engine import LocalEngine, Step, together
from monitorkit.monitoring.monitors import AnyMonitor
from monitorkit.monitoring.timeline import Span, Track
from monitorkit.prediction_log import Piece

ASKED_AGAIN_SECONDS = 10.0

VERSIONS = 4
"""Model versions whose monitors a worker keeps: some 100 MB each with many columns."""


@dataclass(frozen=True, slots=True)
class Part:
    """What some pieces of the log hold.

    Attributes:
        count: their rows.
        rows: the track that needs no monitor.
        tracks: by identity, of the monitors that could sum up their rows.
        failures: those that could not, with the reason.
        not_judged: model versions that nothing could be made for, with the reason.
    """

    count: int
    rows: Track
    tracks: Mapping[str, Track]
    failures: Mapping[str, str]
    not_judged: Mapping[str, str]


class PartsEngine(LocalEngine):
    """Puts together what pieces of the log hold."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # Versions that cannot be judged, why, and until when nobody asks again.
        self._gone: dict[str, tuple[str, float]] = {}

    def whole(self, parts: Sequence[Part], names: Sequence[str]) -> Part:
        """The part of all their pieces, in the order of the log.

        Args:
            parts: of pieces by the ladder of this engine's moment.
            names: the monitors that take part.
        """
        failures = {name: reason for part in parts for name, reason in part.failures.items()}
        rows = Track(since=self._ladder.first)
        tracks: dict[str, Track] = {}
        monitors = {
            version: self._monitors_by_track(version, names, failures)
            for version in dict.fromkeys(v for part in parts for v in part.rows.versions)
        }
        for part in parts:
            rows.take(part.rows.versions, dict.fromkeys(part.rows.versions, Span.merge))
        for identity in dict.fromkeys(identity for part in parts for identity in part.tracks):
            try:
                tracks[identity] = self._merged(identity, parts, monitors)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                for version, of_version in monitors.items():
                    if identity in of_version:
                        guilty = self._monitors.names_of(version, identity, names)
                        failures.update(dict.fromkeys(guilty, told(error)))
        not_judged = {version: why for part in parts for version, why in part.not_judged.items()}
        not_judged |= {v: self._not_judged[v] for v in monitors if v in self._not_judged}
        return Part(sum(part.count for part in parts), rows, tracks, failures, not_judged)

    def _monitors_by_track(
        self, version: str, names: Iterable[str], failures: dict[str, str]
    ) -> dict[str, AnyMonitor]:
        """Nobody waits for a registry that does not answer with each of many pieces anew."""
        reason, until = self._gone.get(version, ("", 0.0))
        if time.monotonic() < until and self._monitors.references.columns(version) is None:
            self._cannot_judge(version, reason)
            return {}
        self._not_judged.pop(version, None)
        found = super()._monitors_by_track(version, names, failures)
        if version in self._not_judged:
            until = time.monotonic() + ASKED_AGAIN_SECONDS
            self._gone[version] = self._not_judged[version], until
        return found

    def _merged(
        self,
        identity: str,
        parts: Sequence[Part],
        monitors: Mapping[str, Mapping[str, AnyMonitor]],
    ) -> Track:
        """What the parts found for one track; versions that cannot be judged are left out."""
        merged = Track(since=self._ladder.first)
        for part in parts:
            found = {
                version: buckets
                for version, buckets in part.tracks.get(identity, Track()).versions.items()
                if identity in monitors[version]
            }
            merged.take(found, {version: monitors[version][identity].merge for version in found})
        return merged


class PieceEngine(PartsEngine):
    """Sums up pieces, each from nothing; keeps its monitors, and no timeline."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._recent: list[str] = []

    def summarise(self, piece: Piece, names: Sequence[str], now: datetime) -> Part:
        """Sum up one piece by the ladder of a moment.

        Raises:
            ReferenceProblem: the reference is missing here, or is not what was frozen.
        """
        self._begin(now)
        failures: dict[str, str] = {}
        rows = Track(since=self._ladder.first)
        step = Step({}, rows=rows)
        batches = together(self._reader.read_piece(piece))
        count, _ = self._sum_up(batches, step, names, failures)
        self._keep(rows.versions)
        return Part(count, rows, step.tracks, failures, dict(self._not_judged))

    def merge(self, parts: Sequence[Part], names: Sequence[str], now: datetime) -> Part:
        """`whole`, from nothing."""
        self._begin(now)
        found = self.whole(parts, names)
        self._keep(found.rows.versions)
        return found

    def _join(self, step: Step, monitors: Iterable[str]) -> None:
        """All tracks begin where the piece does, whatever version its first rows are of."""
        for identity in monitors:
            step.tracks.setdefault(identity, self._tracks[identity])

    def _keep(self, versions: Iterable[str]) -> None:
        """Forget what was made for other versions than the last ones."""
        last = [*dict.fromkeys(versions)]
        self._recent = [*(each for each in self._recent if each not in last), *last][-VERSIONS:]
        self._monitors.keep(self._recent)

    def _begin(self, now: datetime) -> None:
        self._monitors.verify()
        self._look_from(now)
        self._tracks, self._not_judged = {}, {}

    def _refresh(self) -> None:
        """There is nothing to take over."""

    def _telling(self, *_names: str) -> AbstractContextManager[Say]:
        """Many run at once, and the cluster knows which of its tasks ended a process."""
        return nullcontext(lambda _names: None)


# One for each thread of a worker, for as long as the configuration stays: nothing is loaded twice.
_here = threading.local()


def summarise_piece(config: Config, names: Sequence[str], now: datetime, piece: Piece) -> bytes:
    """`PieceEngine.summarise`, for a task; packed."""
    return packed(_engine(config).summarise(piece, names, now))


def merge_parts(config: Config, names: Sequence[str], now: datetime, *parts: bytes) -> bytes:
    """`PieceEngine.merge`, for a task; packed."""
    return packed(_engine(config).merge([unpacked(part) for part in parts], names, now))


def packed(part: Part) -> bytes:
    """A part in one piece: a cluster that brings over thousands of small arrays takes long."""
    from distributed.protocol import pickle  # noqa: PLC0415 - an extra

    # As the cluster itself does it: also what plain pickle cannot, such as a class in a function.
    whole: bytes = pickle.dumps(part)  # type: ignore[no-untyped-call]
    return whole


def unpacked(part: bytes) -> Part:
    """What `packed` was given."""
    from distributed.protocol import pickle  # noqa: PLC0415 - as above

    found: Part = pickle.loads(part)  # type: ignore[no-untyped-call]
    return found


def _engine(config: Config) -> PieceEngine:
    key = config.model_dump_json()
    if getattr(_here, "key", None) != key:
        _here.engine, _here.key = PieceEngine(config), key
    engine: PieceEngine = _here.engine
    return engine
