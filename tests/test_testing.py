"""The laws catch monitors and sinks that break them, one broken law each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monitorkit import (
    Chunk,
    Finding,
    Judgement,
    Monitor,
    Options,
    Outcome,
    RunResult,
    Sink,
    SinkContext,
    Timeline,
)
from monitorkit.contracts import Window
from monitorkit.testing import check_monitor, check_sink, make_chunk


@dataclass(frozen=True, slots=True)
class Sums:
    rows: int
    totals: NDArray[np.float64]


class Good(Monitor[Options, Sums]):
    """The mean of every column, which keeps all the laws; the others break one each."""

    def summarise(self, chunk: Chunk) -> Sums:
        return Sums(len(chunk), np.nansum(chunk.features, axis=0))

    def merge(self, left: Sums, right: Sums) -> Sums:
        return Sums(left.rows + right.rows, left.totals + right.totals)

    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        del previous
        sums = timeline.all()
        if sums is None:
            return Judgement([])
        pairs = zip(self.reference.columns, sums.totals, strict=True)
        return Judgement(
            [Finding("mean", float(total) / sums.rows, column=name) for name, total in pairs]
        )


class ChangesTheChunk(Good):
    def summarise(self, chunk: Chunk) -> Sums:
        chunk.features[0, 0] = 99.0
        return super().summarise(chunk)


class ChangesLeft(Good):
    def merge(self, left: Sums, right: Sums) -> Sums:
        totals = left.totals
        totals += right.totals
        return Sums(left.rows + right.rows, totals)


class ForgetsRight(Good):
    def merge(self, left: Sums, right: Sums) -> Sums:
        del right
        return left


class AveragesAverages(Good):
    """Its findings come from the first bucket only, so that only the merge law can notice."""

    def merge(self, left: Sums, right: Sums) -> Sums:
        return Sums(left.rows + right.rows, (left.totals + right.totals) / 2)

    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        del timeline, previous
        return Judgement([])


class MergesTwoOfAll(Good):
    def merge_all(self, summaries: Sequence[Sums]) -> Sums:
        return self.merge(summaries[0], summaries[-1])


class AddsToTheFirst(Good):
    def merge_all(self, summaries: Sequence[Sums]) -> Sums:
        totals = summaries[0].totals
        for each in summaries[1:]:
            totals += each.totals
        return Sums(sum(each.rows for each in summaries), totals)


class TakesThree(Good):
    def merge_all(self, summaries: Sequence[Sums]) -> Sums:
        if len(summaries) > 3:
            return self.merge_all(summaries[:3])
        return super().merge_all(summaries)


class Dictionary(Good):
    def summarise(self, chunk: Chunk) -> Any:
        return {"rows": len(chunk)}


@dataclass
class Thawed:
    rows: int


class ThawedSummary(Good):
    def summarise(self, chunk: Chunk) -> Any:
        return Thawed(len(chunk))


@dataclass(frozen=True)
class Listed:
    rows: list[int]


class ListSummary(Good):
    def summarise(self, chunk: Chunk) -> Any:
        return Listed([len(chunk)])


class Judges(Good):
    """Adds one finding to those of Good."""

    extra = Finding("extra", 0.0)

    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        return Judgement([*super().judge(timeline, previous).findings, self.extra])


class NotANumber(Judges):
    extra = Finding("extra", float("nan"))


class NumpyDetail(Judges):
    extra = Finding("extra", 1.0, detail={"rows": np.int64(3)})  # type: ignore[dict-item] # the broken law


class TextAsValue(Judges):
    extra = Finding("extra", "high")  # type: ignore[arg-type] # the broken law


class HalfAnInterval(Judges):
    extra = Finding("extra", 0.0, interval=(None, 0.7))  # type: ignore[arg-type] # the broken law


class NoZone(Judges):
    extra = Finding("extra", 0.0, since=datetime(2025, 1, 1))  # noqa: DTZ001 - the broken law


class ListedDetail(Judges):
    extra = Finding("extra", 0.0, detail=[1])  # type: ignore[arg-type] # the broken law


class WordAsVerdict(Judges):
    extra = Finding("extra", 0.0, drift="no")  # type: ignore[arg-type] # the broken law


class PathAttachment(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        judgement = super().judge(timeline, previous)
        return Judgement(judgement.findings, {"../page.html": b""})


class TextAttachment(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        judgement = super().judge(timeline, previous)
        return Judgement(judgement.findings, {"page.html": "<html>"})  # type: ignore[dict-item] # the broken law


class GeneratedFindings(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        found = super().judge(timeline, previous).findings
        return Judgement(each for each in found)  # type: ignore[arg-type] # the broken law


class NulAttachment(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        return Judgement(super().judge(timeline, previous).findings, {"a\0.html": b""})


class NamelessAttachment(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        return Judgement(super().judge(timeline, previous).findings, {"": b""})


class SurrogateAttachment(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        return Judgement(super().judge(timeline, previous).findings, {"\udcff.html": b""})


class AlwaysAlarmed(Judges):
    extra = Finding("extra", 1.0, drift=True)


class CountsBuckets(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        del previous
        return Judgement([Finding("buckets", float(len(timeline.buckets)))])


class ChangesTheSummary(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        for bucket in timeline.buckets:
            bucket.summary.totals[:] = 0.0
        return super().judge(timeline, previous)


class FirstCycleOnly(Good):
    def judge(self, timeline: Timeline[Sums], previous: Sequence[Finding]) -> Judgement:
        if previous:
            raise KeyError("previous")
        return super().judge(timeline, previous)


class NeedsValues(Good):
    def summarise(self, chunk: Chunk) -> Sums:
        if np.isnan(chunk.features[:, 0]).all() and len(chunk) > 1:
            raise ValueError("no values")
        return super().summarise(chunk)


class NeedsTwoRows(Good):
    def summarise(self, chunk: Chunk) -> Sums:
        if len(chunk) == 1:
            raise ValueError("one row")
        return super().summarise(chunk)


class NeedsAVariedReference(Good):
    def __init__(self, options: Options, reference: Chunk) -> None:
        super().__init__(options, reference)
        if np.ptp(reference.features[:, 0]) == 0:
            raise ZeroDivisionError


def test_a_good_monitor_passes() -> None:
    check_monitor(Good(Options(), make_chunk(100)), make_chunk(80, seed=1))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ChangesTheChunk, "summarise changed the chunk's features"),
        (ChangesLeft, "merge changed its left argument: field 'totals'"),
        (ForgetsRight, "split 0 changes the findings"),
        (AveragesAverages, "merge is not associative: field 'totals'"),
        (AddsToTheFirst, "merge_all changed one of its summaries: field 'totals'"),
        (TakesThree, "merge_all is not what merge says of one after the other: field 'rows'"),
        (MergesTwoOfAll, "merge_all is not what merge says of one after the other: field 'rows'"),
        (Dictionary, "a dict, is not a frozen dataclass"),
        (ThawedSummary, "a Thawed, is not a frozen dataclass"),
        (ListSummary, "summary field 'rows' is list"),
        (NotANumber, "finding 'extra' of column None is not JSON-safe"),
        (NumpyDetail, "finding 'extra' of column None is not JSON-safe"),
        (TextAsValue, "finding 'extra' of column None has no number as value: 'high'"),
        (HalfAnInterval, "has no two numbers as interval: (None, 0.7)"),
        (NoZone, "has no time with a zone as since: datetime.datetime(2025, 1, 1, 0, 0)"),
        (ListedDetail, "has no mapping as detail: [1]"),
        (WordAsVerdict, "has no true, false or None as drift: 'no'"),
        (PathAttachment, "attachment '../page.html' is not bytes under a plain file name"),
        (TextAttachment, "attachment 'page.html' is not bytes"),
        (GeneratedFindings, "its findings are a generator, not a list"),
        (NulAttachment, "is not bytes under a plain file name"),
        (NamelessAttachment, "attachment '' is not bytes under a plain file name"),
        (SurrogateAttachment, "is not bytes under a plain file name"),
        (AlwaysAlarmed, "the reference itself is judged as drift: extra of None"),
        (CountsBuckets, "split 0 changes the findings"),
        (ChangesTheSummary, "judging the chunk changed the summary"),
        (FirstCycleOnly, "given its own previous findings"),
        (NeedsValues, "for an all-missing column"),
        (NeedsTwoRows, "for one row"),
        (NeedsAVariedReference, "a constant column in the reference"),
    ],
)
def test_each_broken_law_is_caught(broken: type[Good], message: str) -> None:
    monitor = broken(Options(), make_chunk(100))
    with pytest.raises(AssertionError) as caught:
        check_monitor(monitor, make_chunk(80, seed=1))
    assert message in str(caught.value)


@dataclass(frozen=True)
class Highest:
    highest: float


class HighestSoFar(Monitor[Options, Highest]):
    """Of the first column; NaN where it has no value, and its share of the window's rows."""

    def summarise(self, chunk: Chunk) -> Highest:
        values = chunk.features[:, 0]
        return Highest(float(np.nanmax(values)) if not np.isnan(values).all() else float("nan"))

    def merge(self, left: Highest, right: Highest) -> Highest:
        return Highest(float(np.fmax(left.highest, right.highest)))

    def judge(self, timeline: Timeline[Highest], previous: Sequence[Finding]) -> Judgement:
        del previous
        found = timeline.all()
        if found is None or np.isnan(found.highest):
            return Judgement([])
        return Judgement([Finding("highest_per_row", found.highest / timeline.rows())])


