"""The laws that monitors and sinks keep, as checks for our plugins and other people's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from monitorkit import judgements
from monitorkit.alike import difference, fields_of, same_arrays, same_values
from monitorkit.contracts import (
    Bucket,
    Chunk,
    Finding,
    Judgement,
    Monitor,
    RunResult,
    Sink,
    Timeline,
    merge_in_pairs,
)

MOST_AT_ONCE = 9
"""So many summaries are merged at once to try it."""

NOW = datetime(2025, 1, 2, tzinfo=UTC)
"""The end of every window that the checks judge."""


def make_chunk(
    rows: int = 500,
    columns: Sequence[str] = ("a", "b", "c"),
    *,
    seed: int = 0,
    missing: float = 0.05,
    shift: float = 0.0,
) -> Chunk:
    """A random chunk: every other column continuous, the rest with a few whole values.

    Args:
        rows: how many rows.
        columns: feature names.
        seed: the same seed gives the same chunk.
        missing: share of NaN among the features.
        shift: added to every feature, in standard deviations of the continuous ones.

    Returns:
        Rows of the day before `NOW`, with ids and scores.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, len(columns)))
    features[:, 1::2] = np.floor(np.abs(features[:, 1::2]) * 2)
    features += shift
    features[random.random(features.shape) < missing] = np.nan
    seconds = np.sort(random.integers(0, 24 * 3600, rows))
    start = np.datetime64((NOW - timedelta(days=1)).replace(tzinfo=None), "us")
    return Chunk(
        ids=np.array([f"{seed:x}-{row:08x}" for row in range(rows)], dtype=np.str_),
        times=start + seconds.astype("timedelta64[s]"),
        columns=tuple(columns),
        features=features,
        scores=random.beta(1.0, 6.0, rows),
    )


