"""JSON results, the record of every cycle: committed atomically, listed, read and pruned."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Never

from monitorkit import durable, logs
from monitorkit.contracts import DriftSummary, Finding, Outcome, RunResult, Window
from monitorkit.errors import ResultError, ResultsUnreadable
from monitorkit.plain import plain
from monitorkit.retention import Kept, Limits, kept, prune

SCHEMA_VERSION = 1

log = logs.get(__name__)

_ENDING = ".json"
_DAY = r"(?!0000)[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{6}"
_RUN_ID = re.compile(rf"{_DAY}T{_TIME}Z-[0-9a-f]{{8}}")  # nothing else in a folder is a result
_FILE = re.compile(_RUN_ID.pattern + re.escape(_ENDING))
_SETTLED = 2 * 10**9  # nanoseconds
_STAMP = "%Y%m%dT%H%M%S%fZ"
_SECONDS = len("20260102T030405")


def new_run_id(now: datetime, after: str | None = None) -> str:
    """An id that sorts by time and is unique: `20260102T030405678901Z-1a2b3c4d`.

    Args:
        now: when the cycle began.
        after: the newest id there is. The new one sorts behind it even when the clock was set
            back, for sinks and readers go by the order of ids.
    """
    time = now.astimezone(UTC)
    if after is not None:
        time = max(time, time_of(after) + timedelta(microseconds=1))
    return f"{time:{_STAMP}}-{secrets.token_hex(4)}"


def time_of(run_id: str) -> datetime:
    """When the cycle of a result began, unless the clock was set back since the one before it."""
    stamp = run_id.partition("-")[0]
    # A twentieth of what `strptime` takes: there may be ten thousand of them.
    return datetime.fromisoformat(f"{stamp[:_SECONDS]}.{stamp[_SECONDS:]}")


def encode(result: RunResult) -> bytes:
    """A result as strict JSON, a finding a line; NaN and infinities are null, times end in Z.

    Raises:
        TypeError: for a value that JSON does not have, or a time without a zone.
    """
    return ("".join(_laid_out(as_json(result))) + "\n").encode()


def as_json(result: RunResult) -> dict[str, Any]:
    """The document as JSON has it, before it is text.

    Raises:
        TypeError: as `encode`.
    """
    drift = result.drift
    whole: dict[str, Any] = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": result.run_id,
            "trigger": result.trigger,
            "started_at": result.started_at,
            "finished_at": result.finished_at,
            "model_name": result.model_name,
            "model_version": result.window.model_version,
            "dataset_drift_detected": drift.dataset_drift_detected if drift else None,
            "drift_share": drift.drift_share if drift else None,
            "drift_share_threshold": drift.share_threshold if drift else None,
            "num_drifted_features": drift.num_drifted_features if drift else None,
            "num_features_evaluated": drift.num_features_evaluated if drift else None,
            "drifted_features": drift.drifted_features if drift else None,
            "excluded_features": drift.excluded_features if drift else None,
            "verdict_monitor": drift.monitor if drift else None,
            "window": result.window,
            "gate": {"min_rows": result.min_rows, "passed": result.window.rows >= result.min_rows},
            "reference_hash": result.reference_hash,
            "cursor": result.cursor,
            "monitors": result.outcomes,
        }
    )
    return whole


def decode(document: bytes, source: str = "a result") -> RunResult:
    """Read what `encode` wrote.

    Args:
        document: the JSON.
        source: its name, for the error.

    Raises:
        ResultError: it is not a result, or one of another schema_version.
    """
    try:
        fields_ = json.loads(document, parse_constant=_not_json)
        version = fields_["schema_version"]
        if version != SCHEMA_VERSION:
            raise ResultError(source, f"schema_version {version!r} is not {SCHEMA_VERSION}")
        return _result(fields_)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(source, f"it is not a whole result: {error!r}") from error


class Changes:
    """Whether a folder may hold other results than when that was asked before.

    Args:
        folder: of results; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: int | None = None

    @contextmanager
    def maybe(self) -> Iterator[bool]:
        """Look at the folder's time alone; true at first, and again when what is done then fails.

        Raises:
            ResultsUnreadable: it cannot be looked at.
        """
        try:
            stamp = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            stamp = 0
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        # Of a folder that has just changed the next change may have the same time.
        settled = time.time_ns() - stamp >= _SETTLED
        yield stamp != self._stamp
        self._stamp = stamp if settled else None


