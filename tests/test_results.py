"""Results: strict JSON that comes back as it was, committed whole, listed fast, pruned."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from monitorkit.contracts import DriftSummary, Finding, Outcome, RunResult, Window
from monitorkit.durable import beside
from monitorkit.errors import ResultError, ResultsUnreadable
from monitorkit.results import Changes, Results, decode, encode, new_run_id
from monitorkit.retention import Limits

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def a_result(number: int = 0, findings: tuple[Finding, ...] = (), **changes: Any) -> RunResult:
    """The result of a cycle that began `number` seconds after `NOW`."""
    started = NOW + timedelta(seconds=number)
    result = RunResult(
        run_id=new_run_id(started),
        trigger="periodic",
        started_at=started,
        finished_at=started + timedelta(seconds=2),
        model_name="credit-risk-model",
        window=Window(250, NOW - timedelta(hours=1), NOW, "3", 86400.0),
        min_rows=200,
        reference_hash="ab" * 32,
        cursor={"predictions-1": 4096},
        drift=DriftSummary("feature-drift", True, 0.5, 0.5, ("age",), 2, {"gone": "no values"}),
        outcomes=(Outcome("feature-drift", "ks", "drift", findings, 0.25),),
    )
    return replace(result, **changes)


times = st.datetimes(timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
jsons = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
findings = st.builds(
    Finding,
    measure=texts,
    value=st.none() | numbers,
    column=st.none() | texts,
    statistic=st.none() | texts,
    p_value=st.none() | numbers,
    threshold=st.none() | numbers,
    drift=st.none() | st.booleans(),
    interval=st.none() | st.tuples(numbers, numbers),
    since=st.none() | times,
    detail=st.dictionaries(texts, jsons, max_size=3),
)
outcomes = st.builds(
    Outcome,
    name=texts,
    kind=texts,
    status=st.sampled_from(["ok", "drift", "failed", "timed_out"]),
    findings=st.lists(findings, max_size=3).map(tuple),
    seconds=numbers,
    error=st.none() | texts,
    reports=st.lists(texts, max_size=2).map(tuple),
)
drifts = st.builds(
    DriftSummary,
    monitor=texts,
    dataset_drift_detected=st.none() | st.booleans(),
    drift_share=st.none() | numbers,
    share_threshold=numbers,
    drifted_features=st.lists(texts, max_size=3).map(tuple),
    num_features_evaluated=st.integers(0),
    excluded_features=st.dictionaries(texts, texts, max_size=2),
)
windows = st.builds(
    Window,
    rows=st.integers(0),
    first=st.none() | times,
    last=st.none() | times,
    model_version=st.none() | texts,
    lookback_seconds=numbers,
)
run_results = st.builds(
    RunResult,
    run_id=st.builds(new_run_id, times),
    trigger=st.sampled_from(["periodic", "forced", "once"]),
    started_at=times,
    finished_at=times,
    model_name=texts,
    window=windows,
    min_rows=st.integers(1),
    reference_hash=texts,
    cursor=st.dictionaries(texts, st.integers(0), max_size=2),
    drift=st.none() | drifts,
    outcomes=st.lists(outcomes, max_size=3).map(tuple),
)


@given(run_results)
def test_decode_undoes_encode(result: RunResult) -> None:
    document = encode(result)
    assert decode(document) == result
    assert encode(decode(document)) == document
    json.loads(document, parse_constant=pytest.fail)


def test_the_top_holds_what_people_look_for() -> None:
    result = a_result(findings=(Finding("ks", 0.3, column="age", drift=True),))
    document = json.loads(encode(result))
    monitors = document.pop("monitors")
    assert document == {
        "schema_version": 1,
        "run_id": result.run_id,
        "trigger": "periodic",
        "started_at": "2026-01-02T03:04:05.678901Z",
        "finished_at": "2026-01-02T03:04:07.678901Z",
        "model_name": "credit-risk-model",
        "model_version": "3",
        "dataset_drift_detected": True,
        "drift_share": 0.5,
        "drift_share_threshold": 0.5,
        "num_drifted_features": 1,
        "num_features_evaluated": 2,
        "drifted_features": ["age"],
        "excluded_features": {"gone": "no values"},
        "verdict_monitor": "feature-drift",
        "window": {
            "rows": 250,
            "first": "2026-01-02T02:04:05.678901Z",
            "last": "2026-01-02T03:04:05.678901Z",
            "model_version": "3",
            "lookback_seconds": 86400.0,
        },
        "gate": {"min_rows": 200, "passed": True},
        "reference_hash": "ab" * 32,
        "cursor": {"predictions-1": 4096},
    }
    assert monitors == [
        {
            "name": "feature-drift",
            "kind": "ks",
            "status": "drift",
            "seconds": 0.25,
            "error": None,
            "reports": [],
            "findings": [
                {
                    "measure": "ks",
                    "value": 0.3,
                    "column": "age",
                    "statistic": None,
                    "p_value": None,
                    "threshold": None,
                    "drift": True,
                    "interval": None,
                    "since": None,
                    "detail": {},
                }
            ],
        }
    ]


def test_a_finding_is_one_line() -> None:
    found = tuple(Finding("ks", 0.1, column=f"c{number}") for number in range(5))
    lines = encode(a_result(findings=found)).decode().splitlines()
    assert [json.loads(line.rstrip(","))["column"] for line in lines if '"measure"' in line] == [
        "c0", "c1", "c2", "c3", "c4",
    ]  # fmt: skip


def test_nan_and_infinities_are_null_and_numpys_numbers_are_numbers() -> None:
    odd: Any = {"counts": np.array([1, 2]), "deep": [{"x": np.float32("inf")}], "tuple": (1, 2)}
    finding = Finding(
        "ks",
        float("nan"),
        p_value=np.float64(0.25),
        threshold=float("-inf"),
        drift=np.bool_(True),  # type: ignore[arg-type] # what plugins return all the same
        interval=(0.0, float("inf")),
        detail=odd,
    )
    document = encode(a_result(findings=(finding,)))
    (kept,) = decode(document).outcomes[0].findings
    assert kept == Finding(
        "ks",
        None,
        p_value=0.25,
        drift=True,
        detail={"counts": [1, 2], "deep": [{"x": None}], "tuple": [1, 2]},
    )
    assert kept.drift is True


def test_text_that_is_no_unicode_stays_legible() -> None:
    outcome = Outcome("m", "k", "failed", (), 0.0, error="no such file: \udcff.csv")
    decoded = decode(encode(a_result(outcomes=(outcome,))))
    assert decoded.outcomes[0].error == "no such file: \\udcff.csv"


def test_times_are_utc_whatever_zone_they_came_in() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    document = encode(a_result(started_at=NOW.astimezone(there)))
    assert json.loads(document)["started_at"] == "2026-01-02T03:04:05.678901Z"
    with pytest.raises(TypeError, match="time zone"):
        encode(a_result(started_at=NOW.replace(tzinfo=None)))


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object()])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot stand in a result"):
        encode(a_result(findings=(Finding("x", 1.0, detail={"value": value}),)))


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"schema_version": 1}', b"NaN"],
    ids=["empty", "torn", "list", "null", "not utf-8", "deep", "no keys", "nan"],
)
def test_what_is_no_result_is_an_error_that_names_it(document: bytes) -> None:
    with pytest.raises(ResultError, match=r"somewhere\.json"):
        decode(document, "somewhere.json")


def test_an_interval_of_no_numbers_is_no_result() -> None:
    document = json.loads(encode(a_result(findings=(Finding("x", 1.0),))))
    document["monitors"][0]["findings"][0]["interval"] = []
    with pytest.raises(ResultError, match="not a whole result"):
        decode(json.dumps(document).encode())


def test_another_schema_version_is_refused() -> None:
    document = {**json.loads(encode(a_result())), "schema_version": 2}
    with pytest.raises(ResultError, match="schema_version 2 is not 1"):
        decode(json.dumps(document).encode())


def test_nan_in_a_file_is_not_json() -> None:
    document = encode(a_result()).replace(b'"drift_share": 0.5', b'"drift_share": NaN')
    with pytest.raises(ResultError, match="NaN is not JSON"):
        decode(document)


def test_run_ids_sort_by_time_and_are_unique() -> None:
    run_ids = [new_run_id(NOW + timedelta(microseconds=step)) for step in range(100)]
    assert run_ids == sorted(run_ids)
    assert re.fullmatch(r"20260102T030405678901Z-[0-9a-f]{8}", run_ids[0])
    assert len({new_run_id(NOW) for _ in range(100)}) == 100


def test_a_clock_that_was_set_back_does_not_bring_ids_out_of_order() -> None:
    run_id = new_run_id(NOW)
    for _ in range(20):
        following = new_run_id(NOW - timedelta(hours=1), after=run_id)
        assert following > run_id
        run_id = following
    assert new_run_id(NOW + timedelta(days=1), after=run_id).startswith("20260103T030405678901Z")


def test_what_is_committed_is_read_byte_for_byte(tmp_path: Path) -> None:
    results = Results(tmp_path / "made" / "here")
    result = a_result()
    document = results.commit(result)
    assert results.read(result.run_id) == document
    assert (tmp_path / "made/here" / f"{result.run_id}.json").read_bytes() == document
    assert results.latest() == result
    assert len(list(results.folder.iterdir())) == 1


def test_there_may_be_no_results_yet(tmp_path: Path) -> None:
    results = Results(tmp_path / "nowhere")
    assert results.latest() is None
    assert results.list(10, 0) == []
    assert results.count() == 0
    assert results.prune(Limits(1)) == 0
    assert results.read(new_run_id(NOW)) is None


@pytest.mark.parametrize(
    "run_id",
    ["", "..", "../secret", "x/../../secret", "secret", "20260102T030405678901Z-0000000G", "\0",
     "20260102T030405678901Z-00000000\n", "\u0662\u0660" + "260102T030405678901Z-00000000"],
)  # fmt: skip
def test_only_run_ids_are_read(tmp_path: Path, run_id: str) -> None:
    (tmp_path / "secret.json").write_text("{}")
    results = Results(tmp_path / "results")
    results.commit(a_result())
    assert results.read(run_id) is None
    with pytest.raises(ResultError, match="not a run_id"):
        results.commit(a_result(run_id=run_id))


@contextmanager
def unreadable(folder: Path, how: str) -> Iterator[None]:
    """Root may read any folder, so these are troubles that it has, too."""
    if how == "Too many open files":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return
    aside = folder.rename(folder.with_name("aside"))
    if how == "Not a directory":
        folder.write_text("a file in its place")
    else:
        folder.symlink_to(folder)
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


@pytest.mark.parametrize(
    "how", ["Not a directory", "Too many levels of symbolic links", "Too many open files"]
)
def test_a_folder_that_cannot_be_read_is_an_error_and_no_result_is_damaged(
    tmp_path: Path, how: str
) -> None:
    results = Results(tmp_path / "results")
    result = a_result()
    results.commit(result)
    asked: list[Callable[[], object]] = [
        results.run_ids,
        results.latest,
        results.count,
        lambda: results.list(1),
        lambda: results.read(result.run_id),
    ]
    if how != "Too many open files":  # to look takes none
        asked.append(lambda: results.holds(result.run_id))
    with unreadable(results.folder, how), capture_logs() as events:
        for ask in asked:
            with pytest.raises(ResultsUnreadable) as caught:
                ask()
            assert (caught.value.path, caught.value.reason) == (str(results.folder), how)
    assert events == []
    assert results.latest() == result


def test_a_folder_that_cannot_be_looked_at_is_the_same_error(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.symlink_to(folder)
    with pytest.raises(ResultsUnreadable, match="symbolic links"), Changes(folder).maybe():
        pass


def test_a_damaged_result_is_there_and_what_is_no_run_id_is_not(tmp_path: Path) -> None:
    results = Results(tmp_path)
    result = a_result()
    results.commit(result)
    (tmp_path / f"{result.run_id}.json").write_bytes(b"")
    assert results.latest() is None
    assert list(results.run_ids()) == []
    assert results.holds(result.run_id)
    assert not results.holds(a_result(1).run_id)
    assert not results.holds("../secret")


def test_pages_are_newest_first(tmp_path: Path) -> None:
    results = Results(tmp_path)
    made = [a_result(number) for number in (3, 1, 4, 0, 2)]
    for result in made:
        results.commit(result)
    order = [result.run_id for result in sorted(made, key=lambda r: r.started_at, reverse=True)]
    assert [entry["run_id"] for entry in results.list(2, 0)] == order[:2]
    assert [entry["run_id"] for entry in results.list(2, 2)] == order[2:4]
    assert [entry["run_id"] for entry in results.list(2, 4)] == order[4:]
    assert results.list(2, 5) == []
    assert results.count() == 5
    assert results.run_ids() == order[::-1]


def test_an_entry_of_a_page_says_what_it_came_to(tmp_path: Path) -> None:
    results = Results(tmp_path)
    result = a_result()
    results.commit(result)
    assert results.list(1, 0) == [
        {
            "run_id": result.run_id,
            "trigger": "periodic",
            "started_at": "2026-01-02T03:04:05.678901Z",
            "finished_at": "2026-01-02T03:04:07.678901Z",
            "model_version": "3",
            "rows": 250,
            "dataset_drift_detected": True,
            "drift_share": 0.5,
            "num_drifted_features": 1,
            "num_features_evaluated": 2,
            "drifted_features": ["age"],
            "monitors": {"feature-drift": "drift"},
        }
    ]


def test_a_damaged_file_is_passed_over_and_named_once(tmp_path: Path) -> None:
    results = Results(tmp_path)
    made = [a_result(number) for number in range(4)]
    for result in made:
        results.commit(result)
    newest = tmp_path / f"{made[3].run_id}.json"
    whole = newest.read_bytes()
    newest.write_bytes(whole[:100])
    (tmp_path / f"{made[1].run_id}.json").write_bytes(b"")
    with capture_logs() as events:
        assert results.latest() == made[2]
        assert [entry["run_id"] for entry in results.list(2, 0)] == [made[2].run_id, made[0].run_id]
        assert results.read(made[3].run_id) is None
        assert results.latest() == made[2]
    assert [(event["log_level"], event["event"]) for event in events] == [
        ("warning", "result_ignored"),
        ("warning", "result_ignored"),
    ]
    assert events[0]["file"] == str(newest)
    assert results.count() == 2  # pages fit the count
    newest.write_bytes(whole)
    assert results.latest() == made[3]


def test_a_link_that_leads_nowhere_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    results = Results(tmp_path)
    older, newer = a_result(0), a_result(1)
    results.commit(older)
    loop = tmp_path / f"{newer.run_id}.json"
    loop.symlink_to(loop)
    with capture_logs() as events:
        for _ in range(2):
            assert results.latest() == older
    assert list(results.run_ids()) == [older.run_id]
    assert [event["event"] for event in events] == ["result_ignored"]


def test_a_file_under_another_results_name_is_damaged(tmp_path: Path) -> None:
    results = Results(tmp_path)
    older, newer = a_result(0), a_result(1)
    results.commit(older)
    (tmp_path / f"{newer.run_id}.json").write_bytes(encode(older))
    assert results.latest() == older
    assert results.read(newer.run_id) is None


def test_prune_deletes_the_oldest_and_never_the_newest(tmp_path: Path) -> None:
    results = Results(tmp_path)
    made = [a_result(number) for number in range(5)]
    for result in made:
        results.commit(result)
    assert results.prune(Limits(10)) == 0
    assert results.prune(Limits(3)) == 2
    assert results.run_ids() == [result.run_id for result in made[2:]]
    assert results.prune(Limits(0)) == 2
    assert results.run_ids() == [made[4].run_id]


def test_old_and_large_results_go_with_an_event_each(tmp_path: Path) -> None:
    results = Results(tmp_path)
    now = datetime.now(UTC)
    made = [new_run_id(now - timedelta(days=days)) for days in (9, 7, 2, 1)]
    for run_id in made:
        results.commit(replace(a_result(), run_id=run_id))
    with capture_logs() as logged:
        assert results.prune(Limits(max_age=timedelta(days=8))) == 1
        size = (tmp_path / f"{made[-1]}.json").stat().st_size
        assert results.prune(Limits(max_size=2 * size + 1)) == 1
        assert results.prune(Limits(max_size=1)) == 1
    assert results.run_ids() == made[-1:]
    assert [(event["event"], event["what"]) for event in logged] == [("file_pruned", "result")] * 3
    assert [Path(event["file"]).stem for event in logged] == made[:-1]


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    results = Results(tmp_path)
    result = a_result()
    results.commit(result)
    for name in ("notes.json", f"{result.run_id}.json.bak", ".hidden.json"):
        (tmp_path / name).write_text("mine")
    assert results.run_ids() == [result.run_id]
    assert results.prune(Limits(1)) == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_killed_process_left_is_ignored_and_cleared_away(tmp_path: Path) -> None:
    results = Results(tmp_path)
    run_id = new_run_id(NOW)
    old, new = (beside(tmp_path / f"{run_id}.json") for _ in range(2))
    for leftover in (old, new):
        leftover.write_bytes(b'{"half')
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    assert results.run_ids() == []
    result = a_result()
    results.commit(result)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([new.name, f"{result.run_id}.json"])  # the new one may be at work


KILLED = """
import os, sys
from pathlib import Path
from monitorkit.results import Results, decode

