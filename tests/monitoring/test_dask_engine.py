"""On a Dask cluster the same is found as here, to the last bit, whatever happens to its workers."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import fsspec
import pytest
from monitoring_place import Place, draw, store_model
from s3_server import CREDENTIALS
from structlog.testing import capture_logs

from monitorkit.contracts import RunResult
from monitorkit.errors import ClusterError, ReferenceProblem, RegistryUnavailable
from monitorkit.monitoring import encoding
from monitorkit.monitoring import pieces as pieces_module
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.dask_engine import (
    MERGED_AT_ONCE,
    UNWATCHED,
    DaskEngine,
    cluster,
    halved,
    local_cluster,
)
from monitorkit.monitoring.engine import LocalEngine
from monitorkit.monitoring.pieces import (
    VERSIONS,
    Part,
    PieceEngine,
    merge_parts,
    packed,
    unpacked,
)
from monitorkit.monitoring.process_engine import ProcessEngine
from monitorkit.monitoring.protocol import Case
from monitorkit.monitoring.timeline import Buckets, Kept, Track
from monitorkit.prediction_log import Piece
from monitorkit.prediction_log.pieces import split
from monitorkit.worker import Worker

pytestmark = pytest.mark.slow

Make = Callable[..., Place]
MONITORS: list[dict[str, Any]] = [
    {"name": "feature-drift", "use": "ks"},
    {"name": "psi", "use": "psi"},
    {"name": "distance", "use": "wasserstein"},
    {"name": "proxy", "use": "proxy_metrics"},
    {"name": "sure", "use": "anytime_drift"},
    {"name": "evidently", "use": "evidently_drift", "options": {"sample": 50}},
]
NAMES = [str(entry["name"]) for entry in MONITORS]
PIECE = 20_000  # bytes: about 300 rows


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of workers whose environment is not ours."""
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(
            "MLFLOW_TRACKING_URI", "http://127.0.0.1:9"
        )
        workers = stack.enter_context(local_cluster(workers=2))
        yield stack.enter_context(cluster(workers.scheduler_address))


def test_a_cluster_of_this_machine_does_not_watch_itself(client: Any) -> None:
    def settings() -> Any:
        from dask import config  # noqa: PLC0415 - of the worker

        return {key: config.get(key) for key in UNWATCHED}

    assert list(client.run(settings).values()) == [UNWATCHED] * 2
    # Whoever has clusters of other kinds in this process keeps what is set for them.
    assert settings()["distributed.worker.profile.enabled"] is True


def test_the_last_pieces_are_half_as_long_and_nothing_is_left_out() -> None:
    log = Piece("here", "predictions.csv", "id", 0, 100, 100, ended=False)
    pieces = list(split(log, 10))
    found = halved(pieces, 4, 10)
    assert [(each.start, each.end) for each in found[:6]] == [
        (at, at + 10) for at in range(0, 60, 10)
    ]
    assert [(each.start, each.end) for each in found[6:]] == [
        (at, at + 5) for at in range(60, 100, 5)
    ]
    assert halved(pieces, 0, 10) == pieces
    assert halved(pieces[:2], 4, 10) == list(split(replace(log, end=20), 5))
    assert halved(pieces[:1], 4, 1) == list(split(replace(log, end=10), 1))


def summaries(engine: LocalEngine) -> dict[str, Any]:
    """Everything that an engine knows, byte for byte."""

    def of(track: Track) -> dict[str, Any]:
        return {
            version: {
                step: (kept.level, kept.rows, encoding.dump_summary(kept.summary))
                for step, kept in buckets.kept.items()
            }
            for version, buckets in track.versions.items()
        }

    return {identity: of(track) for identity, track in engine._tracks.items()}


def elsewhere(here: Place, name: str) -> Place:
    """The same log and reference, and a timeline of its own."""
    storage = here.config.storage.model_copy(update={"root": here.folder / name})
    for part in ("predictions", "reference", "models"):
        shutil.copytree(here.config.storage.root / part, storage.root / part)
    return replace(here, config=here.config.model_copy(update={"storage": storage}))