class Results:
    """A folder of results, one file each.

    Args:
        folder: made when the first result is committed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: dict[str, tuple[int, int] | None] = {}

    def commit(self, result: RunResult) -> bytes:
        """Write a result so that it is there whole, or not at all, whatever happens.

        Returns:
            The document, byte for byte as on disk.

        Raises:
            ResultError: when its run_id could not be read back.
            OSError: when it cannot be written.
        """
        if not _RUN_ID.fullmatch(result.run_id):
            raise ResultError(result.run_id, "it is not a run_id; new_run_id makes them")
        document = encode(result)
        self.folder.mkdir(parents=True, exist_ok=True)
        durable.clear_leftovers(self.folder)
        durable.replace_file(self._path(result.run_id), document)
        return document

    def run_ids(self) -> Sequence[str]:
        """Every result's id, oldest first; opens no file.

        Raises:
            ResultsUnreadable: the folder is there, and cannot be read.
        """
        run_ids = sorted(name[: -len(_ENDING)] for name in self._names() if _FILE.fullmatch(name))
        if self._damaged:
            return [run_id for run_id in run_ids if not self._known_damaged(run_id)]
        return run_ids

    def left_out(self) -> int:
        """How many were damaged when they were read, and are as they were."""
        return sum(map(self._known_damaged, self._damaged))

    def holds(self, run_id: str) -> bool:
        """Whether there is a file of that id, be it damaged.

        Raises:
            ResultsUnreadable: the folder does not let it be seen.
        """
        return _RUN_ID.fullmatch(run_id) is not None and self._stamp(run_id) is not None

    def read(self, run_id: str) -> bytes | None:
        """One result's document; None when there is none of that id, or only a damaged one.

        Raises:
            ResultsUnreadable: the folder cannot be read, and so none in it.
        """
        found = self.find(run_id)
        return None if found is None else found[0]

    def result(self, run_id: str) -> RunResult | None:
        """One result; None, and what is raised, as for `read`."""
        found = self.find(run_id)
        return None if found is None else found[1]

    def text(self, run_id: str) -> bytes | None:
        """What `commit` wrote of a result, which is not read; None when it is not there any more.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return self._path(run_id).read_bytes()
        except FileNotFoundError:
            return None

    def latest(self) -> RunResult | None:
        """The newest result that can be read."""
        found = (self.result(run_id) for run_id in reversed(self.run_ids()))
        return next((result for result in found if result is not None), None)

    def list(self, limit: int, offset: int = 0) -> Sequence[Mapping[str, Any]]:
        """What some results come to, newest first; opens only their files.

        Args:
            limit: how many at most.
            offset: how many newer ones are passed over.

        Returns:
            JSON-safe summaries; a damaged file is left out, with an event.
        """
        page: list[Mapping[str, Any]] = []
        for run_id in self.run_ids()[::-1][offset:]:
            if len(page) >= limit:
                break
            found = self.result(run_id)
            if found is not None:
                page.append(_summary(found))
        return page

    def count(self) -> int:
        """How many results there are."""
        return len(self.run_ids())

    def prune(self, limits: Limits) -> int:
        """Delete the oldest beyond some limits, each with an event; the newest one always stays.

        Returns:
            How many were deleted.
        """
        if not limits.limited:
            return 0
        number_alone = not limits.max_size and not limits.max_age
        # Those that stay may be thousands; where number alone matters, nothing is asked of them.
        newer = (limits.keep or 0) if number_alone else 0
        files = (
            Kept(self._path(run_id), self._size(run_id, limits), time_of(run_id))
            for run_id in self.run_ids()[::-1][newer:]
        )
        return prune(files, limits, "result", newer=newer)

    def _size(self, run_id: str, limits: Limits) -> int:
        """Of its file, where that matters."""
        there = kept(self._path(run_id)) if limits.max_size else None
        return there.bytes if there is not None else 0

    def find(self, run_id: str, *, whatever_happens: bool = True) -> tuple[bytes, RunResult] | None:
        """One result, as it is on disk and decoded; None as for `read`.

        Args:
            run_id: of it.
            whatever_happens: also when the disk does not let it be read in this moment.

        Raises:
            OSError: it does not, and the caller wanted to know.
            ResultsUnreadable: it is the folder's trouble, which says nothing of the result.
        """
        if not _RUN_ID.fullmatch(run_id):
            return None
        path = self._path(run_id)
        try:
            document = self.text(run_id)
        except OSError as error:
            if not whatever_happens:
                raise
            self._names()  # raises where it is the folder: nothing is known of the file then
            problem = f"it cannot be read: {error.strerror}"
            self._leave_out(run_id, ResultError(str(path), problem))
            return None
        if document is None:  # never there, or pruned in this moment
            return None
        try:
            result = decode(document, str(path))
        except ResultError as error:
            self._leave_out(run_id, error)
            return None
        if result.run_id != run_id:
            problem = f"it holds the result {result.run_id!r}"
            self._leave_out(run_id, ResultError(str(path), problem))
            return None
        return document, result

    def _leave_out(self, run_id: str, error: ResultError) -> None:
        """From now on, and say so once."""
        stamp = self._stamp(run_id)
        if run_id not in self._damaged or self._damaged[run_id] != stamp:
            log.warning("result_ignored", file=error.path, reason=str(error))
        self._damaged[run_id] = stamp

    def _known_damaged(self, run_id: str) -> bool:
        """Whether it was damaged when it was read, and has not been restored since."""
        return run_id in self._damaged and self._damaged[run_id] == self._stamp(run_id)

    def _names(self) -> Sequence[str]:
        """Of everything in the folder."""
        try:
            with os.scandir(self.folder) as entries:
                return [entry.name for entry in entries]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(self.folder, error) from error

    def _stamp(self, run_id: str) -> tuple[int, int] | None:
        """Of a file, or of the link in its place: nothing but the folder can be in the way."""
        try:
            status = self._path(run_id).lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.folder, error) from error
        return status.st_mtime_ns, status.st_size

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}{_ENDING}"