def judge_summaries(
    monitor: Monitor[Any, Any],
    summaries: Sequence[Any],
    previous: Sequence[Finding] = (),
    rows: Sequence[int] | None = None,
) -> Judgement:
    """Let a monitor judge summaries as buckets of one window that ends at `NOW`.

    Args:
        monitor: the monitor.
        summaries: what its `summarise` or `merge` returned.
        previous: the findings of the cycle before.
        rows: how many each summary is of, for monitors that ask `Timeline.rows` or `Bucket.rows`;
            None: one each.
    """
    start = NOW - timedelta(minutes=1)
    each = zip(summaries, rows or [1] * len(summaries), strict=True)
    buckets = [Bucket(start, many, summary) for summary, many in each]
    return monitor.judge(
        Timeline(buckets, NOW, monitor.merge, since=NOW - timedelta(days=1)), previous
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What a law is tried with; see `check_monitor`."""

    chunk: Chunk
    splits: int = 5
    seed: int = 0
    tolerance: float = 1e-9


@dataclass(frozen=True, slots=True)
class Law:
    """One law of `monitorkit.Monitor`.

    Attributes:
        name: what holds.
        remedy: what to do where it does not.
        check: raises AssertionError, or what the monitor raises.
        of_window: whether the rows that are tried matter, not the reference alone.
    """

    name: str
    remedy: str
    check: Callable[[Monitor[Any, Any], Trial], None]
    of_window: bool = True


def check_monitor(
    monitor: Monitor[Any, Any],
    chunk: Chunk,
    *,
    splits: int = 5,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> None:
    """Check a monitor against the laws of `monitorkit.Monitor`.

    Args:
        monitor: built with a reference that has the chunk's columns.
        chunk: rows to try the laws on; a few hundred will do.
        splits: how many random splits of the chunk are tried.
        seed: of the splits.
        tolerance: relative and absolute difference between numbers that ought to be equal; 0 asks
            for the same bits.

    Raises:
        AssertionError: a law is broken; the message says which one and how.
    """
    for law in LAWS:
        law.check(monitor, Trial(chunk, splits, seed, tolerance))


def check_sink(sink: Sink[Any], result: RunResult, document: bytes) -> None:
    """Check that a sink takes a result, takes it again, and leaves it as it was.

    Args:
        sink: the sink, with a place of its own to write to.
        result: a committed result.
        document: its JSON.

    Raises:
        AssertionError: a law is broken; the message says which one.
    """
    before = copy.deepcopy(result)
    for attempt in ("first", "second"):
        try:
            sink.deliver(result, document)
        except Exception as error:
            raise AssertionError(
                f"the {attempt} delivery of one result raised {error!r}; "
                "deliveries are repeated after a failure, so deliver must be idempotent"
            ) from error
        _require(result == before, "deliver changed the result that it was given")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _check_summary(monitor: Monitor[Any, Any], trial: Trial) -> None:
    chunk, before = trial.chunk, copy.deepcopy(trial.chunk)
    summary = monitor.summarise(chunk)
    for name in ("ids", "times", "features", "scores"):
        same = same_arrays(getattr(chunk, name), getattr(before, name), 0.0)
        _require(same, f"summarise changed the chunk's {name}")
    params = getattr(type(summary), "__dataclass_params__", None)
    _require(
        is_dataclass(summary) and params is not None and params.frozen,
        f"the summary, a {type(summary).__name__}, is not a frozen dataclass",
    )
    for name, value in fields_of(summary).items():
        plain = isinstance(value, str | int | float | bool)
        numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        _require(
            plain or numeric,
            f"summary field {name!r} is {kind}: use numpy arrays of numbers, str, int, float, bool",
        )


def _check_judging(monitor: Monitor[Any, Any], trial: Trial) -> None:
    _check_findings(monitor, trial.chunk, "the chunk")


def _check_findings(monitor: Monitor[Any, Any], chunk: Chunk, what: str) -> Sequence[Finding]:
    summary = monitor.summarise(chunk)
    before = copy.deepcopy(summary)
    judgement = judge_summaries(monitor, [summary], rows=[len(chunk)])
    _require(difference(summary, before, 0.0) is None, f"judging {what} changed the summary")
    _require_recordable(judgement, what)
    return judgement.findings


def _require_recordable(judgement: object, what: str) -> None:
    problem = judgements.why_not(judgement)
    _require(problem is None, f"judging {what}: {problem}")


def _check_splits(monitor: Monitor[Any, Any], trial: Trial) -> None:
    random = np.random.default_rng(trial.seed)
    judged = _judged(monitor, trial.chunk).findings
    for number in range(trial.splits):
        broken = f"split {number} changes the findings"
        split = _split(monitor, trial.chunk, random)
        _require_same_findings(judged, split, trial.tolerance, broken)


def _split(
    monitor: Monitor[Any, Any], chunk: Chunk, random: np.random.Generator
) -> Sequence[Finding]:
    """The findings on the chunk when its rows fall into a few buckets at random."""
    parts = int(random.integers(2, 6))
    part_of_row = random.integers(0, parts, len(chunk))
    chunks = [chunk.take(part_of_row == part) for part in range(parts)]
    filled = [part for part in chunks if len(part)]
    summaries = monitor.summarise_each(filled)
    return judge_summaries(monitor, summaries, rows=[len(part) for part in filled]).findings


def _judged(
    monitor: Monitor[Any, Any], chunk: Chunk, previous: Sequence[Finding] = ()
) -> Judgement:
    """What a chunk as one bucket is judged to be."""
    return judge_summaries(monitor, [monitor.summarise(chunk)], previous, [len(chunk)])


def _check_merge(monitor: Monitor[Any, Any], trial: Trial) -> None:
    random, chunk, tolerance = np.random.default_rng(trial.seed), trial.chunk, trial.tolerance
    if len(chunk) < 3:  # noqa: PLR2004 - each part has a row, as each summary is of one
        return
    part_of_row = random.permutation(np.arange(len(chunk)) % 3)
    a, b, c = (monitor.summarise(chunk.take(part_of_row == part)) for part in range(3))
    before = copy.deepcopy((a, b))
    ab = monitor.merge(a, b)
    for name, now, then in (("left", a, before[0]), ("right", b, before[1])):
        changed = difference(now, then, 0.0)
        _require(changed is None, f"merge changed its {name} argument: {changed}")
    left = monitor.merge(ab, c)
    right = monitor.merge(a, monitor.merge(b, c))
    differ = difference(left, right, tolerance)
    _require(differ is None, f"merge is not associative: {differ}")
    _check_merge_all(monitor, chunk.take(random.permutation(len(chunk))), tolerance)
    _require_same_findings(
        judge_summaries(monitor, [left], rows=[len(chunk)]).findings,
        judge_summaries(monitor, [right], rows=[len(chunk)]).findings,
        tolerance,
        "merge is not associative: the findings differ",
    )


def _check_merge_all(monitor: Monitor[Any, Any], chunk: Chunk, tolerance: float) -> None:
    most = min(len(chunk), MOST_AT_ONCE)
    parts = [monitor.summarise(chunk.take(slice(at, None, most))) for at in range(most)]
    before = copy.deepcopy(parts)
    for number in range(1, most + 1):
        together = monitor.merge_all(parts[:number])
        differ = difference(together, merge_in_pairs(monitor.merge, before[:number]), tolerance)
        _require(
            differ is None, f"merge_all is not what merge says of one after the other: {differ}"
        )
        changed = [difference(now, then, 0.0) for now, then in zip(parts, before, strict=True)]
        told = next((each for each in changed if each is not None), None)
        _require(told is None, f"merge_all changed one of its summaries: {told}")


def _check_quiet(monitor: Monitor[Any, Any], _trial: Trial) -> None:
    findings = _check_findings(monitor, monitor.reference, "the reference")
    loud = [f"{f.measure} of {f.column}: {f.value}" for f in findings if f.drift]
    _require(not loud, f"the reference itself is judged as drift: {'; '.join(loud)}")


def _check_previous(monitor: Monitor[Any, Any], trial: Trial) -> None:
    previous = _judged(monitor, trial.chunk).findings
    try:
        judgement = _judged(monitor, trial.chunk, previous)
    except Exception as error:
        raise AssertionError(f"judge raised {error!r} given its own previous findings") from error
    _require_recordable(judgement, "the chunk after itself")


def _check_pickles(monitor: Monitor[Any, Any], trial: Trial) -> None:
    summary = monitor.summarise(trial.chunk)
    findings = judge_summaries(monitor, [summary], rows=[len(trial.chunk)]).findings
    try:
        summary_there, findings_there = pickle.loads(pickle.dumps((summary, findings)))  # noqa: S301 - our own bytes
    except Exception as error:
        raise AssertionError(
            f"a summary or its findings do not pickle, as they must to cross processes: {error!r}"
        ) from error
    differ = difference(summary, summary_there, 0.0)
    _require(differ is None, f"a summary is another one after pickling: {differ}")
    broken = "findings are others after pickling"
    _require_same_findings(findings, findings_there, 0.0, broken)


def _check_odd_windows(monitor: Monitor[Any, Any], trial: Trial) -> None:
    for name, odd in _odd_windows(trial.chunk).items():
        _check_odd(monitor, odd, name)


def _check_odd_references(monitor: Monitor[Any, Any], trial: Trial) -> None:
    for name, odd in _odd_windows(monitor.reference).items():
        try:
            other = type(monitor)(monitor.options, odd)
        except Exception as error:
            raise AssertionError(
                f"cannot be built with {name} in the reference: {error!r}"
            ) from error
        _check_odd(other, trial.chunk, f"{name} in the reference and not in the window")
        _check_odd(other, odd, f"{name} in the reference and the window")


def _check_odd(monitor: Monitor[Any, Any], chunk: Chunk, name: str) -> None:
    try:
        judgement = _judged(monitor, chunk)
    except Exception as error:
        raise AssertionError(f"raised {error!r} for {name}") from error
    _require_recordable(judgement, name)


def _odd_windows(chunk: Chunk) -> Mapping[str, Chunk]:
    missing, constant = chunk.features.copy(), chunk.features.copy()
    missing[:, :1], constant[:, :1] = np.nan, 7.0
    having = partial(replace, chunk)
    return {
        "an all-missing column": having(features=missing),
        "a constant column": having(features=constant),
        "one row": chunk.take(slice(0, 1)),
    }


def _require_same_findings(
    left: Sequence[Finding], right: Sequence[Finding], tolerance: float, message: str
) -> None:
    _require(len(left) == len(right), f"{message}: {len(left)} findings, then {len(right)}")
    for one, other in zip(left, right, strict=True):
        same = same_values(asdict(one), asdict(other), tolerance)
        _require(same, f"{message}: {one} and then {other}")


LAWS: Sequence[Law] = (
    Law(
        "summarise is pure and returns a frozen dataclass of numbers",
        "copy what you change (`chunk.features.copy()`), and keep numpy arrays, int, float, str or "
        "bool in a `@dataclass(frozen=True)`",
        _check_summary,
    ),
    Law(
        "judge changes no summary, and a result can hold its findings",
        "turn numpy numbers into float(...) or int(...), NaN into None, and say why in `detail`",
        _check_judging,
    ),
    Law(
        "any split of the rows gives the same findings",
        "let `merge` add up every field; keep sums and counts, not averages, and divide in `judge`",
        _check_splits,
    ),
    Law(
        "merge is associative and changes neither summary, and merge_all says the same",
        "return a new summary in which every field is the sum, minimum, maximum or union of both",
        _check_merge,
    ),
    Law(
        "the reference itself is no drift",
        "compare with what `self.reference` gives, not with a number alone",
        _check_quiet,
        of_window=False,
    ),
    Law(
        "judge takes its own findings as the previous ones",
        "look previous findings up by measure and column, and expect any of them to be absent",
        _check_previous,
    ),
    Law(
        "constant, all-missing and single-row windows are judged",
        "return `excluded(column, reason)` where there is nothing to measure",
        _check_odd_windows,
    ),
    Law(
        "such references are taken, too",
        "return `excluded(column, reason)` where there is nothing to compare with",
        _check_odd_references,
        of_window=False,
    ),
    Law(
        "summaries and findings pickle",
        "define the classes at the top of the module, and keep plain values in them",
        _check_pickles,
    ),
)
"""What every monitor keeps, in the order in which it is checked."""