calls = 0
def counted(original):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os._exit(9)
        return original(*arguments, **named)
    return call

for owner, name in [(os, "fsync"), (os, "close"), (Path, "open"), (Path, "replace")]:
    setattr(owner, name, counted(getattr(owner, name)))
Results(Path(sys.argv[1])).commit(decode(sys.stdin.buffer.read()))
"""


def test_a_process_killed_in_the_middle_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    result = a_result()
    document = encode(result)
    seen = set()
    for call in range(1, 20):
        folder = tmp_path / str(call)
        command = [sys.executable, "-c", KILLED, str(folder), str(call)]
        done = subprocess.run(command, input=document, check=False, timeout=60)
        found = Results(folder).read(result.run_id)
        assert found in (None, document)
        assert all(p.name.startswith(".") for p in folder.iterdir() if found is None)
        seen.add(found is None)
        if done.returncode == 0:
            break
        assert done.returncode == 9
    else:
        pytest.fail("never got through")
    assert seen == {True, False}


CUT_SHORT = """
import resource, signal, sys
from pathlib import Path
from monitorkit.results import Results, decode

result = decode(sys.stdin.buffer.read())
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # kills who writes a longer file
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
Results(Path(sys.argv[1])).commit(result)
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits there")
def test_a_process_killed_in_the_middle_of_a_write_leaves_nothing(tmp_path: Path) -> None:
    result = a_result()
    done = subprocess.run(
        [sys.executable, "-B", "-c", CUT_SHORT, str(tmp_path)],
        input=encode(result),
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGXFSZ
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size == 100
    assert Results(tmp_path).run_ids() == []


def test_a_page_of_10000_results_opens_only_its_own_files(tmp_path: Path) -> None:
    results = Results(tmp_path)
    document = encode(a_result())
    for number in range(10_000):
        run_id = new_run_id(NOW + timedelta(seconds=number))
        (tmp_path / f"{run_id}.json").touch()  # opening one of these would be an event
    for run_id in results.run_ids()[5000:5020]:
        its = decode(document)
        (tmp_path / f"{run_id}.json").write_bytes(encode(replace(its, run_id=run_id)))
    with capture_logs() as events:
        started = time.perf_counter()
        page = results.list(20, 4980)
        seconds = time.perf_counter() - started
    assert events == []
    assert len(page) == 20
    assert seconds < 0.5  # 0.03 s on a quiet machine


def test_a_stray_file_whose_name_is_no_time_is_no_result(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for name in ("20261399T000000000000Z", "20260101T250000000000Z", "00000101T000000000000Z"):
        (tmp_path / f"{name}-deadbeef.json").write_text("{}")
    assert results.run_ids() == []
    assert results.prune(Limits(1)) == 0
