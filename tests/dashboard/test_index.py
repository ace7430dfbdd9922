"""The index follows a folder of results: newest first, each file once, damage and all."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from made_history import copies
from structlog.testing import capture_logs

from monitorkit.contracts import DriftSummary, Finding, Outcome, RunResult
from monitorkit.dashboard.index import RECENT, Index
from monitorkit.dashboard.outlines import Columns, Outline
from monitorkit.results import Results
from monitorkit.retention import Limits


def test_nothing_is_there_at_first(tmp_path: Path, history: list[RunResult]) -> None:
    results = Results(tmp_path / "results")
    index = Index(results)
    assert index.read_on(1.0) is None
    results.commit(history[0])
    found = index.read_on(1.0)
    assert found is not None
    assert found.complete
    assert found.latest is not None
    assert found.latest.run_id == history[0].run_id


def test_it_knows_what_the_results_say(tmp_path: Path, history: list[RunResult]) -> None:
    results = Results(tmp_path)
    for result in history:
        results.commit(result)
    found = Index(results).read_on(60.0)
    assert found is not None
    newest_first = [results.result(i) for i in reversed(results.run_ids())]
    whole = [result for result in newest_first if result is not None]
    assert found.outlines == [Outline.of(result) for result in whole]
    assert found.recent == [(Outline.of(result), Columns.of(result)) for result in whole]
    assert found.latest == whole[0]


@pytest.mark.parametrize("later", [False, True])
def test_distances_are_known_though_the_newest_result_has_no_verdict(
    tmp_path: Path, history: list[RunResult], *, later: bool
) -> None:
    results = Results(tmp_path)

    def by_ks(result: RunResult) -> RunResult:
        found = [Finding("ks", 0.1, column="income", drift=False)]
        drift = DriftSummary("judge", False, 0.0, 0.5, (), 1, {})
        outcomes = [Outcome("judge", "ks", "ok", found, 0.0)]
        return replace(result, drift=drift, outcomes=outcomes)

    for result in history[:4]:
        results.commit(by_ks(result))
    results.commit(replace(history[4], drift=None, outcomes=history[4].outcomes[:1]))
    index = Index(results)
    found = index.read_on(60.0)
    if later:
        results.commit(by_ks(history[5]))
        found = index.read_on(60.0)
    assert found is not None
    known = [list(columns.distances) for _, columns in found.recent]
    assert known == [["income"]] * later + [[]] + [["income"]] * 4


def test_a_file_is_read_once(tmp_path: Path, history: list[RunResult]) -> None:
    results = Results(tmp_path)
    for result in history[:5]:
        results.commit(result)
    index = Index(results)
    first = index.read_on(60.0)
    assert first is not None
    assert index.read_on(60.0) is None
    for result in history[:5]:  # what is read again would be found damaged
        (tmp_path / f"{result.run_id}.json").write_bytes(b"{}")
    results.commit(history[5])
    with capture_logs() as events:
        second = index.read_on(60.0)
    assert events == []
    assert second is not None
    assert second.outlines[1:] == first.outlines
    assert second.outlines[0].run_id == history[5].run_id


def test_old_results_are_read_in_helpings_and_the_newest_at_once(
    tmp_path: Path, history: list[RunResult]
) -> None:
    results = Results(tmp_path)
    copies(results, history[0], 150, before=history[0].finished_at - timedelta(days=1))
    results.commit(history[-1])
    index = Index(results)
    first = index.read_on(0.0, at_least=RECENT)
    assert first is not None
    assert (len(first.outlines), len(first.recent), first.total) == (RECENT, RECENT, 151)
    assert not first.complete
    assert first.latest is not None
    assert first.latest.run_id == history[-1].run_id
    helpings = 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        helpings += 1
        more = index.read_on(0.005)
        assert more is not None
        if more.complete:
            break
    assert helpings > 1
    assert more is not None
    assert len(more.outlines) == 151
    assert [outline.run_id for outline in more.outlines] == list(reversed(results.run_ids()))


def test_what_was_pruned_is_gone(tmp_path: Path, history: list[RunResult]) -> None:
    results = Results(tmp_path)
    for result in history:
        results.commit(result)
    index = Index(results)
    index.read_on(60.0)
    results.prune(Limits(keep=2))
    found = index.read_on(60.0)
    assert found is not None
    assert [outline.run_id for outline in found.outlines] == [history[5].run_id, history[4].run_id]
    assert (found.total, len(found.recent)) == (2, 2)
    for result in history:
        (tmp_path / f"{result.run_id}.json").unlink(missing_ok=True)
    found = index.read_on(60.0)
    assert found is not None
    assert (found.latest, found.outlines, found.total) == (None, [], 0)


def test_what_becomes_recent_again_is_read_again(tmp_path: Path, history: list[RunResult]) -> None:
    results = Results(tmp_path)
    copies(results, history[0], RECENT + 20, before=history[0].finished_at)
    index = Index(results)
    first = index.read_on(60.0)
    assert first is not None
    assert (first.complete, len(first.recent)) == (True, RECENT)
    for run_id in results.run_ids()[-25:]:
        (tmp_path / f"{run_id}.json").unlink()
    found = index.read_on(0.0)
    assert found is not None
    assert not found.complete
    for _ in range(RECENT):
        found = index.read_on(0.0) or found
    assert (found.complete, len(found.recent), found.total) == (True, RECENT - 5, RECENT - 5)


def test_a_damaged_file_is_told_of_and_left_out(tmp_path: Path, history: list[RunResult]) -> None:
    results = Results(tmp_path)
    for result in history[:3]:
        results.commit(result)
    for damaged in (history[0], history[2]):  # an old one, and the newest one
        path = tmp_path / f"{damaged.run_id}.json"
        path.write_bytes(path.read_bytes()[:-40])
    index = Index(results)
    with capture_logs() as events:
        found = index.read_on(60.0)
        assert index.read_on(60.0) is None
    assert [event["event"] for event in events] == ["result_ignored", "result_ignored"]
    assert found is not None
    assert [outline.run_id for outline in found.outlines] == [history[1].run_id]
    assert found.latest is not None
    assert found.latest.run_id == history[1].run_id
    assert found.complete


def test_where_none_can_be_read_it_knows_how_many_there_are(
    tmp_path: Path, history: list[RunResult]
) -> None:
    """As after a step back to an older version of monitorkit."""
    results = Results(tmp_path)
    for result in history[:3]:
        results.commit(result)
        path = tmp_path / f"{result.run_id}.json"
        path.write_text(path.read_text().replace('"schema_version":', '"schema_version": 9', 1))
    index = Index(results)
    with capture_logs():
        found = index.read_on(60.0)
    assert found is not None
    assert (found.total, found.damaged, found.latest) == (0, 3, None)
    results.commit(history[3])
    with capture_logs():
        found = index.read_on(60.0)
    assert found is not None
    assert (found.total, found.damaged) == (1, 3)
    for path in tmp_path.glob("*.json"):
        if path.stem != history[3].run_id:
            path.unlink()
    found = index.read_on(60.0)
    assert found is None or found.damaged == 0