def a_log_of_everything(here: Place) -> None:
    """Two versions, late rows, two segments, a line that is no row."""
    now = datetime.now(UTC)
    here.append(draw(3000, seed=2), ends=now - timedelta(hours=3), seconds=1.5)
    here.append(draw(500, seed=3), ends=now - timedelta(hours=9), seconds=0.1)
    folder = here.config.storage.predictions
    (folder / "predictions.csv").rename(folder / "predictions-20260101T000000.000000Z.csv")
    here.append(draw(2000, seed=4), version="2", ends=now - timedelta(minutes=1), seconds=2)
    with (folder / "predictions.csv").open("ab") as file:
        file.write(b"no row\n")
    here.append(draw(700, seed=5, shift=(9, 0, 0)), version="2", ends=now)


@pytest.fixture
def here(place: Make) -> Place:
    made = place(monitors=MONITORS)
    store_model(made.config, "2")
    a_log_of_everything(made)
    return made


def test_a_timeline_that_was_damaged_under_it_is_written_anew(
    here: Place, client: Any, worker: Worker
) -> None:
    """The engine adds to it from memory and never reads it; the process that judges does."""
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    run_cycle(here.config, engine, here.results, trigger="once")
    path = here.config.storage.state / "timeline.sqlite"
    with closing(sqlite3.connect(path)) as file:
        (page,) = file.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_buckets_1'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    content[page * 16384 - 21] ^= 1  # a bit of a key in the index
    path.write_bytes(content)
    here.append(draw(300, seed=6), version="2")
    with capture_logs() as events:
        found = run_cycle(here.config, engine, here.results, trigger="once")
    assert isinstance(found, RunResult)
    assert [outcome.error for outcome in found.outcomes] == [None] * len(NAMES)
    assert [event["event"] for event in events].count("timeline_ignored") == 1


def test_summaries_are_those_of_the_local_engine(here: Place, client: Any, worker: Worker) -> None:
    now = datetime.now(UTC)
    local = LocalEngine(elsewhere(here, "local").config)
    expected = local.absorb(NAMES, now)
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    found = engine.absorb(NAMES, now)
    assert found == expected
    assert found.rows_read == 6200
    assert summaries(engine) == summaries(local)


def test_a_version_that_cannot_be_had_hides_no_other_one(
    place: Make, client: Any, worker: Worker
) -> None:
    here = place(monitors=MONITORS[:1], registry={"tracking_uri": "http://127.0.0.1:9"})
    here.append(draw(300, seed=2), version="0")
    here.append(draw(300, seed=3), version="1")
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=5000)
    now = datetime.now(UTC)
    with capture_logs() as events:
        absorbed = engine.absorb(NAMES[:1], now)
    assert (absorbed.window.model_version, absorbed.window.rows) == ("1", 300)
    assert [event["event"] for event in events].count("model_version_not_judged") == 1
    case = Case(NAMES[0], "1", now, (), absorbed.cursor, reports=False)
    findings = engine.judge(case).findings
    local = LocalEngine(elsewhere(here, "local").config)
    local.absorb(NAMES[:1], now)
    assert findings
    assert list(findings) == list(local.judge(case).findings)
    assert engine.absorb(NAMES[:1], now).rows_read == 0


def in_one_piece(place: Make, worker: Worker) -> tuple[Place, DaskEngine, PieceEngine]:
    """A log of 300 rows, an engine without a cluster, and one that sums up a piece in its place."""
    here = place(monitors=MONITORS[:1])
    here.append(draw(300, seed=2))
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), None)
    return here, engine, PieceEngine(here.config)


def nobody_answers(*_: Any) -> Any:
    """In place of asking for a model."""
    raise RegistryUnavailable("http://127.0.0.1:9", "nobody answers")