def test_a_summary_may_hold_nan_and_a_monitor_may_ask_how_many_rows_there_are() -> None:
    monitor = HighestSoFar(Options(), make_chunk(100))
    check_monitor(monitor, make_chunk(80, seed=1))
    check_monitor(monitor, make_chunk(5, seed=1, missing=1.0))


def test_rounding_is_forgiven_unless_asked_for() -> None:
    monitor, chunk = Good(Options(), make_chunk(100)), make_chunk(300, seed=1)
    check_monitor(monitor, chunk)
    with pytest.raises(AssertionError, match="changes the findings"):
        check_monitor(monitor, chunk, tolerance=0)


def test_make_chunk_is_deterministic_and_as_asked() -> None:
    one, other = make_chunk(200, seed=3), make_chunk(200, seed=3)
    assert np.array_equal(one.features, other.features, equal_nan=True)
    assert np.array_equal(one.times, other.times)
    assert 0.01 < np.isnan(one.features).mean() < 0.1
    assert not np.isnan(make_chunk(200, missing=0.0).features).any()
    assert np.unique(one.ids).size == len(one) == 200


AT = datetime(2025, 1, 1, tzinfo=UTC)
RESULT = RunResult(
    run_id="run",
    trigger="once",
    started_at=AT,
    finished_at=AT,
    model_name="model",
    window=Window(300, AT, AT, "1", 86400.0),
    min_rows=200,
    reference_hash="0" * 64,
    cursor={"predictions.csv": 10},
    drift=None,
    outcomes=[Outcome("ks", "ks", "ok", [Finding("ks", 0.1, detail={"rows": 300})], 0.1)],
)
CONTEXT = SinkContext("sqlite://", None, "model", "reports")


