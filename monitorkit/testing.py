"""The laws that monitors and sinks keep, as checks for our plugins and other people's."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from monitorkit.contracts import (
    Bucket,
    Chunk,
    Finding,
    Judgement,
    Monitor,
    RunResult,
    Sink,
    Timeline,
)

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
    monitor: Monitor[Any, Any], summaries: Sequence[Any], previous: Sequence[Finding] = ()
) -> Judgement:
    """Let a monitor judge summaries as buckets of one window that ends at `NOW`.

    Args:
        monitor: the monitor.
        summaries: what its `summarise` or `merge` returned.
        previous: the findings of the cycle before.
    """
    start = NOW - timedelta(minutes=1)
    # Rows are unknown to a summary; monitors read them from their own.
    buckets = [Bucket(start, 1, summary) for summary in summaries]
    return monitor.judge(
        Timeline(buckets, NOW, monitor.merge, since=NOW - timedelta(days=1)), previous
    )


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
    random = np.random.default_rng(seed)
    whole = _check_summary(monitor, chunk)
    judged = _check_findings(monitor, whole, "the chunk")
    for number in range(splits):
        broken = f"split {number} changes the findings"
        _require_same_findings(judged, _split(monitor, chunk, random), tolerance, broken)
    _check_merge(monitor, chunk, random, tolerance)
    _check_quiet(monitor)
    _check_previous(monitor, whole, judged)
    for name, odd in _odd_windows(chunk).items():
        _check_odd(monitor, odd, name)
    for name, odd in _odd_windows(monitor.reference).items():
        try:
            other = type(monitor)(monitor.options, odd)
        except Exception as error:
            raise AssertionError(
                f"cannot be built with {name} in the reference: {error!r}"
            ) from error
        _check_odd(other, chunk, f"{name} in the reference and not in the window")
        _check_odd(other, odd, f"{name} in the reference and the window")


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


def _check_summary(monitor: Monitor[Any, Any], chunk: Chunk) -> Any:
    before = copy.deepcopy(chunk)
    summary = monitor.summarise(chunk)
    for name in ("ids", "times", "features", "scores"):
        same = _same_arrays(getattr(chunk, name), getattr(before, name), 0.0)
        _require(same, f"summarise changed the chunk's {name}")
    params = getattr(type(summary), "__dataclass_params__", None)
    _require(
        is_dataclass(summary) and params is not None and params.frozen,
        f"the summary, a {type(summary).__name__}, is not a frozen dataclass",
    )
    for name, value in _fields(summary).items():
        plain = isinstance(value, str | int | float | bool)
        numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        _require(
            plain or numeric,
            f"summary field {name!r} is {kind}: use numpy arrays of numbers, str, int, float, bool",
        )
    return summary


def _check_findings(monitor: Monitor[Any, Any], summary: Any, what: str) -> Sequence[Finding]:
    before = copy.deepcopy(summary)
    judgement = judge_summaries(monitor, [summary])
    _require(_same_summaries(summary, before, 0.0) is None, f"judging {what} changed the summary")
    _require_json(judgement, what)
    return judgement.findings


def _require_json(judgement: Judgement, what: str) -> None:
    for finding in judgement.findings:
        where = f"judging {what}: finding {finding.measure!r} of column {finding.column!r}"
        # Times become text when a result is written; everything else must be JSON by itself.
        record = {**asdict(finding), "since": None}
        try:
            json.dumps(record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{where} is not JSON-safe: {error}") from error
    for name, body in judgement.attachments.items():
        _require(isinstance(body, bytes), f"judging {what}: attachment {name!r} is not bytes")


def _split(
    monitor: Monitor[Any, Any], chunk: Chunk, random: np.random.Generator
) -> Sequence[Finding]:
    """The findings on the chunk when its rows fall into a few buckets at random."""
    parts = int(random.integers(2, 6))
    part_of_row = random.integers(0, parts, len(chunk))
    chunks = [chunk.take(part_of_row == part) for part in range(parts)]
    summaries = [monitor.summarise(part) for part in chunks if len(part)]
    return judge_summaries(monitor, summaries).findings


def _check_merge(
    monitor: Monitor[Any, Any], chunk: Chunk, random: np.random.Generator, tolerance: float
) -> None:
    part_of_row = random.integers(0, 3, len(chunk))
    a, b, c = (monitor.summarise(chunk.take(part_of_row == part)) for part in range(3))
    before = copy.deepcopy((a, b))
    ab = monitor.merge(a, b)
    for name, now, then in (("left", a, before[0]), ("right", b, before[1])):
        changed = _same_summaries(now, then, 0.0)
        _require(changed is None, f"merge changed its {name} argument: {changed}")
    left = monitor.merge(ab, c)
    right = monitor.merge(a, monitor.merge(b, c))
    differ = _same_summaries(left, right, tolerance)
    _require(differ is None, f"merge is not associative: {differ}")
    _require_same_findings(
        judge_summaries(monitor, [left]).findings,
        judge_summaries(monitor, [right]).findings,
        tolerance,
        "merge is not associative: the findings differ",
    )


def _check_quiet(monitor: Monitor[Any, Any]) -> None:
    findings = _check_findings(monitor, monitor.summarise(monitor.reference), "the reference")
    loud = [f"{f.measure} of {f.column}: {f.value}" for f in findings if f.drift]
    _require(not loud, f"the reference itself is judged as drift: {'; '.join(loud)}")


def _check_previous(monitor: Monitor[Any, Any], summary: Any, previous: Sequence[Finding]) -> None:
    try:
        judgement = judge_summaries(monitor, [summary], previous)
    except Exception as error:
        raise AssertionError(f"judge raised {error!r} given its own previous findings") from error
    _require_json(judgement, "the chunk after itself")


def _check_odd(monitor: Monitor[Any, Any], chunk: Chunk, name: str) -> None:
    try:
        judgement = judge_summaries(monitor, [monitor.summarise(chunk)])
    except Exception as error:
        raise AssertionError(f"raised {error!r} for {name}") from error
    _require_json(judgement, name)


def _odd_windows(chunk: Chunk) -> Mapping[str, Chunk]:
    missing, constant = chunk.features.copy(), chunk.features.copy()
    missing[:, :1], constant[:, :1] = np.nan, 7.0

    def having(features: NDArray[np.float64]) -> Chunk:
        return Chunk(chunk.ids, chunk.times, chunk.columns, features, chunk.scores)

    return {
        "an all-missing column": having(missing),
        "a constant column": having(constant),
        "one row": chunk.take(slice(0, 1)),
    }


def _fields(summary: Any) -> dict[str, Any]:
    # Not asdict: it copies, and descends into what it takes for containers.
    return {field.name: getattr(summary, field.name) for field in fields(summary)}


def _same_arrays(left: NDArray[Any], right: NDArray[Any], tolerance: float) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":
        return np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    # NaT is unequal to itself, but not when read as the integer that it is.
    if left.dtype.kind == "M":
        left, right = left.view(np.int64), right.view(np.int64)
    return bool(np.array_equal(left, right))


def _same_summaries(left: Any, right: Any, tolerance: float) -> str | None:
    """None, or which field differs."""
    for name, value in _fields(left).items():
        other = getattr(right, name)
        same = (
            _same_arrays(value, np.asarray(other), tolerance)
            if isinstance(value, np.ndarray)
            else _same_values(value, other, tolerance)
        )
        if not same:
            return f"field {name!r} is {value!r} one way and {other!r} the other way"
    return None


def _require_same_findings(
    left: Sequence[Finding], right: Sequence[Finding], tolerance: float, message: str
) -> None:
    _require(len(left) == len(right), f"{message}: {len(left)} findings, then {len(right)}")
    for one, other in zip(left, right, strict=True):
        same = _same_values(asdict(one), asdict(other), tolerance)
        _require(same, f"{message}: {one} and then {other}")


def _same_values(left: object, right: object, tolerance: float) -> bool:
    if isinstance(left, Mapping):
        if not isinstance(right, Mapping) or left.keys() != right.keys():
            return False
        return all(_same_values(left[key], right[key], tolerance) for key in left)
    if isinstance(left, list | tuple):
        if not isinstance(right, list | tuple) or len(left) != len(right):
            return False
        return all(_same_values(a, b, tolerance) for a, b in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)
    return bool(cast("Any", left) == right)