def test_a_version_that_can_be_had_again_is_told_of_no_more(
    place: Make, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster's part is made here, and put together from two."""
    here, engine, part = in_one_piece(place, worker)
    away = [True]
    chunk = engine._monitors.references.chunk

    def asked(version: str) -> Any:
        return nobody_answers() if away[0] else chunk(version)

    def on_cluster(pieces: Any, names: Any) -> Any:
        (piece,) = pieces
        found = part.summarise(piece, names, engine._now)
        return engine.whole([found, Part(0, Track(), {}, {}, {})], names)

    monkeypatch.setattr(engine._monitors.references, "chunk", asked)
    monkeypatch.setattr(engine, "_on_cluster", on_cluster)
    monkeypatch.setattr(pieces_module, "ASKED_AGAIN_SECONDS", 0.0)
    told = []
    for seed in (3, 4, 5):
        with capture_logs() as events, suppress(RegistryUnavailable):
            engine.absorb(NAMES[:1], datetime.now(UTC))
        told.append([event["event"] for event in events].count("model_version_not_judged"))
        away[0] = False
        here.append(draw(100, seed=seed))
    assert told == [1, 0, 0]
    assert not engine._gone or engine._gone["1"][1] <= time.monotonic()


def test_a_registry_that_does_not_answer_is_not_asked_with_each_piece(
    place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(monitors=MONITORS[:1])
    here.append(draw(300, seed=2))
    engine = PieceEngine(here.config)
    asked: list[str] = []
    chunk = engine._monitors.references.chunk

    def without_the_model(version: str) -> Any:
        asked.append(version)
        nobody_answers()

    monkeypatch.setattr(engine._monitors.references, "chunk", without_the_model)
    pieces = engine._reader.plan({}, piece_bytes=5000).pieces
    now = datetime.now(UTC)
    parts = [engine.summarise(piece, NAMES[:1], now) for piece in pieces]
    assert len(parts) > 3
    assert all(part.not_judged for part in parts)
    assert asked == ["1"]
    monkeypatch.setattr(engine._monitors.references, "chunk", chunk)
    assert engine.summarise(pieces[0], NAMES[:1], now).not_judged
    chunk("1")  # somebody else had it
    assert not engine.summarise(pieces[0], NAMES[:1], now).not_judged


class Recording:
    """A client that only notes what it is asked to do."""

    def __init__(self) -> None:
        self.merged: list[int] = []

    def submit(self, task: Any, _config: Any, _names: Any, _now: Any, *of: Any, pure: bool) -> Any:
        assert not pure
        if task is not merge_parts:
            return [of[0].start]
        assert 1 < len(of) <= MERGED_AT_ONCE
        self.merged.append(max(start for part in of for start in part))
        return [start for part in of for start in part]


@pytest.mark.parametrize("count", [1, 2, 8, 9, 16, 17, 24, 72, 73, 80, 600])
def test_pieces_are_merged_in_order_and_the_last_ones_here(
    place: Make, worker: Worker, count: int
) -> None:
    here = place(monitors=MONITORS[:1])
    client = Recording()
    judges = ProcessEngine(here.config, worker)
    engine = DaskEngine(here.config, judges, client, piece_bytes=2)
    log = Piece("here", "predictions.csv", "id", 0, 2 * count, 2 * count, ended=False)
    found = engine._submitted(list(split(log, 2)), NAMES[:1])
    starts = [start for part in found for start in part]
    assert starts == sorted(starts)
    assert len(starts) == count
    assert not [last for last in client.merged if last in starts[-MERGED_AT_ONCE:]]
    assert len(found) <= 4 * MERGED_AT_ONCE


def test_a_cycle_finds_the_same_and_the_next_one_reads_only_what_is_new(
    here: Place, client: Any, worker: Worker
) -> None:
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    found = run_cycle(here.config, engine, here.results, trigger="once")
    assert isinstance(found, RunResult)
    assert [outcome.error for outcome in found.outcomes] == [None] * len(NAMES)
    there = elsewhere(here, "local")
    local = LocalEngine(there.config)
    local.absorb(NAMES, found.started_at)
    for outcome in found.outcomes:
        judgement = local.judge(
            Case(outcome.name, "2", found.started_at, (), found.cursor, reports=False)
        )
        assert tuple(judgement.findings) == tuple(outcome.findings)
    here.append(draw(40, seed=6), version="2")
    assert engine.absorb(NAMES, datetime.now(UTC)).rows_read == 40


def test_rows_after_a_first_row_that_was_deleted_count_once(
    here: Place, client: Any, worker: Worker
) -> None:
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    now = datetime.now(UTC)
    assert engine.absorb(NAMES, now).rows_read == 6200
    path = here.config.storage.predictions / "predictions.csv"
    head, _, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([head, *others]))
    found = engine.absorb(NAMES, now)
    local = LocalEngine(elsewhere(here, "local").config)
    assert found == local.absorb(NAMES, now)
    assert (found.window.rows, found.rows_read) == (2699, 6199)
    assert summaries(engine) == summaries(local)


def test_a_new_monitor_reads_what_the_others_know(here: Place, client: Any, worker: Worker) -> None:
    now = datetime.now(UTC)
    DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE).absorb(
        ["feature-drift"], now
    )
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    engine.absorb(NAMES, now)
    local = LocalEngine(elsewhere(here, "local").config)
    local.absorb(NAMES, now)
    assert summaries(engine) == summaries(local)