class Remembers(Sink[Options]):
    def __init__(self, options: Options, context: SinkContext) -> None:
        super().__init__(options, context)
        self.documents: dict[str, bytes] = {}

    def deliver(self, result: RunResult, document: bytes) -> None:
        self.documents[result.run_id] = document


class DeliversOnce(Remembers):
    def deliver(self, result: RunResult, document: bytes) -> None:
        if result.run_id in self.documents:
            raise FileExistsError(result.run_id)
        super().deliver(result, document)


class Refuses(Remembers):
    def deliver(self, result: RunResult, document: bytes) -> None:
        raise ConnectionError(result.run_id, document)


class ChangesTheResult(Remembers):
    def deliver(self, result: RunResult, document: bytes) -> None:
        del document
        result.cursor["predictions.csv"] = 0  # type: ignore[index] # the broken law


def test_a_good_sink_passes() -> None:
    sink = Remembers(Options(), CONTEXT)
    check_sink(sink, RESULT, b"{}")
    assert sink.documents == {"run": b"{}"}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (DeliversOnce, "the second delivery of one result raised"),
        (Refuses, "the first delivery of one result raised"),
        (ChangesTheResult, "deliver changed the result"),
    ],
)
def test_each_broken_sink_is_caught(broken: type[Remembers], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_sink(broken(Options(), CONTEXT), RESULT, b"{}")
    assert message in str(caught.value)