def _unreadable(folder: Path, error: OSError) -> ResultsUnreadable:
    return ResultsUnreadable(str(folder), error.strerror or str(error))


def _summary(result: RunResult) -> dict[str, Any]:
    drift = result.drift
    summary: dict[str, Any] = plain(
        {
            "run_id": result.run_id,
            "trigger": result.trigger,
            "started_at": result.started_at,
            "finished_at": result.finished_at,
            "model_version": result.window.model_version,
            "rows": result.window.rows,
            "dataset_drift_detected": drift.dataset_drift_detected if drift else None,
            "drift_share": drift.drift_share if drift else None,
            "num_drifted_features": drift.num_drifted_features if drift else None,
            "num_features_evaluated": drift.num_features_evaluated if drift else None,
            "drifted_features": drift.drifted_features if drift else None,
            "monitors": {outcome.name: outcome.status for outcome in result.outcomes},
        }
    )
    return summary


def _laid_out(document: Mapping[str, Any]) -> Iterator[str]:
    """For people and `diff`: a key a line, and in the monitors a finding a line."""
    *head, (last, monitors) = document.items()
    yield "{\n"
    for key, value in head:
        yield f"  {_json(key)}: {_json(value)},\n"
    yield f"  {_json(last)}: ["
    for number, monitor in enumerate(monitors):
        *rest, (findings, lines) = [
            *((key, value) for key, value in monitor.items() if key != "findings"),
            ("findings", [_json(finding) for finding in monitor["findings"]]),
        ]
        yield ("," if number else "") + "\n    {\n"
        for key, value in rest:
            yield f"      {_json(key)}: {_json(value)},\n"
        yield f"      {_json(findings)}: ["
        yield ",".join(f"\n        {line}" for line in lines)
        yield ("\n      ]" if lines else "]") + "\n    }"
    yield ("\n  ]" if monitors else "]") + "\n}"


_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def _not_json(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _result(document: Mapping[str, Any]) -> RunResult:
    window = document["window"]
    return RunResult(
        run_id=document["run_id"],
        trigger=document["trigger"],
        started_at=datetime.fromisoformat(document["started_at"]),
        finished_at=datetime.fromisoformat(document["finished_at"]),
        model_name=document["model_name"],
        window=Window(
            rows=window["rows"],
            first=_time(window["first"]),
            last=_time(window["last"]),
            model_version=window["model_version"],
            lookback_seconds=window["lookback_seconds"],
        ),
        min_rows=document["gate"]["min_rows"],
        reference_hash=document["reference_hash"],
        cursor=document["cursor"],
        drift=_drift(document),
        outcomes=tuple(_outcome(entry) for entry in document["monitors"]),
    )


def _drift(document: Mapping[str, Any]) -> DriftSummary | None:
    if document["verdict_monitor"] is None:
        return None
    return DriftSummary(
        monitor=document["verdict_monitor"],
        dataset_drift_detected=document["dataset_drift_detected"],
        drift_share=document["drift_share"],
        share_threshold=document["drift_share_threshold"],
        drifted_features=tuple(document["drifted_features"]),
        num_features_evaluated=document["num_features_evaluated"],
        excluded_features=document["excluded_features"],
    )


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    return Outcome(
        name=entry["name"],
        kind=entry["kind"],
        status=entry["status"],
        findings=tuple(_finding(finding) for finding in entry["findings"]),
        seconds=entry["seconds"],
        error=entry["error"],
        reports=tuple(entry["reports"]),
    )


def _finding(entry: Mapping[str, Any]) -> Finding:
    interval = entry["interval"]
    return Finding(
        measure=entry["measure"],
        value=entry["value"],
        column=entry["column"],
        statistic=entry["statistic"],
        p_value=entry["p_value"],
        threshold=entry["threshold"],
        drift=entry["drift"],
        interval=None if interval is None else (interval[0], interval[1]),
        since=_time(entry["since"]),
        detail=entry["detail"],
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