def test_a_monitor_that_fails_there_is_left_out_and_the_others_are_not(
    place: Make, client: Any, worker: Worker
) -> None:
    bad = {"name": "bad", "use": "bad", "options": {"at": "summarise", "how": "raise"}}
    here = place(monitors=[bad, {"name": "feature-drift", "use": "ks"}])
    here.append(draw(3000, seed=2))
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    found = run_cycle(here.config, engine, here.results, trigger="once")
    assert isinstance(found, RunResult)
    failed, fine = found.outcomes
    assert failed.error == "ValueError: no good"
    assert fine.findings[0].detail.get("rows", found.window.rows) == 3000


def test_a_monitor_that_cannot_merge_fails_alone_and_no_row_counts_twice(
    place: Make, client: Any, worker: Worker
) -> None:
    bad = {"name": "bad", "use": "bad", "options": {"at": "merge", "how": "raise"}}
    rows = {"name": "rows", "use": "bad", "options": {"how": "ok"}}
    here = place(monitors=[bad, rows], monitoring={"verdict": {"monitor": "rows"}})
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    for new, together in ((2000, 2000), (1000, 3000), (100, 3100), (3000, 6100)):
        here.append(draw(new, seed=new))  # the third ones are merged there, the others here
        found = run_cycle(here.config, engine, here.results, trigger="once")
        assert isinstance(found, RunResult)
        failed, fine = found.outcomes
        assert failed.error == (None if together == 2000 else "ValueError: no good")
        assert fine.error is None
        assert (found.window.rows, fine.findings[0].value) == (together, together)


def test_a_summary_of_a_class_within_a_function_comes_over() -> None:
    @dataclass(frozen=True)
    class Here:
        rows: int

    track = Track(versions={"1": Buckets({0: Kept(0, 3, Here(3))})})
    found = unpacked(packed(Part(3, track, {}, {}, {})))
    assert found.rows.versions["1"].kept[0].summary.rows == 3


