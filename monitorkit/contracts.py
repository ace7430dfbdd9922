"""The contracts: what a monitor and a sink are, and the frozen values that pass between modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Json = None | bool | int | float | str | Sequence[Any] | Mapping[str, Any]

SCORE_COLUMN = "probability"
"""The name under which the model's score stands beside the features, in findings and in the log."""

NO_ROWS = "no_rows"
"""What `no_rows` measures."""


class Options(BaseModel):
    """Base of a plugin's options: a pydantic model in which unknown keys are errors.

    So are numbers that are not finite, which no result could hold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows in log order, of one model version.

    Attributes:
        ids: (rows,) prediction ids.
        times: (rows,) datetime64[us], UTC; NaT in a reference.
        columns: feature names, in model order.
        features: (rows, columns) float64, NaN where missing.
        scores: (rows,) probability of the positive class.
    """

    ids: NDArray[np.str_]
    times: NDArray[np.datetime64]
    columns: tuple[str, ...]
    features: NDArray[np.float64]
    scores: NDArray[np.float64]

    @classmethod
    def of_rows(
        cls, columns: Sequence[str], features: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> Chunk:
        """Rows that have neither ids nor times, as those of a reference."""
        ids = np.arange(len(scores)).astype(np.str_)
        times = np.full(len(scores), np.datetime64("NaT", "us"))
        return cls(ids, times, tuple(columns), features, scores)

    @classmethod
    def joined(cls, chunks: Sequence[Chunk]) -> Chunk:
        """The rows of one chunk after those of the other; all have the same columns."""
        if len(chunks) == 1:
            return chunks[0]
        return cls(
            np.concatenate([chunk.ids for chunk in chunks]),
            np.concatenate([chunk.times for chunk in chunks]),
            chunks[0].columns,
            np.concatenate([chunk.features for chunk in chunks]),
            np.concatenate([chunk.scores for chunk in chunks]),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[Any] | slice) -> Chunk:
        """The chunk of some rows: a boolean mask, indices or a slice."""
        return Chunk(
            self.ids[rows], self.times[rows], self.columns, self.features[rows], self.scores[rows]
        )


O = TypeVar("O", bound=Options)  # noqa: E741 - the options of a monitor
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Bucket(Generic[S]):
    """What one monitor knows of one stretch of time; the older, the longer (`[monitoring] bucket`).

    Attributes:
        start: when it begins.
        rows: in it.
        summary: of them.
        length: how long it is.
    """

    start: datetime
    rows: int
    summary: S
    length: timedelta = timedelta(minutes=1)


def merge_in_pairs(merge: Callable[[S, S], S], summaries: Sequence[S]) -> S:
    """The summary of all, one at least: merged as a balanced tree, so that n cost n log n."""
    while len(summaries) > 1:
        pairs = [merge(summaries[i], summaries[i + 1]) for i in range(0, len(summaries) - 1, 2)]
        summaries = [*pairs, *summaries[len(summaries) & ~1 :]]
    return summaries[0]


@dataclass(frozen=True)
class Timeline(Generic[S]):
    """A monitor's summaries in time order, oldest first.

    Attributes:
        buckets: only those with rows, inside the monitor's look-back.
        now: the end of the window.
        merge: the monitor's own merge.
        report_requested: somebody asked for the reports that are not made at every cycle.
        merged: how buckets are merged where that is kept from cycle to cycle.
        bucket: the length of the shortest buckets (`[monitoring] bucket`).
        since: when the window begins; None: with its first bucket.
    """

    buckets: Sequence[Bucket[S]]
    now: datetime
    merge: Callable[[S, S], S]
    report_requested: bool = False
    merged: Callable[[Sequence[Bucket[S]]], S | None] | None = None
    bucket: timedelta = timedelta(minutes=1)
    since: datetime | None = None

    @cached_property
    def _all(self) -> S | None:
        return self.merge_buckets(self.buckets)

    def all(self) -> S | None:
        """The summary of the whole window, None when it holds no rows."""
        return self._all

    def last(self, *, hours: float) -> S | None:
        """The summary of the buckets that start in the last `hours`, None when there is none."""
        since = self.now - timedelta(hours=hours)
        return self.merge_buckets([bucket for bucket in self.buckets if bucket.start >= since])

    def rows(self) -> int:
        """Rows in the whole window."""
        return sum(bucket.rows for bucket in self.buckets)

    def merge_buckets(self, buckets: Sequence[Bucket[S]]) -> S | None:
        """The summary of some of the buckets, None of none."""
        if self.merged is not None:
            return self.merged(buckets)
        return (
            merge_in_pairs(self.merge, [bucket.summary for bucket in buckets]) if buckets else None
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured thing.

    Attributes:
        measure: what was measured, a short key such as `ks` or `positive_rate`.
        value: the number; None when it could not be computed (say why in `detail`).
        column: the feature, `probability` for the score, None for the window as a whole.
        statistic: what the number is, for people.
        p_value: of the test, where there is one.
        threshold: what the verdict compared with (`detail` says what, when it is not the value).
        drift: the verdict; None: measured, not judged.
        interval: a confidence interval of the value.
        since: when it was first so.
        detail: anything else, JSON-safe.
    """

    measure: str
    value: float | None
    column: str | None = None
    statistic: str | None = None
    p_value: float | None = None
    threshold: float | None = None
    drift: bool | None = None
    interval: tuple[float, float] | None = None
    since: datetime | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)


def excluded(column: str, reason: str) -> Finding:
    """The finding for a column that a monitor leaves out, with the reason."""
    return Finding("excluded", None, column=column, detail={"reason": reason})


def no_rows() -> Finding:
    """The only finding of a monitor whose own look-back is shorter, and holds no rows."""
    reason = "no rows in its look-back: what it found before stands"
    return Finding(NO_ROWS, None, detail={"reason": reason})


def found_no_rows(findings: Sequence[Finding]) -> bool:
    """Whether a monitor had nothing to judge."""
    return any(finding.measure == NO_ROWS for finding in findings)


def feature_verdicts(findings: Iterable[Finding]) -> dict[str, bool]:
    """The features that findings judge, not the score, and whether one of them says drift."""
    verdicts: dict[str, bool] = {}
    for finding in findings:
        if finding.column not in {None, SCORE_COLUMN} and finding.drift is not None:
            name = str(finding.column)
            verdicts[name] = verdicts.get(name, False) or finding.drift
    return verdicts


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a monitor says of a window.

    Attributes:
        findings: what it found.
        attachments: file name to bytes, such as a report; kept beside the result.
    """

    findings: Sequence[Finding]
    attachments: Mapping[str, bytes] = field(default_factory=dict)


def _defines(cls: type, name: str) -> int:
    """How far up, from a class on, the one is that defines a method."""
    return next(at for at, each in enumerate(cls.__mro__) if name in vars(each))


class Monitor(ABC, Generic[O, S]):
    """A monitor sums up rows, merges summaries and judges a window of them.

    O is its options; S its summary: a frozen dataclass whose fields are numpy arrays of numbers,
    ints, floats, strings or bools. Laws, held by `monitorkit.testing.check_monitor`: `summarise`
    is pure; `merge` is associative and returns a new S; summarising a chunk gives the same
    findings as merging the summaries of its parts; a result can hold its findings.

    Args:
        options: validated options from TOML.
        reference: the frozen reference, scored by the model version that is being watched.
    """

    options_type: ClassVar[type[Options]] = Options

    def __init_subclass__(cls, **named: Any) -> None:
        """Where `summarise` or `merge` is of a class further down, what does many asks that."""
        super().__init_subclass__(**named)
        for one, many in (("summarise", "summarise_each"), ("merge", "merge_all")):
            if _defines(cls, one) < _defines(cls, many):
                setattr(cls, many, getattr(Monitor, many))

    def __init__(self, options: O, reference: Chunk) -> None:
        self.options = options
        self.reference = reference

    @abstractmethod
    def summarise(self, chunk: Chunk) -> S:
        """Sum up the rows of one chunk in one pass."""

    def summarise_each(self, chunks: Sequence[Chunk]) -> Sequence[S]:
        """The summaries of chunks, each with rows: what `summarise` says of one after the other.

        Monitors may do better: a log that is read again falls into some hundred small buckets.
        """
        return [self.summarise(chunk) for chunk in chunks]

    @abstractmethod
    def merge(self, left: S, right: S) -> S:
        """The summary of both."""

    def merge_all(self, summaries: Sequence[S]) -> S:
        """The summary of all, one at least: what `merge` says of one after the other.

        Monitors may do better: a window is some hundred buckets, and merged in several ways.
        """
        return merge_in_pairs(self.merge, summaries)

    @abstractmethod
    def judge(self, timeline: Timeline[S], previous: Sequence[Finding]) -> Judgement:
        """Judge a window against the reference.

        Args:
            timeline: the window, never empty.
            previous: this monitor's findings in the last result of this model version, or none.
        """

    def summary_key(self) -> str | None:
        """Monitors that return the same key share one summary per bucket; None: it has its own.

        The key must name everything that `summarise` and `merge` depend on beside the reference.
        """
        return None


Status = Literal["ok", "drift", "failed", "timed_out"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One monitor's part of a result.

    Attributes:
        name: as in TOML. `kind` is its `use`.
        status: ok | drift | failed | timed_out.
        findings: empty when it failed.
        seconds: how long it took.
        error: the reason, for failed and timed_out.
        reports: paths of the attachments, relative to the reports folder.
    """

    name: str
    kind: str
    status: Status
    findings: Sequence[Finding]
    seconds: float
    error: str | None = None
    reports: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """The rows that a cycle judged: whole buckets of one model version, by row timestamp."""

    rows: int
    first: datetime | None
    last: datetime | None
    model_version: str | None
    lookback_seconds: float


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """The summary that people look for, taken from one monitor (`[monitoring.verdict]`)."""

    monitor: str
    dataset_drift_detected: bool | None
    drift_share: float | None
    share_threshold: float
    drifted_features: Sequence[str]
    num_features_evaluated: int
    excluded_features: Mapping[str, str]

    @property
    def num_drifted_features(self) -> int:
        """How many features drifted."""
        return len(self.drifted_features)


Trigger = Literal["periodic", "forced", "once"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """The record of one monitoring cycle; `monitorkit.results` keeps it as JSON."""

    run_id: str
    trigger: Trigger
    started_at: datetime
    finished_at: datetime
    model_name: str
    window: Window
    min_rows: int
    reference_hash: str
    cursor: Mapping[str, int]
    drift: DriftSummary | None
    outcomes: Sequence[Outcome]

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of the monitor of that name."""
        return next((outcome for outcome in self.outcomes if outcome.name == name), None)


class Sink(ABC, Generic[O]):
    """A place to which committed results are delivered, in order, each at least once.

    A delivery that raises is tried again at the next cycle, so `deliver` must be idempotent.

    Args:
        options: validated options from TOML.
        context: where things are; see `SinkContext`.
    """

    options_type: ClassVar[type[Options]] = Options

    def __init__(self, options: O, context: SinkContext) -> None:
        self.options = options
        self.context = context

    @abstractmethod
    def deliver(self, result: RunResult, document: bytes) -> str | None:
        """Deliver one result.

        Args:
            result: the result.
            document: its JSON, byte for byte as on disk.

        Returns:
            The web address at which people can look at it, for the dashboard; None: there is none.
        """


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink may need to know of its surroundings.

    Attributes:
        tracking_uri: the MLflow tracking URI in use.
        artifact_root: where a local MLflow store keeps artifacts; None with a server.
        model_name: the registered model.
        reports: the folder that `Outcome.reports` is relative to.
    """

    tracking_uri: str
    artifact_root: str | None
    model_name: str
    reports: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cycle that judged nothing, and why; `cursor` is up to where it read the log."""

    trigger: Trigger
    started_at: datetime
    window: Window
    min_rows: int
    reason: str
    reference_hash: str
    cursor: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CycleNote:
    """How the last cycle ended."""

    outcome: Literal["completed", "skipped", "failed"]
    finished_at: datetime
    trigger: Trigger
    rows: int | None = None
    run_id: str | None = None
    reason: str | None = None


ReferenceStatus = Literal["ok", "missing", "changed", "unreadable", "unchecked"]


@dataclass(frozen=True, slots=True)
class MonitoringStatus:
    """What the service says of its monitoring.

    Attributes:
        enabled: whether cycles run periodically.
        reference: ok | missing | changed | unreadable | unchecked; `reference_hash` is the one that
            was frozen.
        reference_error: what is wrong with it, and what to do.
        results_error: why the results could not be read the last time; None: they could.
        cycles: how many ended how since the start: completed, skipped, failed.
        last_cycle: how the last one ended; None before the first.
        next_cycle_at: when the next periodic one is due.
        undelivered: results that each sink has still to take, by its name.
    """

    enabled: bool
    reference: ReferenceStatus
    reference_hash: str | None
    reference_error: str | None
    results_error: str | None
    cycles: Mapping[str, int]
    last_cycle: CycleNote | None
    next_cycle_at: datetime | None
    undelivered: Mapping[str, int]