def test_the_result_goes_through_the_scheduler_where_its_worker_cannot_be_reached(
    here: Place, client: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    gather = client.gather

    def noting(futures: Any, **how: Any) -> Any:
        asked.append(how["direct"])
        return gather(futures, **how)

    monkeypatch.setattr(client, "gather", noting)
    judges = ProcessEngine(here.config, worker)
    straight = DaskEngine(here.config, judges, client, piece_bytes=PIECE)
    now = datetime.now(UTC)
    straight.absorb(NAMES, now)
    assert asked
    assert all(asked)
    away = {"tcp://127.0.0.1:9", "inproc://127.0.0.1/1/1"}
    for address in away:
        monkeypatch.setattr(client, "who_has", lambda future, to=address: {future.key: (to,)})
        other = DaskEngine(elsewhere(here, address[:3]).config, judges, client, piece_bytes=PIECE)
        asked.clear()
        other.absorb(NAMES, now)
        assert asked
        assert summaries(other) == summaries(straight)
        assert not any(asked)


def test_a_version_that_the_cluster_cannot_have_is_judged_by_no_monitor(
    place: Make, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, engine, part = in_one_piece(place, worker)

    def on_cluster(pieces: Any, names: Any) -> Any:
        with monkeypatch.context() as there:
            there.setattr(part._monitors.references, "chunk", nobody_answers)
            (piece,) = pieces
            return part.summarise(piece, names, engine._now)

    monkeypatch.setattr(engine, "_on_cluster", on_cluster)
    found = run_cycle(here.config, engine, here.results, trigger="once")
    assert isinstance(found, RunResult)
    assert found.window.rows == 300
    assert found.outcomes[0].status == "failed"
    assert "model version 1 are not summed up" in str(found.outcomes[0].error)


def test_what_another_process_read_is_judged_in_every_minute(
    place: Make, client: Any, worker: Worker
) -> None:
    """The one that judges has looked from an earlier moment when it is asked again."""
    here = place(monitors=MONITORS[:1])
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    begin = datetime.now(UTC).replace(second=59, microsecond=0) - timedelta(minutes=9)
    for seconds, rows in ((0, 300), (2, 600), (300, 900)):
        now = begin + timedelta(seconds=seconds)
        here.append(draw(300, seed=seconds), ends=now)
        absorbed = engine.absorb(NAMES[:1], now)
        assert absorbed.window.rows == rows
        assert engine.judge(Case(NAMES[0], "1", now, (), absorbed.cursor, reports=False)).findings


def test_what_was_made_for_old_versions_does_not_stay(place: Make) -> None:
    here = place(monitors=MONITORS[:1])
    pieces = PieceEngine(here.config)
    log = here.config.storage.predictions / "predictions.csv"
    for number in range(1, VERSIONS + 3):
        if number > 1:
            store_model(here.config, str(number))
        log.unlink(missing_ok=True)
        here.append(draw(300, seed=number), version=str(number))
        (piece,) = pieces._reader.plan({}, piece_bytes=10**6).pieces
        assert pieces.summarise(piece, NAMES[:1], datetime.now(UTC)).count == 300
    newest = {str(number) for number in range(3, VERSIONS + 3)}
    assert {version for version, _ in pieces._monitors._made} == newest


def test_a_worker_that_is_killed_in_the_middle_costs_time_only(
    here: Place, client: Any, worker: Worker
) -> None:
    now = datetime.now(UTC)
    for seed in range(4):
        here.append(draw(5000, seed=20 + seed), version="2", ends=now, seconds=0.1)
    victims = list(client.run(os.getpid).values())
    killed = threading.Event()

    def kill() -> None:
        while not any(client.processing().values()):
            time.sleep(0.005)
        os.kill(victims[0], signal.SIGKILL)
        killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=5000)
    found = engine.absorb(NAMES, now)
    thread.join(timeout=30)
    assert killed.is_set()
    local = LocalEngine(elsewhere(here, "local").config)
    assert found == local.absorb(NAMES, now)
    assert summaries(engine) == summaries(local)


def test_segments_on_s3_are_summed_up_by_the_workers(
    here: Place, client: Any, worker: Worker, s3: str, s3_address: str
) -> None:
    def as_in_the_environment_of_who_starts_workers() -> None:
        os.environ.update({**CREDENTIALS, "AWS_ENDPOINT_URL": s3_address})

    client.run(as_in_the_environment_of_who_starts_workers)
    now = datetime.now(UTC)
    local = LocalEngine(elsewhere(here, "local").config)
    expected = local.absorb(NAMES, now)
    closed = here.config.storage.predictions / "predictions-20260101T000000.000000Z.csv"
    with fsspec.open(f"{s3}/{closed.name}", "wb") as file:
        file.write(closed.read_bytes())
    closed.unlink()
    log = here.config.log.model_copy(update={"archives": (s3,)})
    config = here.config.model_copy(update={"log": log})
    engine = DaskEngine(config, ProcessEngine(config, worker), client, piece_bytes=PIECE)

    assert engine.absorb(NAMES, now) == expected
    assert summaries(engine) == summaries(local)
    found = run_cycle(config, engine, here.results, trigger="once")
    assert isinstance(found, RunResult)
    assert [outcome.error for outcome in found.outcomes] == [None] * len(NAMES)


def test_what_the_cluster_cannot_find_is_an_error_of_ours(
    here: Place, client: Any, worker: Worker
) -> None:
    engine = DaskEngine(here.config, ProcessEngine(here.config, worker), client, piece_bytes=PIECE)
    path = here.config.storage.reference / "reference_data.csv"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ReferenceProblem):
        engine.absorb(NAMES, datetime.now(UTC))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitorkit.monitoring.dask_engine.CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9.*scheduler runs"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'monitorkit\[dask\]'"), cluster(None):
        pass
